//! Rules about federated identity credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use airflow_workload_identity::model::{CredentialName, Subject};
use serde_json::Value;
use tokio::time::Instant;

use super::{History, Known, Rules, Seen, Trust, cluster::records};
use crate::api_server::ApiServer;
use crate::met::Event;
use crate::names::{AUDIENCE, CredentialPath, account_of, identity_id};
use crate::operators::Link;

/// Azure's limit.
const LIMIT: usize = 20;
/// What was listed longer ago is listed again before it is written to.
const FRESH: Duration = Duration::from_secs(5);

impl Rules {
    /// A request of an operator's changed Azure, or not. Tells what runs have to meet, if it was that.
    pub fn note_azure(
        &mut self,
        api: &ApiServer,
        link: &Link,
        known: Known,
        request: &http::Request<Vec<u8>>,
        [before, after]: [&Value; 2],
    ) -> Option<Event> {
        let path = CredentialPath::of(request)?;
        let mut event = None;
        let old = credentials(before, &path.identity).remove(&path.name);
        let new = credentials(after, &path.identity).remove(&path.name);
        if old.is_none() && new.is_none() {
            return None;
        }
        let is_changed = old != new;
        if let Some(old) = &old
            && new.as_ref() != Some(old)
        {
            self.may_touch(link, &path, old);
            if new.is_none() {
                self.may_delete(link, known, &path, old);
            }
            let change = (&path, old, after);
            event = self.makes_before_it_breaks(api, link, change);
        }
        if let Some(new) = &new
            && old.as_ref() != Some(new)
        {
            self.may_federate(link, known, &path, new);
            self.owned.insert(path.clone());
        }
        if is_changed {
            self.changes(path);
        }
        event
    }

    /// Rules 1 and 2: only what was granted, for this cluster's accounts.
    fn may_federate(&mut self, link: &Link, known: Known, path: &CredentialPath, new: &Trust) {
        let what = format!("{} lets {} into {path:?}", link.name, new.subject);
        if !self.issuers.contains(&new.issuer) {
            self.broken(&format!(
                "rule 2: {what}, by a foreign issuer {}",
                new.issuer
            ));
        }
        if new.audience != AUDIENCE {
            self.broken(&format!("rule 2: {what}, for audience {}", new.audience));
        }
        let Some((namespace, account)) = account_of(&new.subject) else {
            self.broken(&format!("rule 2: {what}, which is no account"));
            return;
        };
        let since = known.grants;
        if !self.was_granted(since, &path.identity, namespace, account) {
            let how = format!("rule 1: {what}, and no grant covers it since version {since}");
            self.broken(&how);
        }
        if self.is_suspended(namespace, known) && !link.has_slept() {
            self.broken(&format!("{what}, where every object is suspended"));
        }
    }

    /// For a suspended object nothing is deleted that is granted; nor what an account goes by, or what is to be retained.
    fn may_delete(&mut self, link: &Link, known: Known, path: &CredentialPath, old: &Trust) {
        let Some((namespace, account)) = account_of(&old.subject) else {
            return;
        };
        if link.has_slept() || !self.is_granted(known, &path.identity, namespace, account) {
            return;
        }
        let what = format!("{} deletes {path:?}", link.name);
        if self.is_suspended(namespace, known) {
            self.broken(&format!("{what}, where every object is suspended"));
        }
        let goes_by = |seen: &Seen| {
            seen.asks_for(account)
                && seen.records.contains(path)
                && identity(&seen.spec) == path.identity
                && seen.spec["federation"]["credentialName"].is_null()
        };
        if self.issuers.len() > 1 || !self.lets_in(old, &old.subject) || !is_derived(path, old) {
            return;
        }
        if self.is_known_to_be(namespace, known, goes_by) {
            self.broken(&format!("{what}, by which {account} goes"));
        }
        if self.is_to_be_retained(known, namespace, path) {
            self.broken(&format!("{what}, which is to be retained"));
        }
    }

    /// Whether every object that has it on record retains what it does not want, and would give it no other name.
    fn is_to_be_retained(&self, known: Known, namespace: &str, path: &CredentialPath) -> bool {
        let retains = |seen: &Seen| {
            let federation = &seen.spec["federation"];
            federation["deletionPolicy"] == "Retain" && federation["credentialName"].is_null()
        };
        // A deletion that waited for its turn goes by what the operator was told since.
        let told = |history: &History<Seen>| {
            let mut told = history.since(known.objects);
            let has_it = told.any(|seen| seen.records.contains(path));
            (has_it, history.since(known.objects).all(retains))
        };
        let objects = self.objects.iter().filter(|((of, _), _)| of == namespace);
        let mut of_it = objects
            .map(|(_, history)| told(history))
            .filter(|(has_it, _)| *has_it)
            .peekable();
        of_it.peek().is_some() && of_it.all(|(_, retains)| retains)
    }

