//! Effects on the cluster. Every write is guarded by a uid or a resource version, so that it
//! hits the very object that was observed, or nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{
        DeleteParams, ObjectMeta, PartialObjectMetaExt, Patch, PatchParams, PostParams,
        Preconditions,
    },
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Sinks, outdated};
use crate::{
    api::{
        AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, CHECKSUM_ANNOTATION,
        CLIENT_ID_ANNOTATION, FINALIZER, OPERATOR, Reason, TENANT_ID_ANNOTATION,
        account_field_manager, restart_annotation,
    },
    observe::{Existing, PodOwner},
    plan::Ids,
    problem::{ClusterError, Problem, Retry, bounded},
};

const CONFLICT: u16 = 409;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;
const INVALID: u16 = 422;

/// Writes the whole status: whatever else somebody put there goes. Refused if the object is not the one
/// that was read: another replica may know more by now. Returns the object as it is then.
///
/// # Errors
/// The API server refused or did not answer.
pub async fn write_status(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    status: &AirflowWorkloadIdentityStatus,
) -> Result<AirflowWorkloadIdentity, Problem> {
    let patch = json!({
        "metadata": {
            "uid": object.metadata.uid,
            "resourceVersion": object.metadata.resource_version,
        },
        "status": status,
    });
    let name = object.name_any();
    let params = PatchParams {
        field_manager: Some(OPERATOR.into()),
        ..PatchParams::default()
    };
    bounded(api(client, object).patch_status(&name, &params, &Patch::Merge(&patch)))
        .await
        .map_err(|error| problem("cannot write the status", &error))
}

pub(super) async fn add_finalizer(
    client: &Client,
    object: &mut AirflowWorkloadIdentity,
) -> Result<(), Problem> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    object.metadata.resource_version = set_finalizers(client, object, &finalizers)
        .await
        .map_err(|error| problem("cannot add the finalizer", &error))?;
    object.metadata.finalizers = Some(finalizers);
    Ok(())
}

pub(super) async fn remove_finalizer(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> Result<(), Problem> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    match set_finalizers(client, object, &finalizers).await {
        Err(error) if error.is_status(NOT_FOUND) => Ok(()),
        result => result
            .map(drop)
            .map_err(|error| problem("cannot remove the finalizer", &error)),
    }
}

async fn set_finalizers(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    finalizers: &[String],
) -> Result<Option<String>, ClusterError> {
    let patch = json!({ "metadata": {
        "uid": object.metadata.uid,
        "resourceVersion": object.metadata.resource_version,
        "finalizers": finalizers,
    }});
    let name = object.name_any();
    let params = PatchParams {
        field_manager: Some(OPERATOR.into()),
        ..PatchParams::default()
    };
    bounded(api(client, object).patch_metadata(&name, &params, &Patch::Merge(&patch)))
        .await
        .map(|written| written.metadata.resource_version)
}

pub(super) async fn annotate(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    account: &Existing,
    ids: Ids,
    repair: Option<u64>,
) -> Result<(), Problem> {
    let annotations = BTreeMap::from([
        (CLIENT_ID_ANNOTATION.to_owned(), ids.client.to_string()),
        (TENANT_ID_ANNOTATION.to_owned(), ids.tenant.to_string()),
    ]);
    apply_annotations(sinks, object, account, Some(annotations), repair)
        .await
        .map_err(|error| {
            problem(
                &format!("cannot annotate ServiceAccount {}", account.name),
                &error,
            )
        })
}

/// Applies nothing under the same field manager: what it alone owned goes, the rest stays.
pub(super) async fn release(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    account: &Existing,
) -> Result<(), Problem> {
    match apply_annotations(sinks, object, account, None, None).await {
        Err(error) if error.is_status(NOT_FOUND) => Ok(()),
        result => result.map_err(|error| {
            problem(
                &format!(
                    "cannot take the annotations of ServiceAccount {} back",
                    account.name
                ),
                &error,
            )
        }),
    }
}

/// The uid also keeps server-side apply from creating an account that is gone; and who is overruled is still who was
/// seen, at the version that is forced.
async fn apply_annotations(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    account: &Existing,
    annotations: Option<BTreeMap<String, String>>,
    force: Option<u64>,
) -> Result<(), ClusterError> {
    let api: Api<ServiceAccount> = Api::namespaced(sinks.client.clone(), &namespace(object));
    let patch = ObjectMeta {
        uid: Some(account.uid.clone()),
        resource_version: force.map(|version| version.to_string()),
        annotations,
        ..ObjectMeta::default()
    }
    .into_request_partial::<ServiceAccount>();
    let mut params = PatchParams::apply(&account_field_manager(&object.name_any()));
    params.force = force.is_some();
    let written =
        bounded(api.patch_metadata(&account.name, &params, &Patch::Apply(&patch))).await?;
    let accounts = &sinks.stores.accounts;
    accounts.written(&written.metadata, (&written).into());
    Ok(())
}

