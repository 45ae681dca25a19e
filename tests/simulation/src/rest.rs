//! What holds in the end, when the faults are over: everything that is asked for and granted is there, and whoever
//! does not have it is told why; nothing that was the operator's is left behind, and nothing is written any more.

mod connections;
mod left;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use airflow_workload_identity::model::{CredentialName, Subject};
use serde_json::Value;

use crate::api_server::ApiServer;
use crate::met::Event;
use crate::names::{ACCOUNTS, AUDIENCE, FOREIGN_ISSUER, subject};
use crate::rules::{self, Rules, Trust, condition, credentials};
use crate::world::World;

/// What everything was looked at in.
struct Scene<'a> {
    api: &'a ApiServer,
    azure: Value,
    rules: &'a Rules,
    issuer: &'a str,
    verifies: bool,
}

/// What has to come of an account, by the spec of its object, the grants and what others wrote into Azure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    LetIn,
    NotGranted,
    /// Nobody lets it in, and somebody else has the name of its credential.
    InTheWay,
}

/// An account that an object asks for.
struct Wanted {
    subject: String,
    /// Of the identity, in lower case.
    identity: String,
    fate: Fate,
}

/// What has become of each object; or what is not as it should be.
pub fn ends(world: &World, issuer: &str) -> Result<Vec<Event>, String> {
    let state = world.state();
    let scene = Scene {
        api: &state.api,
        azure: world.azure.state(),
        rules: &state.rules,
        issuer,
        verifies: world.verifies,
    };
    let mut wanted = Vec::new();
    let mut ends = Vec::new();
    for object in scene.api.list("airflowworkloadidentities") {
        let metadata = &object["metadata"];
        let what = format!(
            "{}/{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        let end = scene.end(object, &mut wanted);
        ends.push(end.map_err(|wrong| format!("{what} {wrong}"))?);
    }
    left::nothing(&scene, &wanted).map(|()| ends)
}

impl Scene<'_> {
    /// Of an object; adds to what is wanted.
    fn end(&self, object: &Value, wanted: &mut Vec<Wanted>) -> Result<Event, String> {
        let ready = condition(object, "Ready");
        let metadata = &object["metadata"];
        if !metadata["deletionTimestamp"].is_null() {
            return Err(format!("does not go: {ready:?}"));
        }
        let namespace = text(&metadata["namespace"]);
        let id = text(&object["spec"]["identity"]["managedIdentity"]["resourceId"]);
        let id = id.to_ascii_lowercase();
        if object["spec"]["suspend"] == true {
            let is_granted = |account: &&str| self.rules.grants_now(&id, namespace, account);
            let granted: Vec<&str> = ACCOUNTS.into_iter().filter(is_granted).collect();
            connections::role_gives_no_more(self.api, object, &granted)?;
            is_told(object, "False", "Suspended")?;
            return Ok(Event::EndedSuspended);
        }
        let accounts = object["spec"]["airflow"]["serviceAccounts"].as_array();
        let accounts: Vec<&str> = accounts.into_iter().flatten().map(text).collect();
        let fates = accounts
            .iter()
            .map(|account| self.fate(&id, namespace, account));
        let fates: Vec<Fate> = fates.collect();
        for (account, fate) in accounts.iter().zip(&fates) {
            if *fate == Fate::LetIn {
                self.is_let_in(&id, namespace, account)?;
            }
            wanted.push(Wanted {
                subject: subject(namespace, account),
                identity: id.clone(),
                fate: *fate,
            });
        }
        let granted = accounts.iter().zip(&fates);
        let granted = granted.filter(|(_, fate)| **fate != Fate::NotGranted);
        let granted: Vec<&str> = granted.map(|(account, _)| *account).collect();
        connections::role_is_right(self.api, object, &granted)?;
        let has_rival = connections::have_a_rival(self.api, object);
        // While nobody goes by the identity, what names another one stays.
        if fates.contains(&Fate::LetIn) && !has_rival {
            let client = rules::property_of(&self.azure, &id, "clientId");
            let tenant = rules::property_of(&self.azure, &id, "tenantId");
            connections::are_written(self.api, object, [&client, &tenant])?;
        }
        if fates.contains(&Fate::NotGranted) {
            refused_are_told(object, &granted)?;
            is_told(object, "False", "NotGranted")?;
            return Ok(Event::EndedNotGranted);
        }
        if fates.contains(&Fate::InTheWay) || has_rival {
            is_told(object, "False", "Conflict")?;
            return Ok(Event::EndedInConflict);
        }
        is_told(object, "True", "Done")?;
        self.status_is_right(object, &id)?;
        names::are_right(self, object, &id)?;
        let verified = condition(object, "ExchangeVerified");
        if self.verifies && verified.is_none_or(|verified| verified["status"] != "True") {
            return Err(format!("is ready, but not verified: {verified:?}"));
        }
        Ok(Event::EndedReady)
    }

    /// Of a ready object: what it tells is there, and what it has on record, too.
    fn status_is_right(&self, object: &Value, id: &str) -> Result<(), String> {
        let status = &object["status"];
        if status["clientId"] != rules::property_of(&self.azure, id, "clientId") {
            return Err(format!("tells of client {}", status["clientId"]));
        }
        let told = status["serviceAccounts"].as_array().into_iter().flatten();
        for account in told.clone() {
            if account["federated"] != true || account["annotated"] != true {
                return Err(format!("is ready, and tells of {account}"));
            }
        }
        let told: BTreeSet<&str> = told.map(|account| text(&account["name"])).collect();
        let asked = object["spec"]["airflow"]["serviceAccounts"].as_array();
        let asked: BTreeSet<&str> = asked.into_iter().flatten().map(text).collect();
        if told != asked {
            return Err(format!("tells of {told:?}, not of {asked:?}"));
        }
        connections::are_told(self.api, object)?;
        // One of an issuer that the operator does not know any longer may be kept for better times.
        let is_missing = |record: &&Value| {
            let live = credentials(&self.azure, &text(&record["identity"]).to_ascii_lowercase());
            let name = text(&record["name"]).to_ascii_lowercase();
            record["issuer"] == self.issuer && !live.contains_key(&name)
        };
        let mut records = status["credentials"].as_array().into_iter().flatten();
        match records.find(is_missing) {
            Some(record) => Err(format!("has {record} on record, which is not there")),
            None => Ok(()),
        }
    }

    fn fate(&self, id: &str, namespace: &str, account: &str) -> Fate {
        if !self.rules.grants_now(id, namespace, account) {
            return Fate::NotGranted;
        }
        let issuer = self.issuer.parse().expect("an issuer");
        let subject = Subject::new(namespace, account);
        let name = CredentialName::derived(&issuer, &subject);
        let live = credentials(&self.azure, id);
        let theirs = live.get(&name.as_str().to_ascii_lowercase());
        match theirs {
            Some(trust)
                if trust.issuer == FOREIGN_ISSUER && !self.lets_in(&live, &subject.to_string()) =>
            {
                Fate::InTheWay
            }
            _ => Fate::LetIn,
        }
    }

    fn lets_in(&self, live: &BTreeMap<String, Trust>, subject: &str) -> bool {
        live.values().any(|trust| {
            trust.subject == subject && trust.issuer == self.issuer && trust.audience == AUDIENCE
        })
    }

    /// The credential is there, and the account goes by its identity.
    fn is_let_in(&self, id: &str, namespace: &str, account: &str) -> Result<(), String> {
        let subject = subject(namespace, account);
        if !self.lets_in(&credentials(&self.azure, id), &subject) {
            return Err(format!("may be let in, but {id} does not let {subject} in"));
        }
        let found = self.api.get("serviceaccounts", Some(namespace), account);
        let annotation =
            |key: &str| found.map(|found| text(&found["metadata"]["annotations"][key]));
        let client = annotation("azure.workload.identity/client-id");
        let goes_by = rules::identity_of_client(&self.azure, client.unwrap_or_default());
        if goes_by.as_deref() != Some(id) {
            return Err(format!("may be let in, but {account} goes by {goes_by:?}"));
        }
        let tenant = annotation("azure.workload.identity/tenant-id");
        if tenant != Some(&rules::property_of(&self.azure, id, "tenantId")) {
            return Err(format!("may be let in, but {account} is of {tenant:?}"));
        }
        Ok(())
    }
}

