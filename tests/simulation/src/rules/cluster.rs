//! Rules about the cluster's objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::{History, Known, Rules, Seen};
use crate::api_server::{ApiServer, Change};
use crate::names::{CredentialPath, OWN_NAMESPACE, account_of};
use crate::operators::{Link, PASS};

const ABANDON: &str = "airflow-workload-identity.io/abandon-credentials";
/// How the field managers of accounts begin; the object's name follows.
const MANAGER: &str = "airflow-workload-identity/";
const ANNOTATIONS: [&str; 2] = [
    "azure.workload.identity/client-id",
    "azure.workload.identity/tenant-id",
];

impl Rules {
    /// The changes from this one on; an operator's, if one is given.
    pub fn note_changes(&mut self, api: &ApiServer, from: usize, by: Option<&Link>) {
        for change in &api.changes()[from..] {
            if let Some(link) = by {
                self.may_change(api, link, change);
            }
            self.note(api, by, change);
        }
    }

    fn note(&mut self, api: &ApiServer, by: Option<&Link>, change: &Change) {
        let name = change.name.clone();
        let namespace = change.namespace.clone().unwrap_or_default();
        match change.plural {
            "azureidentitygrants" => {
                let all = api.list("azureidentitygrants").cloned().collect();
                self.grants.add(change.version, all);
            }
            "airflowworkloadidentities" => {
                self.note_object((namespace, name), change);
                if let Some(link) = by {
                    self.note_retained(link, change);
                }
            }
            "leases" => {
                let holder = change.after.as_ref().map(|o| &o["spec"]["holderIdentity"]);
                let holder = holder.and_then(Value::as_str).map(str::to_owned);
                self.holder = holder;
            }
            _ => {}
        }
    }

    fn note_object(&mut self, object: (String, String), change: &Change) {
        let after = change.after.as_deref();
        let seen = after.map_or_else(Seen::default, |object| Seen {
            spec: object["spec"].clone(),
            records: records(object).collect(),
            is_going: object["metadata"]["deletionTimestamp"].is_string(),
        });
        let adopts = |seen: &Seen| seen.spec["federation"]["existingCredentials"] == "Adopt";
        let history = self.objects.entry(object).or_default();
        if history.latest() != Some(&seen) {
            history.add(change.version, seen);
        }
        let adopted = history.lately().any(adopts);
        let Some(after) = after else {
            return;
        };
        if adopted {
            self.owned.extend(records(after));
        }
    }

    /// What an operator strikes from an object's record stays where it is if the object lets go of it, and a grant, as
    /// far as the operator had been told, covers it.
    fn note_retained(&mut self, link: &Link, change: &Change) {
        let Some(before) = &change.before else {
            return;
        };
        let after: BTreeSet<CredentialPath> = change
            .after
            .iter()
            .flat_map(|after| records(after))
            .collect();
        let is_going = before["metadata"]["deletionTimestamp"].is_string();
        for (path, subject) in recorded(before).filter(|(path, _)| !after.contains(path)) {
            let is_granted = account_of(subject).is_some_and(|(namespace, account)| {
                self.was_granted(link.known().grants, &path.identity, namespace, account)
            });
            if lets_go(before) && (is_granted || is_going) {
                self.retained.insert(path, Instant::now());
            } else if self
                .retained
                .get(&path)
                .is_none_or(|at| at.elapsed() > PASS)
            {
                // A moment before, it may have been left to an object that then let go of it.
                self.retained.remove(&path);
            }
        }
    }

