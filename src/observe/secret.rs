//! The Secrets of an object, as they are. Their values are compared by checksum and never kept.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};
use sha2::{Digest, Sha256};

use super::{Existing, created_for};
use crate::{
    api::{
        AirflowWorkloadIdentity, CHECKSUM_ANNOTATION, CONNECTION_ID_LABEL, MANAGED_BY_LABEL,
        OPERATOR, SecretStatus,
    },
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

/// The Secrets that the spec asks for, by name.
pub(super) async fn observe(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> BTreeMap<String, Result<SecretState, Problem>> {
    let api = api(client, object);
    let wanted = wanted_secrets(object);
    // One request for many; what it does not tell, because it is not ours, is asked one by one.
    let known = if wanted.len() > 1 {
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
        match bounded(api.list(&ours)).await {
            Ok(list) => list.items,
            Err(error) => {
                let problem = Problem::cluster("cannot list Secrets", &error);
                return wanted
                    .into_iter()
                    .map(|wanted| (wanted.name, Err(problem.clone())))
                    .collect();
            }
        }
    } else {
        Vec::new()
    };
    let mut observed = BTreeMap::new();
    for wanted in wanted {
        let name = wanted.name.as_str();
        let found = match known.iter().find(|secret| secret.name_any() == name) {
            Some(secret) => Ok(Some(secret.clone())),
            None => bounded(api.get_opt(name)).await,
        };
        let state = match found {
            Ok(None) => Ok(SecretState::Absent),
            Ok(Some(secret)) => Ok(state(secret, &wanted, object)),
            Err(error) => Err(Problem::cluster(
                &format!("cannot read Secret {name}"),
                &error,
            )),
        };
        observed.insert(wanted.name, state);
    }
    observed
}

fn state(secret: Secret, wanted: &WantedSecret, object: &AirflowWorkloadIdentity) -> SecretState {
    if !created_for(&secret.metadata, object.metadata.uid.as_deref()) {
        return SecretState::Foreign;
    }
    let checksum = checksum(secret.data.as_ref().unwrap_or(&BTreeMap::new()));
    let labels = secret.labels();
    let mut wanted = wanted.labels().into_iter();
    SecretState::Ours {
        is_marked: wanted.all(|(key, value)| labels.get(&key) == Some(&value))
            && secret.annotations().get(CHECKSUM_ANNOTATION) == Some(&checksum),
        checksum,
        uid: secret.metadata.uid.unwrap_or_default(),
        resource_version: secret.metadata.resource_version,
    }
}

/// Secrets that the status names, that are neither asked for nor among those that are `known` by
/// their label: somebody took the label away.
pub(super) async fn unlabelled(
    client: &Client,
    object: &AirflowWorkloadIdentity,
    known: &[Existing],
) -> Vec<Existing> {
    let api = api(client, object);
    let wanted = wanted_secrets(object);
    let written = object.status.iter().flat_map(|status| &status.secrets);
    let mut found = Vec::new();
    for SecretStatus { name, .. } in written {
        let is_seen = wanted.iter().any(|wanted| wanted.name == *name)
            || known.iter().any(|known| known.name == *name);
        if is_seen {
            continue;
        }
        if let Ok(Some(secret)) = bounded(api.get_metadata_opt(name)).await
            && created_for(&secret.metadata, object.metadata.uid.as_deref())
        {
            found.push(Existing {
                name: name.clone(),
                uid: secret.metadata.uid.unwrap_or_default(),
            });
        }
    }
    found
}

/// By connection ID, a Secret that was not made for the object and that the Kubernetes secrets
/// backend could take for it.
pub(super) async fn rivals(
    client: &Client,
    object: &AirflowWorkloadIdentity,
) -> Result<BTreeMap<String, String>, Problem> {
    let wanted = wanted_secrets(object);
    let ids: BTreeSet<&str> = wanted.iter().filter_map(|w| w.connection_id()).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<&str> = ids.into_iter().collect();
    let selector = format!("{CONNECTION_ID_LABEL} in ({})", ids.join(","));
    let labelled =
        bounded(api(client, object).list_metadata(&ListParams::default().labels(&selector)))
            .await
            .map_err(|error| Problem::cluster("cannot list Secrets", &error))?;
    let rivals = labelled
        .into_iter()
        .filter(|secret| !created_for(&secret.metadata, object.metadata.uid.as_deref()));
    Ok(rivals
        .filter_map(|secret| {
            let id = secret.labels().get(CONNECTION_ID_LABEL)?.clone();
            Some((id, secret.name_any()))
        })
        .collect())
}

fn api(client: &Client, object: &AirflowWorkloadIdentity) -> Api<Secret> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
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