/// Whether the object's status tells its user this of it as it is.
fn is_told(object: &Value, status: &str, reason: &str) -> Result<(), String> {
    let ready = condition(object, "Ready");
    let is_told = ready.is_some_and(|ready| {
        ready["status"] == status
            && ready["reason"] == reason
            && ready["observedGeneration"] == object["metadata"]["generation"]
    });
    let wrong = || format!("is not told {status}, {reason}, but {ready:?}");
    is_told.then_some(()).ok_or_else(wrong)
}

/// Accounts that no grant covers are not told to be federated.
fn refused_are_told(object: &Value, granted: &[&str]) -> Result<(), String> {
    let accounts = object["status"]["serviceAccounts"].as_array();
    for account in accounts.into_iter().flatten() {
        if account["federated"] == true && !granted.contains(&text(&account["name"])) {
            return Err(format!("tells of {account}, which no grant covers"));
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What was counted when the rest began.
pub struct Rest {
    writes: u64,
    lists: BTreeMap<String, u64>,
}

impl Rest {
    pub fn begin(world: &World) -> Self {
        let state = world.state();
        Self {
            writes: state.rules.writes,
            lists: state.rules.listed.clone(),
        }
    }

    /// Rule 6.
    pub fn check(&self, world: &World, length: Duration, resync: Duration) -> Result<(), String> {
        let state = world.state();
        let writes = state.rules.writes - self.writes;
        if writes > 0 {
            return Err(format!("rule 6: {writes} writes although nothing changed"));
        }
        let rounds = length.as_secs().div_ceil(resync.as_secs()) + 1;
        for (identity, lists) in &state.rules.listed {
            let before = self.lists.get(identity).copied().unwrap_or_default();
            let now = lists - before;
            if now > rounds {
                return Err(format!(
                    "rule 6: {now} LISTs of {identity} in {rounds} rounds"
                ));
            }
        }
        Ok(())
    }
}
