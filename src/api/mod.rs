//! The public contract: custom resources, and every name that the operator puts on an object.

mod airflow;
mod airflow_workload_identity;
mod azure_identity_grant;
mod conditions;
mod connections;
mod pods;
mod secrets;
mod status;

pub use airflow::{Airflow, Component};
pub use airflow_workload_identity::{
    AirflowWorkloadIdentity, AirflowWorkloadIdentitySpec, Application, DeletionPolicy,
    ExistingCredentials, Federation, Identity, ManagedIdentity,
};
pub use azure_identity_grant::{
    AzureIdentityGrant, AzureIdentityGrantSpec, GrantedIdentity, GrantedNamespaces,
};
pub use conditions::{ConditionType, Reason};
pub use connections::{
    AiAgents, Azure, Batch, Connection, ConnectionType, ContainerRegistry, Cosmos, DataExplorer,
    DataFactory, ExtraField, ResourceGroup, ServiceBus, StorageAccount, Subscription, Synapse,
};
pub use pods::{PodConnections, Pods, Restart};
pub use secrets::{ConnectionSecret, KeyVaultBackend, SecretFormat};
pub use status::{
    AirflowStatus, AirflowWorkloadIdentityStatus, CredentialRecord, Injection, SecretStatus,
    ServiceAccountStatus,
};

/// API group of both kinds.
pub const GROUP: &str = "airflow-workload-identity.io";
/// The operator's name: field manager of its own objects, event source, `managed-by` label.
pub const OPERATOR: &str = "airflow-workload-identity";
/// Keeps a deleted object until its credentials, annotations and Secret are gone.
pub const FINALIZER: &str = "airflow-workload-identity.io/cleanup";
/// On an object that is being deleted: let it go, and leave on the identity what cannot be deleted.
pub const ABANDON_ANNOTATION: &str = "airflow-workload-identity.io/abandon-credentials";
/// On the connection Secret: SHA-256 of its data, so that a rollout can follow it.
pub const CHECKSUM_ANNOTATION: &str = "airflow-workload-identity.io/checksum";
/// On objects that the operator creates. <https://kubernetes.io/docs/reference/labels-annotations-taints/>
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label by which the Kubernetes secrets backend of Airflow finds a connection.
/// <https://airflow.apache.org/docs/apache-airflow-providers-cncf-kubernetes/stable/secrets-backends/kubernetes-secrets-backend.html>
pub const CONNECTION_ID_LABEL: &str = "airflow.apache.org/connection-id";

/// ServiceAccount annotation that the Azure webhook turns into `AZURE_CLIENT_ID`.
/// <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>
pub const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";
/// ServiceAccount annotation that the Azure webhook turns into `AZURE_TENANT_ID`.
pub const TENANT_ID_ANNOTATION: &str = "azure.workload.identity/tenant-id";

/// Pod label without which the Azure webhook leaves a pod alone.
/// <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>
pub const USE_LABEL: &str = "azure.workload.identity/use";
/// Variable by which the Azure webhook tells a container where its token is.
pub const TOKEN_FILE_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// Variable by which it tells the client ID.
pub const CLIENT_ID_VARIABLE: &str = "AZURE_CLIENT_ID";

/// What all of the following begin with.
pub const CONNECTIONS_ANNOTATIONS: &str = "connections.airflow-workload-identity.io/";
/// The pod annotation by which the admission policy says which connections of an object a pod
/// started with; one per object, so that two objects do not overwrite each other's.
#[must_use]
pub fn connections_annotation(object: &str) -> String {
    format!("{CONNECTIONS_ANNOTATIONS}{object}")
}

/// What all of the following begin with.
pub const RESTART_ANNOTATIONS: &str = "restart.airflow-workload-identity.io/";
/// The annotation of a workload's pod template that says for which change of an object it was
/// restarted last.
#[must_use]
pub fn restart_annotation(object: &str) -> String {
    format!("{RESTART_ANNOTATIONS}{object}")
}

/// The field manager under which one object annotates ServiceAccounts; one per object, so that
/// two objects that claim one account are a conflict that the API server sees.
#[must_use]
pub fn account_field_manager(object: &str) -> String {
    format!("{OPERATOR}/{object}")
}
