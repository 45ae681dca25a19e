//! What is watched: one read-only view over all stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, PodTemplateSpec, Secret, ServiceAccount},
};
use kube::{
    Resource, ResourceExt,
    api::ObjectMeta,
    core::PartialObjectMeta,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};

use super::{
    Account, AccountState, Discovery, Existing, Guarded, PodOwner, Restartable, created_for,
    discovery::{self, Inventory, Workload},
    named_identity, records,
};
use crate::{
    api::{
        AirflowWorkloadIdentity, AzureIdentityGrant, AzureIdentityGrantSpec, CredentialRecord,
        account_field_manager, restart_annotation,
    },
    grant,
    model::{IdentityId, Issuer, Subject},
    secrets::wanted_secrets,
};

/// The stores, filled by the controller's watches.
#[derive(Clone)]
pub struct Stores {
    /// Our objects, also those that do not parse.
    pub objects: Store<Guarded<AirflowWorkloadIdentity>>,
    /// Grants, also those that do not parse: they grant nothing.
    pub grants: Store<Guarded<AzureIdentityGrant>>,
    /// Namespaces, for the grants that select them by label.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All ServiceAccounts.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// The Secrets that the operator created.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Workloads, of which some are Airflow's.
    pub deployments: Store<Deployment>,
    /// Workloads, of which some are Airflow's.
    pub stateful_sets: Store<StatefulSet>,
    /// What may hold the pods of a KubernetesExecutor, by label selector.
    pub configs: Vec<Store<ConfigMap>>,
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
        for configs in &self.configs {
            let _ = configs.wait_until_ready().await;
        }
    }

    /// The same as if these had been applied: what has one of their names is another now.
    #[must_use]
    pub fn with_applied(
        &self,
        objects: Vec<AirflowWorkloadIdentity>,
        grants: Vec<AzureIdentityGrant>,
    ) -> Self {
        Self {
            objects: overlaid(&self.objects, objects),
            grants: overlaid(&self.grants, grants),
            ..self.clone()
        }
    }

    /// An issuer that an object has credentials on record for, and that is none of `known`.
    #[must_use]
    pub fn issuer_on_record_beside(&self, known: &BTreeSet<Issuer>) -> Option<String> {
        let objects = self.objects.state();
        let readable = objects.iter().filter_map(|object| object.0.as_ref().ok());
        let mut issuers = readable.flat_map(records).map(|(_, record)| &record.issuer);
        let is_known = |issuer: &str| known.iter().any(|known| known.as_str() == issuer);
        issuers.find(|issuer| !is_known(issuer)).cloned()
    }

    /// References to the objects that parse and satisfy `predicate`.
    pub fn matching(
        &self,
        predicate: impl Fn(&AirflowWorkloadIdentity) -> bool,
    ) -> Vec<ObjectRef<Guarded<AirflowWorkloadIdentity>>> {
        let objects = self.objects.state();
        let matching = objects
            .iter()
            .filter(|object| object.0.as_ref().is_ok_and(&predicate));
        matching
            .map(|object| ObjectRef::from_obj(object.as_ref()))
            .collect()
    }

    /// Whether a grant lets the account use the identity now.
    #[must_use]
    pub fn is_granted(&self, identity: &IdentityId, namespace: &str, account: &str) -> bool {
        grant::covers_account(&self.grants_for(identity, namespace), account)
    }

    /// The grants that let the namespace use the identity.
    pub(super) fn grants_for(
        &self,
        identity: &IdentityId,
        namespace: &str,
    ) -> Vec<AzureIdentityGrantSpec> {
        let namespace = self.namespace(namespace);
        let grants = self.grants.state();
        let readable = grants.iter().filter_map(|grant| grant.0.as_ref().ok());
        readable
            .map(|grant| &grant.spec)
            .filter(|spec| grant::covers(spec, identity, &namespace))
            .cloned()
            .collect()
    }

    fn namespace(&self, name: &str) -> grant::Namespace {
        let found = self.namespaces.get(&ObjectRef::new(name));
        grant::Namespace {
            name: name.to_owned(),
            labels: found.map(|namespace| namespace.labels().clone()),
        }
    }

    /// The accounts that the object asks for, as far as they are known.
    #[must_use]
    pub fn discover(&self, namespace: &str, object: &AirflowWorkloadIdentity) -> Discovery {
        let accounts = self.accounts.state();
        let (workloads, unreadable) = self.workloads(namespace);
        let inventory = Inventory {
            workloads,
            unreadable,
            accounts: accounts
                .iter()
                .filter(|a| is_in(*a, namespace))
                .map(AsRef::as_ref)
                .collect(),
        };
        discovery::discover(&object.spec.airflow, object.status.as_ref(), &inventory)
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

    /// Of the credentials that the object has on record, those that others have on record, too,
    /// and still want. What nobody wants any longer must not be left by each to the other.
    pub(super) fn claimed_by_others(
        &self,
        object: &AirflowWorkloadIdentity,
    ) -> Vec<(IdentityId, CredentialRecord)> {
        let own: Vec<_> = records(object).collect();
        let is_own = |identity: &IdentityId, record: &CredentialRecord| {
            own.iter()
                .any(|(of, own)| of == identity && own.name.eq_ignore_ascii_case(&record.name))
        };
        let namespace = object.namespace().unwrap_or_default();
        let objects = self.objects.state();
        let others = objects
            .iter()
            .filter_map(|other| other.0.as_ref().ok())
            .filter(|other| other.namespace().as_ref() == Some(&namespace))
            .filter(|other| other.name_any() != object.name_any())
            .filter(|other| other.metadata.deletion_timestamp.is_none());
        let mut claims = Vec::new();
        for other in others {
            let mut shared: Vec<_> = records(other)
                .filter(|(identity, record)| is_own(identity, record))
                .map(|(identity, record)| (identity, record.clone()))
                .collect();
            if shared.is_empty() {
                continue;
            }
            let identity = named_identity(other).ok();
            let wanted = self.discover(&namespace, other).accounts;
            shared.retain(|(of, record)| {
                let account = Subject::account_in(&record.subject, &namespace);
                identity.as_ref() == Some(of)
                    && wanted
                        .iter()
                        .any(|wanted| Some(wanted.name.as_str()) == account)
            });
            claims.extend(shared);
        }
        claims
    }

    /// Secrets that were created for the object and that it does not ask for any longer.
    pub(super) fn other_secrets(&self, object: &AirflowWorkloadIdentity) -> Vec<Existing> {
        let wanted = wanted_secrets(object);
        let secrets = self.secrets.state();
        secrets
            .iter()
            .filter(|secret| secret.namespace() == object.namespace())
            .filter(|secret| created_for(&secret.metadata, object.metadata.uid.as_deref()))
            .map(|secret| existing(secret.meta()))
            .filter(|found| !wanted.iter().any(|wanted| wanted.name == found.name))
            .collect()
    }

    /// What runs pods in the namespace and can be restarted; for which change `object` did so last.
    pub(super) fn restartable(
        &self,
        namespace: &str,
        object: &str,
    ) -> BTreeMap<PodOwner, Restartable> {
        let key = restart_annotation(object);
        let state = |meta: &ObjectMeta, workload: Workload, template: Option<&PodTemplateSpec>| {
            let annotations = template.and_then(|t| t.metadata.as_ref()?.annotations.as_ref());
            Restartable {
                uid: meta.uid.clone().unwrap_or_default(),
                account: workload.account,
                restarted_for: annotations.and_then(|a| a.get(&key)).cloned(),
            }
        };
        let deployments = self.deployments.state();
        let deployments = deployments
            .iter()
            .filter(|d| is_in(*d, namespace))
            .map(|d| {
                let template = d.spec.as_ref().map(|spec| &spec.template);
                (
                    PodOwner::Deployment(d.name_any()),
                    state(&d.metadata, Workload::from(d.as_ref()), template),
                )
            });
        let stateful_sets = self.stateful_sets.state();
        let stateful_sets = stateful_sets
            .iter()
            .filter(|s| is_in(*s, namespace))
            .map(|s| {
                let template = s.spec.as_ref().map(|spec| &spec.template);
                (
                    PodOwner::StatefulSet(s.name_any()),
                    state(&s.metadata, Workload::from(s.as_ref()), template),
                )
            });
        deployments.chain(stateful_sets).collect()
    }

    /// The workloads, and each `ConfigMap` whose pod template cannot be read.
    fn workloads(&self, namespace: &str) -> (Vec<Workload>, Vec<Arc<ConfigMap>>) {
        let deployments = self.deployments.state();
        let deployments = deployments
            .iter()
            .filter(|d| is_in(*d, namespace))
            .map(|d| Workload::from(d.as_ref()));
        let stateful_sets = self.stateful_sets.state();
        let stateful_sets = stateful_sets
            .iter()
            .filter(|s| is_in(*s, namespace))
            .map(|s| Workload::from(s.as_ref()));
        let configs = self.configs.iter().flat_map(Store::state);
        let mut executors = Vec::new();
        let mut unreadable = Vec::new();
        for config in configs.filter(|c| is_in(c, namespace)) {
            match Workload::of_executor(&config) {
                Some(Ok(workload)) => executors.push(workload),
                Some(Err(_)) => unreadable.push(config),
                None => {}
            }
        }
        let all = deployments.chain(stateful_sets).chain(executors);
        (all.filter(Workload::names_an_account).collect(), unreadable)
    }
}

fn overlaid<K>(below: &Store<Guarded<K>>, applied: Vec<K>) -> Store<Guarded<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    let all = below.state().into_iter().map(Arc::unwrap_or_clone);
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in all.chain(applied.into_iter().map(|object| Guarded(Ok(object)))) {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    store
}

fn existing(metadata: &ObjectMeta) -> Existing {
    Existing {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

fn is_in<K: kube::Resource<DynamicType = ()>>(object: &Arc<K>, namespace: &str) -> bool {
    object.meta().namespace.as_deref() == Some(namespace)
}