    /// What an operator may change at all: rules 2, 3 and 8.
    fn may_change(&mut self, api: &ApiServer, link: &Link, change: &Change) {
        let namespace = change.namespace.as_deref().unwrap_or_default();
        let what = format!(
            "{} changes {} {namespace}/{}",
            link.name, change.plural, change.name
        );
        let kind = change.plural;
        match kind {
            "events" => {}
            "leases" | "configmaps" => {
                if namespace != OWN_NAMESPACE {
                    self.broken(&format!("rule 2: {what}"));
                }
            }
            "airflowworkloadidentities" => {
                let (before, after) = (&change.before, &change.after);
                let spec = |object: &Option<Arc<Value>>| object.as_ref().map(|o| o["spec"].clone());
                if before.is_none() || after.is_some() && spec(before) != spec(after) {
                    self.broken(&format!("{what}: its spec"));
                }
                if let Some(after) = after {
                    self.may_claim(link, before.as_deref(), after, &what);
                }
            }
            "serviceaccounts" => {
                self.may_write(link, namespace, &what);
                self.may_annotate(api, link, change, &what);
            }
            "secrets" => {
                self.may_write(link, namespace, &what);
                self.may_own(change, &what);
            }
            // What is no longer granted is taken from a Role of a suspended object, too.
            "roles" | "rolebindings" => self.may_own(change, &what),
            _ => self.broken(&format!("{what}, which is none of its business")),
        }
    }

    /// For a suspended object nothing is written.
    fn may_write(&mut self, link: &Link, namespace: &str, what: &str) {
        if self.is_suspended(namespace, link.known()) && !link.has_slept() {
            self.broken(&format!("{what}, where every object is suspended"));
        }
    }

    /// The status says that Entra takes the accounts' tokens only if it did.
    fn may_claim(&mut self, link: &Link, before: Option<&Value>, after: &Value, what: &str) {
        let status = &after["status"];
        let claim = condition(after, "ExchangeVerified");
        // Whoever is kept from looking leaves the last claim as it was.
        let is_kept = claim == before.and_then(|before| condition(before, "ExchangeVerified"));
        if is_kept || claim.is_none_or(|claim| claim["status"] != "True") {
            return;
        }
        let client = status["clientId"].as_str().unwrap_or_default();
        let accounts = status["serviceAccounts"].as_array();
        if accounts.is_none_or(Vec::is_empty) {
            self.broken(&format!("{what}: Entra has let nobody in"));
        }
        for account in accounts.into_iter().flatten() {
            let subject = account["subject"].as_str().unwrap_or_default();
            if !link.was_admitted(client, subject) {
                self.broken(&format!(
                    "{what}: Entra has not let {subject} in as {client}"
                ));
            }
        }
    }

    fn may_annotate(&mut self, api: &ApiServer, link: &Link, change: &Change, what: &str) {
        let (Some(before), Some(after)) = (&change.before, &change.after) else {
            self.broken(&format!("rule 3: {what}: makes or deletes it"));
            return;
        };
        if stripped(before) != stripped(after) {
            self.broken(&format!("rule 3: {what}: more than its annotations"));
        }
        let namespace = change.namespace.as_deref().unwrap_or_default();
        if self.lately_in(namespace).next().is_none() && !link.has_slept() {
            self.broken(&format!("rule 2: {what}: a namespace without an object"));
        }
        let annotation = |object: &Value, key: &str| object["metadata"]["annotations"][key].clone();
        for key in ANNOTATIONS {
            let old = annotation(before, key);
            if !old.is_null() && old != annotation(after, key) && !is_managed(before) {
                self.broken(&format!("rule 3: {what}: takes somebody else's {key}"));
            }
            if old != annotation(after, key) && is_declared(before, key) {
                self.broken(&format!("rule 3: {what}: overrules who declares {key}"));
            }
        }
        let (old, new) = (
            annotation(before, ANNOTATIONS[0]),
            annotation(after, ANNOTATIONS[0]),
        );
        if old.is_string() && new.is_null() && !link.has_slept() {
            self.may_release(link.known(), namespace, &change.name, what);
        }
        let Some(new) = new.as_str().filter(|new| old != **new) else {
            return;
        };
        // Rule 8. The identity may have been made anew, or lost what it had, since the operator
        // looked.
        let azure = link.world.azure.state();
        let subject = crate::names::subject(namespace, &change.name);
        let Some(identity) = super::azure::identity_of_client(&azure, new) else {
            return;
        };
        let there = super::azure::credentials(&azure, &identity);
        let is_let_in = there.values().any(|trust| self.lets_in(trust, &subject));
        // Without Azure it goes on by what it has written down.
        let mut objects = api.list("airflowworkloadidentities");
        let is_on_record = objects.any(|object| {
            if object["status"]["clientId"] != new {
                return false;
            }
            let accounts = object["status"]["serviceAccounts"].as_array();
            let mut accounts = accounts.into_iter().flatten();
            accounts.any(|account| account["subject"] == *subject && account["federated"] == true)
        });
        if !is_let_in && !is_on_record && !link.knew(&identity, &subject) {
            self.broken(&format!("rule 8: {what}: {identity} does not let it in"));
        }
    }

