//! The Secrets of an object, as they are. Their values are compared by checksum and never kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt, api::ObjectMeta, core::PartialObjectMeta};
use sha2::{Digest, Sha256};

use super::watched::Watched;
use crate::{
    api::{AirflowWorkloadIdentity, CHECKSUM_ANNOTATION, CONNECTION_ID_LABEL},
    model::hex,
    problem::{Problem, bounded},
    secrets::{WantedSecret, wanted_secrets},
};

/// A Secret that an object asks for.
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
        /// Whether its labels and its checksum annotation are what they should be.
        is_marked: bool,
        /// Guards an update against a change in between.
        resource_version: Option<String>,
    },
    /// Someone else made it.
    Foreign,
}

/// What is kept of every Secret: nothing of what it holds.
#[derive(Debug)]
pub struct WatchedSecret {
    /// Guards a deletion against another Secret of that name.
    pub uid: String,
    version: Option<String>,
    labels: BTreeMap<String, String>,
    /// What its annotation says of the data.
    marked: Option<String>,
    /// The uids of the objects that it was created for.
    owners: Vec<String>,
    /// SHA-256 of the data at this version, once it was looked at.
    checksum: OnceLock<String>,
}

impl From<&PartialObjectMeta<Secret>> for WatchedSecret {
    fn from(secret: &PartialObjectMeta<Secret>) -> Self {
        Self::new(&secret.metadata)
    }
}

impl From<&Secret> for WatchedSecret {
    fn from(secret: &Secret) -> Self {
        Self {
            checksum: checksum(secret.data.as_ref().unwrap_or(&BTreeMap::new())).into(),
            ..Self::new(&secret.metadata)
        }
    }
}

impl WatchedSecret {
    fn new(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        let owners = metadata.owner_references.iter().flatten();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone(),
            labels: metadata.labels.clone().unwrap_or_default(),
            marked: annotations
                .and_then(|a| a.get(CHECKSUM_ANNOTATION))
                .cloned(),
            owners: owners
                .filter(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone())
                .collect(),
            checksum: OnceLock::new(),
        }
    }

    /// Whether the operator created it for the object.
    pub(super) fn is_of(&self, object: &AirflowWorkloadIdentity) -> bool {
        let uid = object.metadata.uid.as_ref();
        uid.is_some_and(|uid| self.owners.contains(uid))
    }

    fn state(&self, wanted: &WantedSecret, checksum: &str) -> SecretState {
        let mut labels = wanted.labels().into_iter();
        SecretState::Ours {
            is_marked: labels.all(|(key, value)| self.labels.get(&key) == Some(&value))
                && self.marked.as_deref() == Some(checksum),
            checksum: checksum.to_owned(),
            uid: self.uid.clone(),
            resource_version: self.version.clone(),
        }
    }
}

/// The Secrets that the spec asks for, by name. One that is ours is read once at each version.
pub(super) async fn observe(
    client: &Client,
    secrets: &Watched<WatchedSecret>,
    object: &AirflowWorkloadIdentity,
) -> BTreeMap<String, Result<SecretState, Problem>> {
    let namespace = object.namespace().unwrap_or_default();
    let mut observed = BTreeMap::new();
    for wanted in wanted_secrets(object) {
        let state = match secrets.get(&namespace, &wanted.name) {
            None => Ok(SecretState::Absent),
            Some(secret) if !secret.is_of(object) => Ok(SecretState::Foreign),
            Some(secret) => match secret.checksum.get() {
                Some(checksum) => Ok(secret.state(&wanted, checksum)),
                None => read(client, &secret, &wanted, object).await,
            },
        };
        observed.insert(wanted.name, state);
    }
    observed
}

async fn read(
    client: &Client,
    known: &WatchedSecret,
    wanted: &WantedSecret<'_>,
    object: &AirflowWorkloadIdentity,
) -> Result<SecretState, Problem> {
    let name = &wanted.name;
    let api: Api<Secret> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let found = bounded(api.get_opt(name))
        .await
        .map_err(|error| Problem::cluster(&format!("cannot read Secret {name}"), &error))?;
    let Some(found) = found else {
        return Ok(SecretState::Absent);
    };
    let secret = WatchedSecret::from(&found);
    if !secret.is_of(object) {
        return Ok(SecretState::Foreign);
    }
    let checksum = secret.checksum.get().cloned().unwrap_or_default();
    if secret.version == known.version {
        // Another pass may have been faster, and found the same.
        let _ = known.checksum.set(checksum.clone());
    }
    Ok(secret.state(wanted, &checksum))
}

/// By connection ID, a Secret that was not made for the object and that the Kubernetes secrets
/// backend could take for it.
pub(super) fn rivals(
    secrets: &Watched<WatchedSecret>,
    object: &AirflowWorkloadIdentity,
) -> BTreeMap<String, String> {
    let wanted = wanted_secrets(object);
    let ids: BTreeSet<&str> = wanted.iter().filter_map(|w| w.connection_id()).collect();
    if ids.is_empty() {
        return BTreeMap::new();
    }
    let all = secrets.in_namespace(&object.namespace().unwrap_or_default());
    let rivals = all.into_iter().filter(|(_, secret)| !secret.is_of(object));
    rivals
        .filter_map(|(name, secret)| {
            let id = secret.labels.get(CONNECTION_ID_LABEL)?;
            ids.contains(id.as_str()).then(|| (id.clone(), name))
        })
        .collect()
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
