//! What a pod must have, and what it lacks: by what its spec says.

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use crate::{
    api::{Injection, PodConnections, SecretFormat, SecretStatus},
    model::hex,
    observe::{Pod, Snapshot},
};

/// How long API servers may take to learn of a status: they add to pods what they know of it.
pub const LAG: SignedDuration = SignedDuration::from_secs(5);

/// Something that a pod has to have and has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What.
    pub what: Missing,
    /// The pod was there before its account and the connections were what they are now: another one
    /// in its place will have it.
    pub is_early: bool,
}

/// What a pod can lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The label that the Azure webhook goes by.
    Label,
    /// The token.
    Token,
    /// The token, in this container, which the Azure webhook was told to leave out.
    TokenIn(String),
    /// The token is for this audience.
    Audience(String),
    /// The client ID; this one is there, if any.
    ClientId(Option<String>),
    /// The connections.
    Connections,
    /// The connections as they are now.
    NewConnections,
}

/// What `pod` lacks first. Nothing, if its owner has set the label to something else than "true".
#[must_use]
pub fn lack(pod: &Pod, injection: &Injection, client_id: &str, audience: &str) -> Option<Lack> {
    if is_left_out(pod) {
        return None;
    }
    Some(Lack {
        what: missing(pod, injection, client_id, audience)?,
        is_early: pod.created.duration_since(injection.since.0) < LAG,
    })
}

/// Whether the owner of the pod wants no identity in it.
#[must_use]
pub fn is_left_out(pod: &Pod) -> bool {
    pod.label.as_ref().is_some_and(|value| value != "true")
}

fn missing(pod: &Pod, injection: &Injection, client_id: &str, audience: &str) -> Option<Missing> {
    let container = &pod.container;
    if pod.label.is_none() {
        return Some(Missing::Label);
    }
    match &container.audience {
        None if pod.is_skipped => return Some(Missing::TokenIn(container.name.clone())),
        None => return Some(Missing::Token),
        Some(other) if other != audience => return Some(Missing::Audience(other.clone())),
        Some(_) => {}
    }
    if container.client_id.as_deref() != Some(client_id) {
        return Some(Missing::ClientId(container.client_id.clone()));
    }
    if !injection
        .secrets
        .iter()
        .all(|secret| container.secrets.contains(secret))
    {
        return Some(Missing::Connections);
    }
    // Without the policy's word it is not known what it started with.
    let started_with = pod.connections.as_ref();
    started_with
        .is_some_and(|checksum| *checksum != injection.checksum)
        .then_some(Missing::NewConnections)
}

/// What new pods of an account get, but for the time; from its Secrets as they are.
#[must_use]
pub fn injected(
    snapshot: &Snapshot,
    account: &str,
    secrets: &[SecretStatus],
) -> (Vec<String>, String) {
    let spec = &snapshot.object.spec;
    let accounts = &snapshot.discovery.accounts;
    let runs_airflow = || {
        let mut accounts = accounts.iter().filter(|found| found.name == account);
        accounts.any(|found| snapshot.discovery.runs_airflow(found))
    };
    let is_wanted = match spec.pods.connections {
        PodConnections::Inject => runs_airflow(),
        PodConnections::InjectAll => true,
        PodConnections::None => false,
    };
    if !is_wanted
        || spec.connection_secret.format != SecretFormat::Environment
        || secrets.is_empty()
    {
        return (Vec::new(), String::new());
    }
    let names = secrets.iter().map(|secret| secret.name.clone()).collect();
    let sums: Vec<&str> = secrets
        .iter()
        .map(|secret| secret.checksum.as_str())
        .collect();
    (names, hex(&Sha256::digest(sums.concat().as_bytes())))
}
