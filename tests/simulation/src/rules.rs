//! The rules that are never broken, looked at after every change, from outside: what is true in the
//! cluster and in Azure, and what an operator had been told when it acted.

mod azure;
mod cluster;

pub use azure::{credentials, identity_of_client, property_of};
pub use cluster::{condition, is_managed, records};

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
    /// The grants after each change of them, with the version.
    grants: History<(u64, Vec<Value>)>,
    /// An object's spec after each change of it, by namespace and name; null: there is none.
    specs: BTreeMap<(String, String), History<Value>>,
    /// Namespaces with an object that adopted, at some time.
    adopting: BTreeSet<String>,
    /// Credentials that an object had on record when it, or somebody for it, let go of them.
    pub retained: BTreeSet<CredentialPath>,
    /// How long a request is under way at most, or its answer.
    way: Duration,
    /// When a credential was changed last, by whomever.
    changed: BTreeMap<CredentialPath, Instant>,
    /// Credentials that an operator wrote.
    pub written: BTreeSet<CredentialPath>,
    /// Secrets and Roles that an operator made, by uid.
    made: BTreeSet<String>,
    /// Who holds the Lease.
    holder: Option<String>,
    /// Writes to an identity by who lost the Lease since.
    late: BTreeMap<(String, String), usize>,
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

    /// A credential was written or deleted.
    pub fn changes(&mut self, path: CredentialPath) {
        self.changed.insert(path, Instant::now());
    }

    /// Who holds the Lease.
    pub fn leader(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    pub fn lists(&mut self, identity: &str) {
        *self.listed.entry(identity.to_owned()).or_default() += 1;
    }

    /// A write to an identity leaves an operator: only the leader's does, but for one call that
    /// was in flight.
    pub fn sends(&mut self, operator: &str, identity: &str) {
        let Some(holder) = &self.holder else {
            return;
        };
        if holder == operator {
            return;
        }
        let late = (operator.to_owned(), identity.to_owned());
        let count = self.late.entry(late).or_default();
        *count += 1;
        if *count > 1 {
            let how = format!(
                "rule 4: {operator} writes to {identity} again and again, and {holder} leads"
            );
            self.broken(&how);
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
        let all = &self.grants.0;
        let current = all.iter().rposition(|(_, (version, _))| *version <= since);
        let mut known = all.iter().skip(current.unwrap_or_default());
        known.any(|(_, (_, grants))| any_covers(grants, identity, namespace, account))
    }

    /// Whether a grant has let the account use the identity all the time that a pass may take.
    fn is_granted(&self, identity: &str, namespace: &str, account: &str) -> bool {
        let mut lately = self.grants.lately();
        lately.all(|(_, grants)| any_covers(grants, identity, namespace, account))
    }
}

/// What was, with the moment since when.
struct History<T>(Vec<(Instant, T)>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> History<T> {
    fn add(&mut self, what: T) {
        self.0.push((Instant::now(), what));
    }

    /// All that was in force while a pass that acts now may have looked.
    fn lately(&self) -> impl Iterator<Item = &T> {
        let before = self.0.iter().rposition(|(since, _)| since.elapsed() > PASS);
        let lately = self.0.iter().skip(before.unwrap_or_default());
        lately.map(|(_, what)| what)
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
