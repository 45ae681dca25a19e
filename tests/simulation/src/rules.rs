//! The rules that are never broken, looked at after every change, from outside: what is true in the
//! cluster and in Azure, and what an operator had been told when it acted.

mod azure;
mod cluster;

pub use azure::{credentials, identity_of_client, property_of};
pub use cluster::{condition, is_managed, is_managed_for, recorded, records};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::names::{AUDIENCE, CredentialPath};
use crate::operators::PASS;

/// What a credential trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

impl Trust {
    /// Of a resource's properties.
    pub fn of(properties: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            issuer: text(&properties["issuer"]),
            subject: text(&properties["subject"]),
            audience: text(&properties["audiences"][0]),
        }
    }
}

/// An object at some time.
#[derive(Default, PartialEq)]
struct Seen {
    /// Null: there is none.
    spec: Value,
    records: BTreeSet<CredentialPath>,
    is_going: bool,
}

impl Seen {
    /// Whether it asks for this account, and may write for it.
    fn asks_for(&self, account: &str) -> bool {
        let accounts = self.spec["airflow"]["serviceAccounts"].as_array();
        self.spec["suspend"] != true
            && !self.is_going
            && accounts.is_some_and(|all| all.iter().any(|name| name == account))
    }
}

/// What has happened so far, as far as the rules go by it.
#[derive(Default)]
pub struct Rules {
    /// The first of them that was broken, and how.
    pub violation: Option<String>,
    /// Requests of the operators' that would change the cluster or Azure, but for Leases.
    pub writes: u64,
    /// LISTs of identities' credentials, by identity.
    pub listed: BTreeMap<String, u64>,
    /// Issuers that the cluster has had.
    pub issuers: BTreeSet<String>,
    /// The grants after each change of them.
    grants: History<Vec<Value>>,
    /// Objects after each change of them that matters here, by namespace and name.
    objects: BTreeMap<(String, String), History<Seen>>,
    /// Credentials that an operator let go of, as their objects wanted it, and when.
    pub retained: BTreeMap<CredentialPath, Instant>,
    /// How long a request is under way at most, or its answer.
    way: Duration,
    /// When a credential was changed last, by whomever.
    changed: BTreeMap<CredentialPath, Instant>,
    /// Credentials that an operator wrote, or took over for an object that adopts, until somebody writes one that
    /// nobody has on record.
    owned: BTreeSet<CredentialPath>,
    /// Secrets and Roles that an operator made, by uid.
    made: BTreeSet<String>,
    /// Who holds the Lease.
    holder: Option<String>,
}

impl Rules {
    /// Where requests and answers are under way for so long at most.
    pub fn new(way: Duration) -> Self {
        Self {
            way,
            ..Self::default()
        }
    }

    /// A rule was broken. The first time counts.
    pub fn broken(&mut self, how: &str) {
        self.violation.get_or_insert_with(|| how.to_owned());
    }

    /// A person wrote or deleted a credential.
    pub fn person_changes(&mut self, path: CredentialPath) {
        let mut latest = self.objects.values().filter_map(History::latest);
        if !latest.any(|seen| seen.records.contains(&path)) {
            self.owned.remove(&path);
        }
        self.changes(path);
    }

    /// A credential was written or deleted.
    fn changes(&mut self, path: CredentialPath) {
        self.changed.insert(path, Instant::now());
    }

