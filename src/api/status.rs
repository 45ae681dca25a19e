//! What the operator reports on an `AirflowWorkloadIdentity`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Component;

/// What the operator found and did.
// No `skip_serializing_if`: a field without a value is sent as null, and the merge patch that
// writes the status leaves nothing behind that is not said here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AirflowWorkloadIdentityStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: Option<i64>,

    /// The identity's client ID, as Azure says.
    #[serde(default)]
    #[schemars(length(max = 36))]
    pub client_id: Option<String>,

    /// The identity's tenant ID, as Azure says.
    #[serde(default)]
    #[schemars(length(max = 36))]
    pub tenant_id: Option<String>,

    /// The issuer of the cluster's ServiceAccount tokens, byte for byte.
    #[serde(default)]
    #[schemars(length(max = 600))]
    pub issuer: Option<String>,

    /// The Airflow that is meant, in the words of `spec.airflow`, once it was recognised.
    #[serde(default)]
    pub airflow: Option<AirflowStatus>,

    /// How many of the accounts are federated and annotated, for example `3/3`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub accounts: Option<String>,

    /// The ServiceAccounts that the object speaks for, and how far each of them is.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub service_accounts: Vec<ServiceAccountStatus>,

    /// The federated identity credentials that the operator answers for. Recorded before they
    /// are written, so that a crash leaves none behind.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub credentials: Vec<CredentialRecord>,

    /// The Secrets with the connections and, if asked for, with the settings of the Key Vault
    /// backend.
    #[serde(default)]
    #[schemars(length(max = 33))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<SecretStatus>,

    /// Whether there is, or may be, a Role for the connections that the operator wrote.
    #[serde(default)]
    pub reader_role: bool,

    /// `Ready`, one condition per step beneath it, and those that are told beside them.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["type".into()]),
        validation = Rule::new("self.all(c, c.lastTransitionTime < timestamp('9000-01-01T00:00:00Z'))")
            .message("lastTransitionTime must be a time before the year 9000")
    )]
    pub conditions: Vec<Condition>,
}

/// An Airflow in the namespace. Exactly one is set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AirflowStatus {
    /// The Helm release.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub helm_release: Option<String>,
    /// The Stackable AirflowCluster.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub stackable_cluster: Option<String>,
}

/// One ServiceAccount of the object.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountStatus {
    /// The ServiceAccount's name.
    #[schemars(length(max = 253))]
    pub name: String,

    /// The Airflow components that run under it; empty for an account listed by name only.
    #[serde(default)]
    #[schemars(length(max = 6))]
    pub components: Vec<Component>,

    /// The subject of its tokens: `system:serviceaccount:<namespace>:<name>`.
    #[schemars(length(max = 600))]
    pub subject: String,

    /// The federated identity credential that lets it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 120))]
    pub credential_name: Option<String>,

    /// The credential is on the identity. Stays true through a moment without Azure.
    #[serde(default)]
    pub federated: bool,

    /// When the operator last wrote that credential. Entra may take some minutes until it takes
    /// the account's tokens everywhere.
    // Whoever may write a status may forge one; a time that cannot be reckoned with would make the
    // object unreadable, and end nothing of what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-8]"))]
    pub federated_at: Option<Time>,

    /// The account carries the client and tenant ID.
    #[serde(default)]
    pub annotated: bool,

    /// The uid of the account that was annotated: another account of that name is not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,

    /// What new pods of the account get: set as long as the account is federated and annotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<Injection>,

    /// What stands in the way, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What new pods of an account get. The admission policy goes by it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Injection {
    /// Since when they get just this.
    #[schemars(regex(pattern = "^[0-8]"))]
    pub since: Time,

    /// The Secrets that Airflow's containers get as envFrom.
    // A name that is none would keep every pod of the account from being created.
    #[serde(default)]
    #[schemars(
        length(max = 2),
        inner(
            length(max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub secrets: Vec<String>,

    /// Changes with the data of these Secrets; empty without any.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub checksum: String,
}

/// A federated identity credential that the operator wrote or is about to write.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRecord {
    /// The ARM resource ID of the identity that carries it.
    #[schemars(length(max = 512))]
    pub identity: String,
    /// The credential's name.
    #[schemars(length(max = 120))]
    pub name: String,
    /// The credential's issuer.
    #[schemars(length(max = 600))]
    pub issuer: String,
    /// The credential's subject.
    #[schemars(length(max = 600))]
    pub subject: String,
}

/// A Secret that the operator wrote.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// SHA-256 of its data; changes when, and only when, a connection changes.
    #[schemars(length(max = 64))]
    pub checksum: String,
}