    /// Rule 3: nothing foreign. What appeared since it was listed, or while the request was on its way, cannot be
    /// told apart.
    fn may_touch(&mut self, link: &Link, path: &CredentialPath, old: &Trust) {
        if path.name == "aks-identity-binding" {
            self.broken(&format!(
                "rule 3: {} touches {path:?}, which is AKS's",
                link.name
            ));
        }
        if link.knows_credential(path).as_ref() != Some(old) {
            let age = self.changed.get(path).map(Instant::elapsed);
            // The list's way back, and the write's way there, which it may go twice.
            let news = FRESH + self.way * 3;
            if !link.has_slept() && age.is_some_and(|age| age > news) {
                self.broken(&format!(
                    "rule 3: {} touches {path:?} of {}, which has been there for {age:?}, and did not look",
                    link.name, old.subject
                ));
            }
            return;
        }
        let what = format!("rule 3: {} touches {path:?} of {}", link.name, old.subject);
        if !self.issuers.contains(&old.issuer) {
            self.broken(&format!("{what}, of a foreign issuer {}", old.issuer));
        }
        let Some((namespace, account)) = account_of(&old.subject) else {
            self.broken(&format!("{what}, which is no account"));
            return;
        };
        let is_known = self
            .lately_in(namespace)
            .any(|seen| seen.asks_for(account) || seen.records.contains(path));
        if !is_known && !link.has_slept() {
            self.broken(&format!("{what}, for which no object asks"));
        }
        if !is_derived(path, old) && !self.owns(path) {
            self.broken(&format!("{what}, which no operator wrote"));
        }
    }

    /// Rule 5: whoever moves to another identity is let in there first.
    fn makes_before_it_breaks(
        &mut self,
        api: &ApiServer,
        link: &Link,
        (path, old, after): (&CredentialPath, &Trust, &Value),
    ) -> Option<Event> {
        let (namespace, account) = account_of(&old.subject)?;
        let objects = api.list("airflowworkloadidentities").filter(|object| {
            let metadata = &object["metadata"];
            metadata["namespace"] == namespace
                && metadata["deletionTimestamp"].is_null()
                && records(object).any(|record| record == *path)
        });
        // Two objects may have it on record, and one of them may still want it.
        let [object] = objects.collect::<Vec<_>>()[..] else {
            return None;
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let object = self.objects.get(&(namespace.to_owned(), name.to_owned()))?;
        let identities: Vec<String> = object.lately().map(|seen| identity(&seen.spec)).collect();
        // What was not asked for, or not granted, for a moment, goes, and nothing replaces it.
        let is_wanted = object.lately().all(|seen| seen.asks_for(account))
            && identities
                .iter()
                .chain([&path.identity])
                .all(|identity| self.is_granted(link.known(), identity, namespace, account));
        // One that gets another name goes first: Azure takes no second one for its account.
        let name_of = |seen: &Seen| seen.spec["federation"]["credentialName"].to_string();
        let names: BTreeSet<String> = object.lately().map(name_of).collect();
        let keeps_name = names.len() == 1;
        let has_moved = identities
            .last()
            .is_some_and(|current| *current != path.identity);
        if !is_wanted || !keeps_name || !has_moved {
            return None;
        }
        // On the one that it leaves, another of its credentials counts for a pass of before the move.
        let is_made = |identity: &String| {
            let there = credentials(after, identity);
            there.len() >= LIMIT
                || there
                    .values()
                    .any(|trust| self.lets_in(trust, &old.subject))
                || *identity != path.identity && link.knew(identity, &old.subject)
        };
        if !identities.iter().any(is_made) {
            let how = format!(
                "rule 5: {} takes {path:?} from {}, which has nothing on {identities:?} yet",
                link.name, old.subject
            );
            self.broken(&how);
        }
        Some(Event::IdentityLeft)
    }
}

/// Whether it has the name that follows from what it trusts.
fn is_derived(path: &CredentialPath, trust: &Trust) -> bool {
    let issuer = trust.issuer.parse().ok();
    issuer
        .zip(account_of(&trust.subject))
        .is_some_and(|(issuer, (namespace, account))| {
            let name = CredentialName::derived(&issuer, &Subject::new(namespace, account));
            name.as_str().eq_ignore_ascii_case(&path.name)
        })
}

pub(super) fn identity(spec: &Value) -> String {
    let id = spec["identity"]["managedIdentity"]["resourceId"].as_str();
    id.unwrap_or_default().to_ascii_lowercase()
}

/// An identity's credentials, by name in lower case.
pub fn credentials(state: &Value, identity: &str) -> BTreeMap<String, Trust> {
    let mut all = BTreeMap::new();
    for found in state["identities"].as_array().into_iter().flatten() {
        let id = found["id"].as_str().unwrap_or_default();
        if !id.eq_ignore_ascii_case(identity) {
            continue;
        }
        let listed = found["federatedIdentityCredentials"].as_array();
        for credential in listed.into_iter().flatten() {
            let name = credential["name"].as_str().unwrap_or_default();
            all.insert(name.to_ascii_lowercase(), Trust::of(credential));
        }
    }
    all
}

/// An identity's `clientId` or `tenantId` as Azure has it now; empty if there is no such identity.
pub fn property_of(state: &Value, id: &str, property: &str) -> String {
    let mut all = state["identities"].as_array().into_iter().flatten();
    let found = all.find(|found| {
        found["id"]
            .as_str()
            .is_some_and(|of| of.eq_ignore_ascii_case(id))
    });
    let value = found.and_then(|found| found["properties"][property].as_str());
    value.unwrap_or_default().to_owned()
}

/// The name of the identity with this client ID.
pub fn identity_of_client(state: &Value, client: &str) -> Option<String> {
    let mut all = state["identities"].as_array()?.iter();
    let found = all.find(|found| found["properties"]["clientId"] == client)?;
    let name = found["name"].as_str()?;
    Some(identity_id(name).to_ascii_lowercase())
}
