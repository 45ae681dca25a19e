//! The Role and the RoleBinding that let Airflow's pods list Secrets, as they are.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::{Api, Client, ResourceExt};

use super::created_for;
use crate::{
    api::{AirflowWorkloadIdentity, SecretFormat},
    problem::{ClusterError, Problem, bounded},
};

/// The Role and its `RoleBinding`; both have one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderRole {
    /// Nobody is bound, and neither is somebody else's.
    Incomplete,
    /// The operator created them for this object.
    Ours {
        /// The accounts that are bound.
        accounts: BTreeSet<String>,
        /// Whether they may do what they should, and nobody else is bound.
        is_right: bool,
    },
    /// Someone else made one of them.
    Foreign,
}

/// The name of the Role and of the `RoleBinding`.
#[must_use]
pub fn reader_role_name(object: &AirflowWorkloadIdentity) -> String {
    format!("{}-airflow-connections-reader", object.name_any())
}

/// What the Kubernetes secrets backend does. <https://airflow.apache.org/docs/apache-airflow-providers-cncf-kubernetes/stable/secrets-backends/kubernetes-secrets-backend.html>
#[must_use]
pub fn reader_rules() -> Vec<PolicyRule> {
    vec![PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".into()]),
        verbs: vec!["list".into()],
        ..PolicyRule::default()
    }]
}

/// Whether the spec asks for the Role.
#[must_use]
pub fn wants_reader_role(object: &AirflowWorkloadIdentity) -> bool {
    let secret = &object.spec.connection_secret;
    secret.reader_role && secret.format == SecretFormat::SecretsBackend
}

/// The Role, if the spec asks for it or did before; so that objects that never did cost nothing.
pub(super) async fn observe(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> Result<Option<ReaderRole>, Problem> {
    let had_it = object.status.as_ref().is_some_and(|s| s.reader_role);
    if !wants_reader_role(object) && !had_it {
        return Ok(None);
    }
    let read = read(client, object).await;
    read.map(Some)
        .map_err(|error| role_problem("cannot read the Role for the connections", &error))
}

/// The API server refused or failed to do `what` with the Role or its `RoleBinding`.
#[must_use]
pub fn role_problem(what: &str, error: &ClusterError) -> Problem {
    let mut problem = Problem::cluster(what, error);
    if error.is_status(403) {
        let advice = " The operator may not touch Roles until a cluster administrator lets it: with Helm readerRole.enabled=true, else kubectl apply -f deploy/components/reader-role/role.yaml";
        problem.message.push_str(advice);
    }
    problem
}

async fn read(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> Result<ReaderRole, ClusterError> {
    let namespace = object.namespace().unwrap_or_default();
    let name = reader_role_name(object);
    let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
    let role = bounded(roles.get_opt(&name)).await?;
    let binding = bounded(bindings.get_opt(&name)).await?;

    let uid = object.metadata.uid.as_deref();
    let metadata = [
        role.as_ref().map(|role| &role.metadata),
        binding.as_ref().map(|binding| &binding.metadata),
    ];
    if metadata.into_iter().flatten().any(|m| !created_for(m, uid)) {
        return Ok(ReaderRole::Foreign);
    }
    let Some(binding) = binding else {
        return Ok(ReaderRole::Incomplete);
    };
    let rules = role.and_then(|role| role.rules);
    let is_right = rules == Some(reader_rules()) && binding.role_ref.name == name;
    let subjects = binding.subjects.unwrap_or_default();
    let is_account =
        |kind: &str, of: Option<&str>| kind == "ServiceAccount" && of == Some(&namespace);
    let (accounts, others): (Vec<_>, Vec<_>) = subjects
        .into_iter()
        .partition(|subject| is_account(&subject.kind, subject.namespace.as_deref()));
    Ok(ReaderRole::Ours {
        accounts: accounts.into_iter().map(|subject| subject.name).collect(),
        is_right: is_right && others.is_empty(),
    })
}