    /// Not from whom every object of the namespace asks for, on an identity that is granted; for as long as a pass may
    /// take, and as far as the operator was told.
    fn may_release(&mut self, known: Known, namespace: &str, account: &str, what: &str) {
        let keeps = |seen: &Seen| {
            let identity = super::azure::identity(&seen.spec);
            seen.asks_for(account) && self.is_granted(known, &identity, namespace, account)
        };
        let objects = self.objects.iter().filter(|((of, _), _)| of == namespace);
        let mut histories = objects.map(|(_, history)| history).peekable();
        let is_kept = |history: &History<Seen>| {
            history
                .lately()
                .chain(history.since(known.objects))
                .all(keeps)
        };
        if histories.peek().is_some() && histories.all(is_kept) {
            self.broken(&format!("{what}: takes what is wanted and granted"));
        }
    }

    /// Secrets and Roles: only what an operator made, for an object.
    fn may_own(&mut self, change: &Change, what: &str) {
        let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        if let Some(before) = &change.before {
            let is_ours = uid(before).is_some_and(|uid| self.made.contains(&uid));
            if !is_ours {
                self.broken(&format!("rule 3: {what}, which somebody else made"));
            }
        } else if let Some(after) = &change.after {
            let owner = &after["metadata"]["ownerReferences"][0];
            if owner["controller"] != true || owner["kind"] != "AirflowWorkloadIdentity" {
                self.broken(&format!("rule 3: {what}, which no object owns"));
            }
            self.made.extend(uid(after));
        }
    }
}

/// Whether what it has on record may stay when it does not want it any longer.
fn lets_go(object: &Value) -> bool {
    object["metadata"]["annotations"][ABANDON] == "true"
        || object["spec"]["federation"]["deletionPolicy"] == "Retain"
}

/// The credentials that an object has on record.
pub fn records(object: &Value) -> impl Iterator<Item = CredentialPath> {
    recorded(object).map(|(path, _)| path)
}

/// The same, each with its subject.
pub fn recorded(object: &Value) -> impl Iterator<Item = (CredentialPath, &str)> {
    let records = object["status"]["credentials"].as_array().into_iter();
    records.flatten().map(|record| {
        let text = |field: &str| record[field].as_str().unwrap_or_default();
        let path = CredentialPath {
            identity: text("identity").to_ascii_lowercase(),
            name: text("name").to_ascii_lowercase(),
        };
        (path, text("subject"))
    })
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == name)
}

/// Whether one of ours applied its annotations.
pub fn is_managed(object: &Value) -> bool {
    managers(object).any(|manager| manager.starts_with(MANAGER))
}

/// Whether one of ours did, for the object of this name.
pub fn is_managed_for(account: &Value, object: &str) -> bool {
    managers(account).any(|manager| manager.strip_prefix(MANAGER) == Some(object))
}

/// Whether somebody else declares the annotation by server-side apply.
fn is_declared(account: &Value, key: &str) -> bool {
    let managers = account["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|entry| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        let owned = &entry["fieldsV1"]["f:metadata"]["f:annotations"];
        entry["operation"] == "Apply"
            && !manager.starts_with(MANAGER)
            && owned.get(format!("f:{key}")).is_some()
    })
}

fn managers(object: &Value) -> impl Iterator<Item = &str> {
    let managers = object["metadata"]["managedFields"].as_array();
    let managers = managers.into_iter().flatten();
    managers.map(|entry| entry["manager"].as_str().unwrap_or_default())
}

/// Without what may change.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    for field in ["managedFields", "resourceVersion"] {
        metadata[field].take();
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        for annotation in ANNOTATIONS {
            annotations.remove(annotation);
        }
    }
    if metadata["annotations"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        metadata["annotations"].take();
    }
    object
}
