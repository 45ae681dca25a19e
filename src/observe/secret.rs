//! The connection Secret, as it is. Its values are compared by checksum and never kept.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};

use super::{created_for, secret_name};
use crate::{
    api::{AirflowWorkloadIdentity, CHECKSUM_ANNOTATION, MANAGED_BY_LABEL, OPERATOR},
    model::hex,
    problem::{Problem, bounded},
};

/// The Secret that an object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// There is none.
    Absent,
    /// The operator created it for this object.
    Ours {
        /// Guards a deletion against another Secret of that name.
        uid: String,
        /// SHA-256 of the data that it holds.
        checksum: String,
        /// Whether its label and its checksum annotation are what they should be.
        is_marked: bool,
        /// Guards an update against a change in between.
        resource_version: Option<String>,
    },
    /// Someone else made it.
    Foreign,
}

pub(super) async fn observe(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> Result<SecretState, Problem> {
    let name = secret_name(object);
    let api: Api<Secret> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let secret = bounded(api.get_opt(&name))
        .await
        .map_err(|error| Problem::cluster(&format!("cannot read Secret {name}"), &error))?;
    Ok(match secret {
        None => SecretState::Absent,
        Some(secret) if created_for(&secret.metadata, object.metadata.uid.as_deref()) => {
            let checksum = checksum(secret.data.as_ref().unwrap_or(&BTreeMap::new()));
            let is = |value: Option<&String>, wanted: &str| value.is_some_and(|v| v == wanted);
            SecretState::Ours {
                is_marked: is(secret.labels().get(MANAGED_BY_LABEL), OPERATOR)
                    && is(secret.annotations().get(CHECKSUM_ANNOTATION), &checksum),
                checksum,
                uid: secret.metadata.uid.unwrap_or_default(),
                resource_version: secret.metadata.resource_version,
            }
        }
        Some(_) => SecretState::Foreign,
    })
}

/// SHA-256 over a Secret's data, in hexadecimal.
#[must_use]
pub fn checksum(data: &BTreeMap<String, ByteString>) -> String {
    let mut hash = Sha256::new();
    for (key, value) in data {
        for part in [key.as_bytes(), &value.0] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}
