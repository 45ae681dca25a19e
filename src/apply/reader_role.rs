//! Effects on the Role and the `RoleBinding` for the connections.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};

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
    let written = async {
        apply(client, object, &role).await?;
        apply(client, object, &binding).await
    };
    written
        .await
        .map_err(|error| role_problem(&format!("cannot write Role {name}"), &error))
}

async fn apply<K>(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    wanted: &K,
) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
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
    let deleted = async {
        delete_one::<RoleBinding>(client, object, name).await?;
        delete_one::<Role>(client, object, name).await
    };
    deleted
        .await
        .map_err(|error| role_problem(&format!("cannot delete Role {name}"), &error))
}

async fn delete_one<K>(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    name: &str,
) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let Some(found) = bounded(api.get_metadata_opt(name)).await? else {
        return Ok(());
    };
    let uid = object.metadata.uid.as_deref();
    if !created_for(&found.metadata, uid) {
        return Ok(());
    }
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    });
    match bounded(api.delete(name, &params)).await {
        Err(error) if !error.is_status(404) => Err(error),
        _ => Ok(()),
    }
}
