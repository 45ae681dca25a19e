//! Which Secrets an object asks for and what each is for: from the spec alone, without values.

use std::collections::BTreeMap;

use kube::ResourceExt;
use sha2::{Digest, Sha256};

use crate::{
    api::{
        AirflowWorkloadIdentity, CONNECTION_ID_LABEL, Connection, KeyVaultBackend,
        MANAGED_BY_LABEL, OPERATOR, SecretFormat,
    },
    model::hex,
};

/// The key of a Secret of the Kubernetes secrets backend.
/// <https://airflow.apache.org/docs/apache-airflow-providers-cncf-kubernetes/stable/secrets-backends/kubernetes-secrets-backend.html>
pub const BACKEND_KEY: &str = "value";
/// The key of a Secret with a file of connections.
pub const FILE_KEY: &str = "connections.json";

/// The variable of a connection. Airflow looks the ID up in upper case.
/// <https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#storing-connections-in-environment-variables>
#[must_use]
pub fn variable(id: &str) -> String {
    format!("AIRFLOW_CONN_{}", id.to_ascii_uppercase())
}

/// A Secret that an object asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedSecret<'a> {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: Content<'a>,
}

/// What a Secret holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A variable per connection.
    Environment(&'a [Connection]),
    /// One connection, for the Kubernetes secrets backend.
    Backend(&'a Connection),
    /// A file with all connections.
    File(&'a [Connection]),
    /// The settings of the Key Vault secrets backend.
    KeyVault(&'a KeyVaultBackend),
}

impl WantedSecret<'_> {
    /// The ID by which the Kubernetes secrets backend finds it.
    #[must_use]
    pub fn connection_id(&self) -> Option<&str> {
        match self.content {
            Content::Backend(connection) => Some(&connection.id),
            Content::Environment(_) | Content::File(_) | Content::KeyVault(_) => None,
        }
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let id = self.connection_id();
        let id = id.map(|id| (CONNECTION_ID_LABEL.to_owned(), id.to_owned()));
        [(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned())]
            .into_iter()
            .chain(id)
            .collect()
    }
}

/// The Secrets that the spec asks for.
#[must_use]
pub fn wanted_secrets(object: &AirflowWorkloadIdentity) -> Vec<WantedSecret<'_>> {
    let spec = &object.spec;
    let connections = spec.connections.as_slice();
    let base = connection_secret_name(object);
    let one = |content| {
        let name = base.clone();
        vec![WantedSecret { name, content }]
    };
    let mut wanted = match spec.connection_secret.format {
        _ if connections.is_empty() => Vec::new(),
        SecretFormat::Environment => one(Content::Environment(connections)),
        SecretFormat::File => one(Content::File(connections)),
        SecretFormat::SecretsBackend => connections
            .iter()
            .map(|connection| WantedSecret {
                name: format!("{base}-{}", suffix(&connection.id)),
                content: Content::Backend(connection),
            })
            .collect(),
    };
    wanted.extend(spec.key_vault_backend.as_ref().map(|backend| WantedSecret {
        name: format!("{}-airflow-key-vault", object.name_any()),
        content: Content::KeyVault(backend),
    }));
    wanted
}

fn connection_secret_name(object: &AirflowWorkloadIdentity) -> String {
    let default = || format!("{}-airflow-connections", object.name_any());
    let chosen = object.spec.connection_secret.name.clone();
    chosen.unwrap_or_else(default)
}

/// A connection ID as a part of a Secret's name. No two IDs share one: those that lose more than
/// their underscores get a hash, behind a dot that no other has.
fn suffix(id: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let slug: String = id
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    if id.chars().all(plain) {
        slug
    } else {
        let hash = hex(&Sha256::digest(id.as_bytes()));
        format!("{slug}.{}", &hash[..8])
    }
}
