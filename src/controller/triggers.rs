//! Which objects an event concerns.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use crate::{
    api::AirflowWorkloadIdentityStatus,
    observe::{Mark, Stores, Stub, Workload, is_of_an_airflow},
    secrets::wanted_secrets,
};

pub(super) type Refs = Vec<ObjectRef<Stub>>;

/// Objects that a grant may concern: it may name their namespace now, or have named it before.
pub(super) fn of_grant(stores: &Stores) -> Refs {
    stores.references()
}

pub(super) fn of_workload<K>(stores: &Stores, workload: &K) -> Refs
where
    K: ResourceExt,
    Workload: for<'a> From<&'a K>,
{
    let namespace = workload.namespace().unwrap_or_default();
    let workload = Workload::from(workload);
    if workload.is_of_an_airflow() {
        return stores.references_in(&namespace);
    }
    let marks = [Mark::Account(&workload.account), Mark::SelectsWorkloads];
    stores.marked(&namespace, marks, |object| workload.concerns(object))
}

pub(super) fn of_config(stores: &Stores, config: &ConfigMap) -> Refs {
    stores.references_in(&config.namespace().unwrap_or_default())
}

pub(super) fn of_namespace(stores: &Stores, namespace: &PartialObjectMeta<Namespace>) -> Refs {
    stores.references_in(&namespace.name_any())
}

/// Objects that find the account now, or that had it before.
pub(super) fn of_account(stores: &Stores, account: &PartialObjectMeta<ServiceAccount>) -> Refs {
    let namespace = account.namespace().unwrap_or_default();
    let name = account.name_any();
    // Each object that leaves its accounts open may mean it; and that is looked at in the pass.
    if is_of_an_airflow(account.labels()) || stores.runs_under(&namespace, &name) {
        return stores.references_in(&namespace);
    }
    let marks = [Mark::Account(&name), Mark::SelectsAccounts];
    stores.marked(&namespace, marks, |object| {
        let had = |status: &AirflowWorkloadIdentityStatus| {
            status
                .service_accounts
                .iter()
                .any(|before| before.name == name)
        };
        object.status.as_ref().is_some_and(had)
            || stores.discover(&namespace, object).asks_for(&name)
    })
}

/// Objects that it was made for, and those in whose way it stands, or stood.
pub(super) fn of_secret(stores: &Stores, secret: &PartialObjectMeta<Secret>) -> Refs {
    let name = secret.name_any();
    let owners = secret.owner_references();
    let marks = owners.iter().map(|owner| Mark::Uid(&owner.uid));
    let marks = marks.chain([Mark::Secret(&name)]);
    let namespace = secret.namespace().unwrap_or_default();
    stores.marked(&namespace, marks, |object| {
        owners
            .iter()
            .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
            || wanted_secrets(object).iter().any(|w| w.name == name)
    })
}
