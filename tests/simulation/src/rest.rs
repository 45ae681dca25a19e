//! What holds in the end, when the faults are over: everything that is asked for is there, nothing
//! that was the operator's is left behind, and nothing is written any more.

mod connections;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::api_server::ApiServer;
use crate::names::{AUDIENCE, CredentialPath, subject};
use crate::rules::{self, condition, credentials, is_managed};
use crate::world::World;

/// What is not as it should be, if anything is not.
pub fn unfinished(world: &World, issuer: &str) -> Option<String> {
    let azure = world.azure.state();
    let state = world.state();
    let api = &state.api;
    let mut wanted = Vec::new();
    for object in api.list("airflowworkloadidentities") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&object["metadata"]["namespace"]);
        let what = format!("{namespace}/{}", text(&object["metadata"]["name"]));
        let ready = condition(object, "Ready");
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return Some(format!("{what} does not go: {ready:?}"));
        }
        let is_ready = ready.is_some_and(|ready| {
            ready["status"] == "True"
                && ready["observedGeneration"] == object["metadata"]["generation"]
        });
        if !is_ready {
            return Some(format!("{what} is not ready: {ready:?}"));
        }
        let verified = condition(object, "ExchangeVerified");
        if world.verifies && verified.is_none_or(|verified| verified["status"] != "True") {
            return Some(format!("{what} is ready, but not verified: {verified:?}"));
        }
        let id = text(&object["spec"]["identity"]["managedIdentity"]["resourceId"]);
        let id = id.to_ascii_lowercase();
        let live = credentials(&azure, &id);
        let accounts = object["spec"]["airflow"]["serviceAccounts"].as_array();
        for account in accounts.into_iter().flatten() {
            let account = text(account);
            let subject = subject(&namespace, &account);
            let is_federated = live.values().any(|trust| {
                trust.subject == subject && trust.issuer == issuer && trust.audience == AUDIENCE
            });
            if !is_federated {
                return Some(format!(
                    "{what} is ready, but {id} does not let {subject} in"
                ));
            }
            let found = api.get("serviceaccounts", Some(&namespace), &account);
            let client = found.map(|found| {
                text(&found["metadata"]["annotations"]["azure.workload.identity/client-id"])
            });
            let goes_by = rules::identity_of_client(&azure, &client.unwrap_or_default());
            if goes_by.as_ref() != Some(&id) {
                return Some(format!(
                    "{what} is ready, but {account} goes by {goes_by:?}"
                ));
            }
            let tenant = found.map(|found| {
                text(&found["metadata"]["annotations"]["azure.workload.identity/tenant-id"])
            });
            if tenant != Some(rules::property_of(&azure, &id, "tenantId")) {
                return Some(format!("{what} is ready, but {account} is of {tenant:?}"));
            }
            wanted.push((id.clone(), subject));
        }
        if let Some(wrong) =
            connections::wrong(api, object, &rules::property_of(&azure, &id, "clientId"))
        {
            return Some(format!("{what} is ready, but {wrong}"));
        }
    }
    let left_behind = left_behind(&azure, &state.rules, &wanted, issuer);
    left_behind
        .or_else(|| annotated(api, &wanted))
        .or_else(|| orphan(api))
}

/// What an operator made for an object that is gone.
fn orphan(api: &ApiServer) -> Option<String> {
    let all = ["secrets", "roles", "rolebindings"];
    let mut all = all.into_iter().flat_map(|plural| api.list(plural));
    all.find_map(|found| {
        let owner = &found["metadata"]["ownerReferences"][0];
        let mut objects = api.list("airflowworkloadidentities");
        let is_orphan = owner["uid"].is_string()
            && !objects.any(|object| object["metadata"]["uid"] == owner["uid"]);
        is_orphan.then(|| format!("it has no owner any more: {}", found["metadata"]))
    })
}

/// An account that an operator annotated and that no object asks for.
fn annotated(api: &ApiServer, wanted: &[(String, String)]) -> Option<String> {
    api.list("serviceaccounts").find_map(|account| {
        let metadata = &account["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let subject = subject(text("namespace"), text("name"));
        let is_wanted = wanted.iter().any(|(_, wanted)| *wanted == subject);
        let client = &metadata["annotations"]["azure.workload.identity/client-id"];
        let is_left = client.is_string() && is_managed(account) && !is_wanted;
        is_left.then(|| format!("the annotation of {subject} is left behind"))
    })
}

/// A credential that an operator wrote and that nobody wants.
fn left_behind(
    azure: &Value,
    rules: &rules::Rules,
    wanted: &[(String, String)],
    issuer: &str,
) -> Option<String> {
    for found in azure["identities"].as_array().into_iter().flatten() {
        let id = found["id"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_lowercase();
        for (name, trust) in credentials(azure, &id) {
            let path = CredentialPath {
                identity: id.clone(),
                name,
            };
            let is_wanted =
                trust.issuer == issuer && wanted.contains(&(id.clone(), trust.subject.clone()));
            let is_retained = rules.retained.contains(&path);
            if rules.written.contains(&path) && !is_wanted && !is_retained {
                return Some(format!("{path:?} is left behind: {trust:?}"));
            }
        }
    }
    None
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
