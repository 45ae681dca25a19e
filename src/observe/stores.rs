//! What is watched: one read-only view over all stores.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Namespace, PodTemplateSpec, Secret, ServiceAccount},
};
use kube::{
    Resource, ResourceExt,
    api::ObjectMeta,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    Account, AccountState, Existing,
    accounts::{self, Workload},
    created_for, records, secret_name,
};
use crate::{
    api::{
        AirflowWorkloadIdentity, AzureIdentityGrant, AzureIdentityGrantSpec, account_field_manager,
    },
    grant,
    model::ResourceId,
};

/// The stores, filled by the controller's watches.
#[derive(Clone)]
pub struct Stores {
    /// Our objects, also those that do not parse.
    pub objects: Store<DeserializeGuard<AirflowWorkloadIdentity>>,
    /// Grants, also those that do not parse: they grant nothing.
    pub grants: Store<DeserializeGuard<AzureIdentityGrant>>,
    /// Namespaces, for the grants that select them by label.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All ServiceAccounts.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// The Secrets that the operator created.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Workloads of Airflow.
    pub deployments: Store<Deployment>,
    /// Workloads of Airflow.
    pub stateful_sets: Store<StatefulSet>,
}

impl Stores {
    /// Waits until every store has been filled once: a grant that is not there yet must not
    /// look like one that was taken away.
    pub async fn ready(&self) {
        // A store whose writer is gone stays as it is; the process is about to end.
        let _ = self.objects.wait_until_ready().await;
        let _ = self.grants.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
        let _ = self.accounts.wait_until_ready().await;
        let _ = self.secrets.wait_until_ready().await;
        let _ = self.deployments.wait_until_ready().await;
        let _ = self.stateful_sets.wait_until_ready().await;
    }

    /// References to the objects that parse and satisfy `predicate`.
    pub fn matching(
        &self,
        predicate: impl Fn(&AirflowWorkloadIdentity) -> bool,
    ) -> Vec<ObjectRef<DeserializeGuard<AirflowWorkloadIdentity>>> {
        let objects = self.objects.state();
        let matching = objects
            .iter()
            .filter(|object| object.0.as_ref().is_ok_and(&predicate));
        matching
            .map(|object| ObjectRef::from_obj(object.as_ref()))
            .collect()
    }

    pub(super) fn grants(&self) -> Vec<AzureIdentityGrantSpec> {
        let grants = self.grants.state();
        grants
            .iter()
            .filter_map(|grant| Some(grant.0.as_ref().ok()?.spec.clone()))
            .collect()
    }

    pub(super) fn namespace(&self, name: &str) -> grant::Namespace {
        let labels = self
            .namespaces
            .get(&ObjectRef::new(name))
            .map(|ns| ns.labels().clone());
        grant::Namespace {
            name: name.to_owned(),
            labels: labels.unwrap_or_default(),
        }
    }

    /// The accounts that the object asks for, as far as they are known.
    #[must_use]
    pub fn accounts(&self, namespace: &str, object: &AirflowWorkloadIdentity) -> Vec<Account> {
        let accounts = self.accounts.state();
        let accounts: Vec<_> = accounts
            .iter()
            .filter(|a| is_in(*a, namespace))
            .map(AsRef::as_ref)
            .collect();
        accounts::discover(&object.spec.airflow, &self.workloads(namespace), &accounts)
    }

    /// Accounts that carry the object's annotations but are not among `wanted`.
    pub(super) fn left_behind(
        &self,
        namespace: &str,
        object: &AirflowWorkloadIdentity,
        wanted: &[Account],
    ) -> Vec<Existing> {
        let manager = account_field_manager(&object.name_any());
        let accounts = self.accounts.state();
        accounts
            .iter()
            .filter(|account| is_in(*account, namespace))
            .filter(|account| AccountState::of(account).is_managed_by(&manager))
            .map(|account| existing(account.meta()))
            .filter(|found| !wanted.iter().any(|account| account.name == found.name))
            .collect()
    }

    /// Credentials that other objects answer for. Objects that are going do not count, or two
    /// that go together would each leave the credential to the other.
    pub(super) fn claimed_by_others(
        &self,
        object: &AirflowWorkloadIdentity,
    ) -> BTreeSet<(ResourceId, String)> {
        let objects = self.objects.state();
        objects
            .iter()
            .filter_map(|other| other.0.as_ref().ok())
            .filter(|other| other.namespace() == object.namespace())
            .filter(|other| other.name_any() != object.name_any())
            .filter(|other| other.metadata.deletion_timestamp.is_none())
            .flat_map(records)
            .map(|(identity, record)| (identity, record.name.clone()))
            .collect()
    }

    /// Secrets that were created for the object under another name.
    pub(super) fn other_secrets(&self, object: &AirflowWorkloadIdentity) -> Vec<Existing> {
        let current = secret_name(object);
        let secrets = self.secrets.state();
        secrets
            .iter()
            .filter(|secret| secret.namespace() == object.namespace())
            .filter(|secret| created_for(&secret.metadata, object.metadata.uid.as_deref()))
            .map(|secret| existing(secret.meta()))
            .filter(|found| found.name != current)
            .collect()
    }

    fn workloads(&self, namespace: &str) -> Vec<Workload> {
        let deployments = self.deployments.state();
        let deployments = deployments
            .iter()
            .filter(|d| is_in(*d, namespace))
            .map(|d| workload(d.labels(), d.spec.as_ref().map(|spec| &spec.template)));
        let stateful_sets = self.stateful_sets.state();
        let stateful_sets = stateful_sets
            .iter()
            .filter(|s| is_in(*s, namespace))
            .map(|s| workload(s.labels(), s.spec.as_ref().map(|spec| &spec.template)));
        deployments.chain(stateful_sets).collect()
    }
}

fn workload(labels: &BTreeMap<String, String>, template: Option<&PodTemplateSpec>) -> Workload {
    let spec = template.and_then(|template| template.spec.as_ref());
    let account = spec.and_then(|spec| spec.service_account_name.clone());
    Workload {
        labels: labels.clone(),
        // Kubernetes' own default for pods that name no account.
        account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".into()),
    }
}

fn existing(metadata: &ObjectMeta) -> Existing {
    Existing {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

fn is_in<K: kube::Resource<DynamicType = ()>>(object: &std::sync::Arc<K>, namespace: &str) -> bool {
    object.meta().namespace.as_deref() == Some(namespace)
}