    /// Who holds the Lease.
    pub fn leader(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    pub fn lists(&mut self, identity: &str) {
        *self.listed.entry(identity.to_owned()).or_default() += 1;
    }

    /// A write to an identity leaves an operator: only the leader's does.
    pub fn sends(&mut self, operator: &str, identity: &str) {
        if let Some(holder) = self.holder.clone().filter(|holder| holder != operator) {
            self.broken(&format!(
                "rule 4: {operator} writes to {identity}, and {holder} leads"
            ));
        }
    }

    /// Whether a credential lets an account of this cluster in.
    fn lets_in(&self, trust: &Trust, subject: &str) -> bool {
        trust.subject == subject
            && trust.audience == AUDIENCE
            && self.issuers.contains(&trust.issuer)
    }

    /// Whether a grant lets the account use the identity, at some version from `since` on.
    fn was_granted(&self, since: u64, identity: &str, namespace: &str, account: &str) -> bool {
        let mut known = self.grants.since(since);
        known.any(|grants| any_covers(grants, identity, namespace, account))
    }

    /// Whether a grant lets the account use the identity now.
    pub fn grants_now(&self, identity: &str, namespace: &str, account: &str) -> bool {
        let grants = self.grants.latest();
        grants.is_some_and(|grants| any_covers(grants, identity, namespace, account))
    }

    /// Whether an operator wrote this, or took it over for an object that adopts.
    pub fn owns(&self, path: &CredentialPath) -> bool {
        self.owned.contains(path)
    }

    /// Whether a grant has let the account use the identity all the time that a pass may take, and since an operator was
    /// told last.
    fn is_granted(&self, known: Known, identity: &str, namespace: &str, account: &str) -> bool {
        let told = self.grants.since(known.grants);
        let mut grants = self.grants.lately().chain(told);
        grants.all(|grants| any_covers(grants, identity, namespace, account))
    }

    /// The namespace's objects, each as it was in the time that a pass may take.
    fn lately_in(&self, namespace: &str) -> impl Iterator<Item = &Seen> {
        let objects = self
            .objects
            .iter()
            .filter(move |((of, _), _)| of == namespace);
        let seen = objects.flat_map(|(_, history)| history.lately());
        seen.filter(|seen| !seen.spec.is_null())
    }

    /// Whether an object of the namespace was so when an operator was told of it last, and has been since.
    fn is_known_to_be(&self, namespace: &str, known: Known, so: impl Fn(&Seen) -> bool) -> bool {
        let mut objects = self.objects.iter().filter(|((of, _), _)| of == namespace);
        objects
            .any(|(_, history)| history.has(known.objects) && history.since(known.objects).all(&so))
    }

    /// Whether an operator that had been told of everything up to these versions has to leave the namespace as it is:
    /// all its objects are suspended.
    fn is_suspended(&self, namespace: &str, known: Known) -> bool {
        let objects = self.objects.iter().filter(|((of, _), _)| of == namespace);
        let seen = objects
            .flat_map(|(_, history)| history.since(known.objects_before).chain(history.lately()));
        let mut seen = seen.filter(|seen| !seen.spec.is_null()).peekable();
        seen.peek().is_some() && seen.all(|seen| seen.spec["suspend"] == true && !seen.is_going)
    }
}

/// The versions of which an operator had been told for certain.
#[derive(Clone, Copy)]
pub struct Known {
    /// Of the grants, when it sent its request.
    pub grants: u64,
    /// Of the objects, then, ...
    pub objects: u64,
    /// ... and when the pass began that sent it.
    pub objects_before: u64,
}

/// What was, with the moment and the version since when.
struct History<T>(Vec<(Instant, u64, T)>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> History<T> {
    fn add(&mut self, version: u64, what: T) {
        self.0.push((Instant::now(), version, what));
    }

    fn latest(&self) -> Option<&T> {
        self.0.last().map(|(_, _, what)| what)
    }

    /// All that was in force while a pass that acts now may have looked.
    fn lately(&self) -> impl Iterator<Item = &T> {
        let before = self
            .0
            .iter()
            .rposition(|(since, ..)| since.elapsed() > PASS);
        self.from(before)
    }

    /// Whether it began with this version, or before.
    fn has(&self, version: u64) -> bool {
        let first = self.0.first();
        first.is_some_and(|(_, since, _)| *since <= version)
    }

    /// All that was in force from this version on.
    fn since(&self, version: u64) -> impl Iterator<Item = &T> {
        let before = self.0.iter().rposition(|(_, since, _)| *since <= version);
        self.from(before)
    }

    fn from(&self, position: Option<usize>) -> impl Iterator<Item = &T> {
        let all = self.0.iter().skip(position.unwrap_or_default());
        all.map(|(_, _, what)| what)
    }
}

fn any_covers(grants: &[Value], identity: &str, namespace: &str, account: &str) -> bool {
    let mut grants = grants.iter();
    grants.any(|grant| covers(grant, identity, namespace, account))
}

/// The rule itself, in the plainest words; grants of the simulation select no namespaces by label.
fn covers(grant: &Value, identity: &str, namespace: &str, account: &str) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let spec = &grant["spec"];
    let mut identities = spec["identities"].as_array().into_iter().flatten();
    let accounts = texts(&spec["serviceAccounts"]);
    let has_identity = identities.any(|granted| {
        let id = granted["resourceId"].as_str().unwrap_or_default();
        let group = granted["resourceGroupId"].as_str().unwrap_or_default();
        id.eq_ignore_ascii_case(identity)
            || !group.is_empty()
                && identity.starts_with(&format!("{}/providers/", group.to_ascii_lowercase()))
    });
    has_identity
        && texts(&spec["namespaces"]["names"]).contains(&namespace.to_owned())
        && (accounts.is_empty() || accounts.contains(&account.to_owned()))
}
