//! Effects on the Role and the `RoleBinding` for the connections.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::cluster::delete_exactly;
use crate::{
    api::{AirflowWorkloadIdentity, MANAGED_BY_LABEL, OPERATOR},
    observe::{created_for, reader_rules, role_problem},
    problem::{ClusterError, Problem, bounded},
};

/// Force takes back what somebody changed; that they are ours was seen before.
pub(super) async fn write(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    name: &str,
    accounts: &BTreeSet<String>,
) -> Result<(), Problem> {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned())].into()),
        owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let role = Role {
        metadata: metadata.clone(),
        rules: Some(reader_rules()),
    };
    let subject = |account: &String| Subject {
        kind: "ServiceAccount".into(),
        name: account.clone(),
        namespace: object.namespace(),
        ..Subject::default()
    };
    let binding = RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name: name.to_owned(),
        },
        subjects: Some(accounts.iter().map(subject).collect()),
    };
    let (roles, bindings) = apis(client, object);
    let written = async {
        apply(&roles, &role).await?;
        apply(&bindings, &binding).await
    };
    written
        .await
        .map_err(|error| role_problem(&format!("cannot write Role {name}"), &error))
}

async fn apply<K>(api: &Api<K>, wanted: &K) -> Result<(), ClusterError>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let params = PatchParams::apply(OPERATOR).force();
    bounded(api.patch(&wanted.name_any(), &params, &Patch::Apply(wanted)))
        .await
        .map(drop)
}

/// The binding first: what is left of a deletion that breaks off gives nothing to anybody.
pub(super) async fn delete(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    name: &str,
) -> Result<(), Problem> {
    let (roles, bindings) = apis(client, object);
    let uid = object.metadata.uid.as_deref();
    let deleted = async {
        delete_ours(&bindings, name, uid).await?;
        delete_ours(&roles, name, uid).await
    };
    deleted
        .await
        .map_err(|error| role_problem(&format!("cannot delete Role {name}"), &error))
}

async fn delete_ours<K>(api: &Api<K>, name: &str, uid: Option<&str>) -> Result<(), ClusterError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let found = bounded(api.get_metadata_opt(name)).await?;
    match found.filter(|found| created_for(&found.metadata, uid)) {
        Some(found) => delete_exactly(api, name, found.metadata.uid).await,
        None => Ok(()),
    }
}

fn apis(client: &Client, object: &AirflowWorkloadIdentity) -> (Api<Role>, Api<RoleBinding>) {
    let namespace = object.namespace().unwrap_or_default();
    (
        Api::namespaced(client.clone(), &namespace),
        Api::namespaced(client.clone(), &namespace),
    )
}
