//! `AirflowWorkloadIdentity`: one Airflow, one Azure identity.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Airflow, Azure, Connection, ConnectionSecret, ConnectionType, KeyVaultBackend, Pods,
    status::AirflowWorkloadIdentityStatus,
};

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
    printcolumn(name = "Pods", type_ = "string", json_path = r#".status.conditions[?(@.type=="PodsInjected")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must be at most 63 characters"),
    validation = Rule::new("!has(self.spec.keyVaultBackend) || self.spec.?connectionSecret.?name.orValue('') != self.metadata.name + '-airflow-key-vault'")
        .message("spec.connectionSecret.name must not be <metadata.name>-airflow-key-vault: that Secret holds the settings of keyVaultBackend")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r"self.connectionSecret.format != 'Environment' || self.connections.all(c, c.id.matches('^[A-Za-z_][A-Za-z0-9_]*$'))")
        .message("with format Environment, connection IDs must be letters, digits and underscores, and not start with a digit: the ID becomes the environment variable AIRFLOW_CONN_<ID>")
        .field_path(".connections"),
    validation = Rule::new("self.connectionSecret.format != 'Environment' || self.connections.all(a, self.connections.exists_one(b, a.id.upperAscii() == b.id.upperAscii()))")
        .message("with format Environment, connection IDs must differ in more than case: Airflow looks them up as AIRFLOW_CONN_<ID> in upper case")
        .field_path(".connections"),
    validation = Rule::new(r"self.connectionSecret.format != 'SecretsBackend' || self.connections.all(c, c.id.matches('^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$'))")
        .message("with format SecretsBackend, connection IDs must be at most 63 letters, digits, - . and _, and begin and end with a letter or digit: the ID becomes a label")
        .field_path(".connections"),
    validation = Rule::new("!has(self.keyVaultBackend) || self.connectionSecret.format == 'Environment'")
        .message("keyVaultBackend needs connectionSecret.format Environment: Airflow has room for one secrets backend only")
        .field_path(".keyVaultBackend")
)]
pub struct AirflowWorkloadIdentitySpec {
    /// The Azure identity that Airflow's pods become.
    pub identity: Identity,

    /// Whose ServiceAccounts are federated with the identity. Only accounts of this object's
    /// own namespace. Left out: those of the one Airflow that is installed in the namespace.
    #[serde(default)]
    pub airflow: Airflow,

    /// How the federated identity credentials on the identity are named and what becomes of
    /// them.
    #[serde(default)]
    pub federation: Federation,

    /// The Airflow connections to write. Each has an ID and exactly one connection type, as a
    /// volume has exactly one source.
    // Atomic: server-side apply would merge what is applied with the default that was there.
    #[serde(default = "default_connections")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = Rule::new("self.all(a, self.exists_one(b, a.id == b.id))")
        .message("connection IDs must differ"))]
    pub connections: Vec<Connection>,

    /// The Secret, or Secrets, that hold the connections. The operator creates them; a Secret that
    /// someone else made is never overwritten.
    #[serde(default)]
    pub connection_secret: ConnectionSecret,

    /// Settings for Airflow's Azure Key Vault secrets backend, under the same identity: a Secret
    /// `<name of this object>-airflow-key-vault` with the variables `AIRFLOW__SECRETS__BACKEND` and
    /// `AIRFLOW__SECRETS__BACKEND_KWARGS`, for `envFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_vault_backend: Option<KeyVaultBackend>,

    /// What Airflow's pods get, and who restarts those that started without it.
    #[serde(default)]
    pub pods: Pods,

    /// While true, the operator writes nothing for this object, neither to the cluster nor to
    /// Azure. What it has written stays, unless the grant is taken away. Deleting the object still
    /// cleans up.
    #[serde(default)]
    pub suspend: bool,
}

/// An Azure identity. Exactly one kind is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.managedIdentity) != has(self.application)")
        .message("set managedIdentity.resourceId to the ARM resource ID of a user-assigned managed identity (or application.appId for an Entra application, but not both)"),
    validation = Rule::new("!has(self.application) || has(self.tenantId)")
        .message("set tenantId, too: Azure does not tell the tenant of an application; `az account show --query tenantId -o tsv` prints it")
        .field_path(".tenantId")
)]
pub struct Identity {
    /// A user-assigned managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,

    /// An Entra application, in place of a managed identity. Only if the operator was started with
    /// `--entra-applications`; set tenantId, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,

    /// Pins the identity's client ID. Normally left out: it is read from Azure. When set and
    /// Azure says otherwise, nothing is written and the condition shows both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Uuid>,

    /// Pins the identity's tenant ID, as clientId does for the client ID. Azure does not tell it
    /// of an application.
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

/// An Entra application (app registration).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Its application (client) ID, as `az ad app show --query appId` prints it.
    pub app_id: Uuid,
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

    /// What becomes of credentials that somebody else wrote for these accounts and this cluster,
    /// for example with the guide's `az` loop.
    #[serde(default)]
    pub existing_credentials: ExistingCredentials,

    /// Whether the credentials are deleted with this object, or kept.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of credentials that somebody else wrote and that let an account in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExistingCredentials {
    /// They are used as they are. They are never changed or deleted.
    #[default]
    Use,
    /// They become this object's: repaired when somebody changes them, and deleted when they are
    /// no longer wanted. They keep their names.
    Adopt,
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

fn default_connections() -> Vec<Connection> {
    vec![Connection {
        id: "azure_default".into(),
        to: ConnectionType::Azure(Azure::default()),
        extra: Vec::new(),
    }]
}