pub(super) fn secret(
    object: &AirflowWorkloadIdentity,
    name: &str,
    labels: &BTreeMap<String, String>,
    data: &BTreeMap<String, ByteString>,
    checksum: &str,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.clone()),
            annotations: Some([(CHECKSUM_ANNOTATION.to_owned(), checksum.to_owned())].into()),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data.clone()),
        ..Secret::default()
    }
}

pub(super) async fn write_secret(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    mut secret: Secret,
    replaces: Option<&str>,
) -> Result<(), Problem> {
    let api: Api<Secret> = Api::namespaced(sinks.client.clone(), &namespace(object));
    let name = secret.name_any();
    secret.metadata.resource_version = replaces.map(str::to_owned);
    let params = PostParams {
        field_manager: Some(OPERATOR.into()),
        ..PostParams::default()
    };
    let written = match replaces {
        None => bounded(api.create(&params, &secret)).await,
        Some(_) => bounded(api.replace(&name, &params, &secret)).await,
    };
    let written = written.map_err(|error| {
        let mut problem = problem(&format!("cannot write Secret {name}"), &error);
        // Somebody else did that: the operator's own are not.
        if error.to_string().contains("is immutable") {
            problem.message = format!(
                "cannot write Secret {name}: somebody made it immutable. Delete it, and it is written anew: kubectl delete secret {name} -n {}",
                namespace(object)
            );
        }
        problem
    })?;
    let secrets = &sinks.stores.secrets;
    secrets.written(&written.metadata, (&written).into());
    Ok(())
}

pub(super) async fn delete_secret(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    secret: &Existing,
) -> Result<(), Problem> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace(object));
    delete_exactly(&api, &secret.name, Some(secret.uid.clone()))
        .await
        .map_err(|error| problem(&format!("cannot delete Secret {}", secret.name), &error))
}

/// As `kubectl rollout restart` does, with an annotation of our own: it says for which change.
pub(super) async fn restart(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    workload: &PodOwner,
    uid: &str,
    change: &str,
) -> Result<(), Problem> {
    let annotations = BTreeMap::from([(restart_annotation(&object.name_any()), change)]);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": uid },
        "spec": { "template": { "metadata": { "annotations": annotations } } },
    }));
    let params = PatchParams {
        field_manager: Some(OPERATOR.into()),
        ..PatchParams::default()
    };
    let namespace = namespace(object);
    let result = match workload {
        PodOwner::Deployment(name) => {
            roll::<Deployment>(client, &namespace, name, &params, &patch).await
        }
        PodOwner::StatefulSet(name) => {
            roll::<StatefulSet>(client, &namespace, name, &params, &patch).await
        }
        PodOwner::DaemonSet(name) => {
            roll::<DaemonSet>(client, &namespace, name, &params, &patch).await
        }
    };
    let what = format!("cannot restart {workload}");
    match result {
        Err(error) if error.is_status(FORBIDDEN) => Err(Problem {
            reason: Reason::RestartForbidden,
            message: format!(
                "{what}: the operator may not restart workloads. Install its chart with workloadRestarts.enabled=true, or restart it yourself: kubectl rollout restart -n {namespace} {workload}"
            ),
            retry: Retry::Slow,
        }),
        result => result.map_err(|error| problem(&what, &error)),
    }
}

async fn roll<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    bounded(api.patch_metadata(name, params, patch))
        .await
        .map(drop)
}

/// Deletes the one with this uid; one that is gone is no error.
pub(super) async fn delete_exactly<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<String>,
) -> Result<(), ClusterError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = DeleteParams::default().preconditions(Preconditions {
        uid,
        resource_version: None,
    });
    match bounded(api.delete(name, &params)).await {
        Err(error) if !error.is_status(NOT_FOUND) => Err(error),
        _ => Ok(()),
    }
}

fn api(client: &Client, object: &AirflowWorkloadIdentity) -> Api<AirflowWorkloadIdentity> {
    Api::namespaced(client.clone(), &namespace(object))
}

fn namespace(object: &AirflowWorkloadIdentity) -> String {
    object.namespace().unwrap_or_default()
}

/// Whether an object of that name is there, but not the one that was read: to the API server its uid is a
/// field that never changes, and a patch with another one is invalid.
fn is_another(error: &ClusterError) -> bool {
    let ClusterError::Api(kube::Error::Api(status)) = error else {
        return false;
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == INVALID && causes.any(|cause| cause.field == "metadata.uid")
}

fn problem(what: &str, error: &ClusterError) -> Problem {
    if error.is_status(CONFLICT) || is_another(error) {
        outdated(what)
    } else {
        Problem::cluster(what, error)
    }
}
