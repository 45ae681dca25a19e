//! Effects on the Role and the `RoleBinding` for the connections.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{cluster::delete_exactly, outdated};
use crate::{
    api::{AirflowWorkloadIdentity, MANAGED_BY_LABEL, OPERATOR},
    observe::{created_for, reader_rules, role_problem},
    problem::{ClusterError, Problem, bounded},
};

const CONFLICT: u16 = 409;

/// Creates what is missing, and takes back what somebody changed in what is ours.
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
    write_ours(&roles, role, object).await?;
    write_ours(&bindings, binding, object).await
}

/// It was looked at before Azure was written to, which may take minutes; so it is looked at again, and what is
/// written hits what was found, or nothing.
async fn write_ours<K>(
    api: &Api<K>,
    mut wanted: K,
    object: &AirflowWorkloadIdentity,
) -> Result<(), Problem>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = wanted.name_any();
    let what = format!("cannot write {} {name}", K::kind(&()));
    let found = bounded(api.get_metadata_opt(&name)).await;
    let found = found.map_err(|error| role_problem(&what, &error))?;
    let written = match found {
        None => {
            let params = PostParams {
                field_manager: Some(OPERATOR.into()),
                ..PostParams::default()
            };
            bounded(api.create(&params, &wanted)).await
        }
        Some(found) if created_for(&found.metadata, object.metadata.uid.as_deref()) => {
            let metadata = wanted.meta_mut();
            metadata.uid = found.metadata.uid;
            // Ours is there, and others are not ours to take away.
            metadata.owner_references = None;
            let params = PatchParams {
                field_manager: Some(OPERATOR.into()),
                ..PatchParams::default()
            };
            bounded(api.patch(&name, &params, &Patch::Merge(&wanted))).await
        }
        Some(_) => return Err(outdated(&what)),
    };
    match written {
        Err(error) if error.is_status(CONFLICT) => Err(outdated(&what)),
        written => written
            .map(drop)
            .map_err(|error| role_problem(&what, &error)),
    }
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
