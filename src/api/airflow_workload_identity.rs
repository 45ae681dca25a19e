//! `AirflowWorkloadIdentity`: one Airflow, one Azure identity.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::status::AirflowWorkloadIdentityStatus;

/// What the user wants: which identity, whose ServiceAccounts, which connections.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airflow-workload-identity.io",
    version = "v1alpha1",
    kind = "AirflowWorkloadIdentity",
    plural = "airflowworkloadidentities",
    shortname = "awi",
    category = "airflow",
    namespaced,
    status = "AirflowWorkloadIdentityStatus",
    derive = "PartialEq",
    doc = "Lets the pods of an Airflow reach Azure as a managed identity, without a password: \
           federates the identity with Airflow's ServiceAccounts, annotates them, and writes \
           the Airflow connections that use it.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Client ID", type_ = "string", json_path = ".status.clientId"),
    printcolumn(name = "Accounts", type_ = "string", json_path = ".status.accounts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must be at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct AirflowWorkloadIdentitySpec {
    /// The Azure identity that Airflow's pods become.
    pub identity: Identity,

    /// Whose ServiceAccounts are federated with the identity. Only accounts of this object's
    /// own namespace.
    pub airflow: Airflow,

    /// How the federated identity credentials on the identity are named and what becomes of
    /// them.
    #[serde(default)]
    pub federation: Federation,

    /// The Airflow connections to write. Each has an ID and exactly one connection type, as a
    /// volume has exactly one source.
    #[serde(default = "default_connections")]
    #[schemars(length(max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["id".into()]),
        validation = Rule::new("self.all(a, self.exists_one(b, a.id.upperAscii() == b.id.upperAscii()))")
            .message("connection IDs must differ in more than case: Airflow looks them up as AIRFLOW_CONN_<ID> in upper case")
    )]
    pub connections: Vec<Connection>,

    /// The Secret that holds the connections. It is created by the operator; a Secret that
    /// someone else made is never overwritten.
    #[serde(default)]
    pub connection_secret: ConnectionSecret,

    /// While true, the operator writes nothing for this object, neither to the cluster nor to
    /// Azure. What it has written stays, unless the grant is taken away. Deleting the object still
    /// cleans up.
    #[serde(default)]
    pub suspend: bool,
}

/// An Azure identity. Exactly one kind is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.managedIdentity)")
    .message("set managedIdentity.resourceId to the ARM resource ID of a user-assigned managed identity"))]
pub struct Identity {
    /// A user-assigned managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,

    /// Pins the identity's client ID. Normally left out: it is read from Azure. When set and
    /// Azure says otherwise, nothing is written and the condition shows both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Uuid>,

    /// Pins the identity's tenant ID, as clientId does for the client ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
}

/// A user-assigned managed identity.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentity {
    /// The identity's ARM resource ID, as `az identity show --query id` prints it.
    /// Upper and lower case do not matter, as in Azure.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches('(?i)^/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/resourceGroups/[-a-z0-9_.()]{0,89}[-a-z0-9_()]/providers/Microsoft[.]ManagedIdentity/userAssignedIdentities/[a-z0-9][-a-z0-9_]{2,127}$')")
        .message("must be /subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>; `az identity show -g <group> -n <name> --query id -o tsv` prints it"))]
    pub resource_id: String,
}

/// Where Airflow's ServiceAccounts are found.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.helmRelease) || size(self.serviceAccounts) > 0")
    .message("set helmRelease to the name of Airflow's Helm release (`helm list -n <namespace>`), or list serviceAccounts by name"))]
pub struct Airflow {
    /// The Helm release of Airflow (the official or Astronomer's chart) in this namespace. Its
    /// ServiceAccounts are found through the running workloads and the accounts' own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 53))]
    pub helm_release: Option<String>,

    /// The components of the release whose ServiceAccounts get the identity.
    #[serde(default = "default_components")]
    #[schemars(length(max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub components: Vec<Component>,

    /// More ServiceAccounts of this namespace, by name. They may not exist yet: the operator
    /// federates them at once and annotates them when they appear.
    #[serde(default)]
    #[schemars(
        length(max = 20),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
}

/// A component of Airflow, by the name that its Helm charts put into the `component` label.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Airflow 3: the API server; it reads remote logs from Azure.
    ApiServer,
    /// Parses the DAGs.
    DagProcessor,
    /// Schedules; with the LocalExecutor it runs the tasks, too.
    Scheduler,
    /// Runs deferred tasks.
    Triggerer,
    /// Airflow 2: the web server; it reads remote logs from Azure.
    Webserver,
    /// Runs the tasks: Celery workers and the pods of the KubernetesExecutor.
    Worker,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 6] = [
        Self::ApiServer,
        Self::DagProcessor,
        Self::Scheduler,
        Self::Triggerer,
        Self::Webserver,
        Self::Worker,
    ];

    /// The value of the `component` label, for example `dag-processor`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::DagProcessor => "dag-processor",
            Self::Scheduler => "scheduler",
            Self::Triggerer => "triggerer",
            Self::Webserver => "webserver",
            Self::Worker => "worker",
        }
    }
}

/// Federated identity credentials: their names and their end.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Federation {
    /// Names the credentials `<credentialName>-<component>`, and those of accounts listed by
    /// name `<credentialName>-<account>`. Left out, a name is derived that no other cluster or
    /// account shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 80),
        regex(pattern = "^[a-zA-Z0-9][-a-zA-Z0-9_]*$")
    )]
    pub credential_name: Option<String>,

    /// Whether the credentials are deleted with this object, or kept.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of the credentials when they are no longer wanted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay on the identity, and nobody manages them any longer.
    Retain,
}

/// An Airflow connection: its ID and exactly one connection type.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.azure)")
    .message("set exactly one connection type; known types: azure (write `azure: {}` for its defaults)"))]
pub struct Connection {
    /// The connection's ID in Airflow, for example `azure_default`.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')")
        .message("must be letters, digits and underscores, and not start with a digit: the ID becomes the environment variable AIRFLOW_CONN_<ID>"))]
    pub id: String,

    /// Azure Resource Manager (Airflow's connection type `azure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureConnection>,
}

/// Airflow's connection type `azure`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AzureConnection {
    /// The subscription that Airflow's hooks work in. Left out, a hook asks for it when it
    /// needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,

    /// Gives DAG code an `azure.identity.DefaultAzureCredential` instead of the adapter for old
    /// Azure SDKs (Airflow's extra `use_azure_identity_object`). Left out, Airflow decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_azure_identity_object: Option<bool>,
}

/// The Secret that holds the connections.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSecret {
    /// The Secret's name. Left out: `<name of this object>-airflow-connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: Option<String>,

    /// How Airflow reads the Secret.
    #[serde(default)]
    pub format: SecretFormat,
}

/// How Airflow reads the Secret.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SecretFormat {
    /// One key `AIRFLOW_CONN_<ID>` per connection, for `envFrom`.
    #[default]
    Environment,
}

fn default_components() -> Vec<Component> {
    vec![
        Component::Scheduler,
        Component::Triggerer,
        Component::Worker,
    ]
}

fn default_connections() -> Vec<Connection> {
    vec![Connection {
        id: "azure_default".into(),
        azure: Some(AzureConnection::default()),
    }]
}
