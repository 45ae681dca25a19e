//! The Secrets that the operator writes: how Airflow reads them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Secret, or Secrets, that hold the connections.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.readerRole || self.format == 'SecretsBackend'")
    .message("readerRole is for format SecretsBackend: with the others no pod reads Secrets from the API server"))]
pub struct ConnectionSecret {
    /// The Secret's name. Left out: `<name of this object>-airflow-connections`. With format
    /// SecretsBackend it begins the name of each connection's Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 170),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: Option<String>,

    /// How Airflow reads it.
    #[serde(default)]
    pub format: SecretFormat,

    /// With format SecretsBackend: also write a Role, and bind it to the ServiceAccounts, that
    /// lets their pods list the Secrets of the namespace. Kubernetes cannot narrow that down to
    /// the connections.
    #[serde(default)]
    pub reader_role: bool,
}

/// How Airflow reads the connections.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SecretFormat {
    /// One Secret with a key `AIRFLOW_CONN_<ID>` per connection, for `envFrom`. Airflow sees
    /// changes when its pods are started again.
    #[default]
    Environment,
    /// One labelled Secret per connection, for the Kubernetes secrets backend of Airflow's
    /// cncf.kubernetes provider (10.13 or newer). Airflow sees changes at once.
    SecretsBackend,
    /// One Secret with a key `connections.json`, to be mounted for Airflow's
    /// LocalFilesystemBackend. Airflow sees changes within a minute or two.
    File,
}

/// Airflow's Azure Key Vault secrets backend, under the same identity.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyVaultBackend {
    /// The vault's URL, for example `https://<vault>.vault.azure.net`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(r"self.matches('^https://[a-zA-Z0-9]([-a-zA-Z0-9]*[.])+[-a-zA-Z0-9]+(:[0-9]+)?/?$')")
        .message("must be a URL: https://<vault>.vault.azure.net"))]
    pub vault_url: String,

    /// What the names of secrets with connections begin with. Left out, Airflow's
    /// `airflow-connections`; empty: connections are not looked up there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), regex(pattern = "^[-a-zA-Z0-9]*$"))]
    pub connections_prefix: Option<String>,

    /// The same for variables; Airflow's own is `airflow-variables`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), regex(pattern = "^[-a-zA-Z0-9]*$"))]
    pub variables_prefix: Option<String>,

    /// The same for configuration; Airflow's own is `airflow-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), regex(pattern = "^[-a-zA-Z0-9]*$"))]
    pub config_prefix: Option<String>,
}
