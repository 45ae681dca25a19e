//! The connections of an object, and who may list them: by its spec, not by the operator's own status.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use serde_json::{Value, json};

use crate::api_server::ApiServer;

/// How the Kubernetes secrets backend finds a connection.
const CONNECTION_ID: &str = "airflow.apache.org/connection-id";

/// The status names the Secrets of a ready object.
pub fn are_told(api: &ApiServer, object: &Value) -> Result<(), String> {
    let name = |secret: &Value| secret["name"].as_str().map(str::to_owned);
    let told = object["status"]["secrets"].as_array();
    let told: BTreeSet<_> = told.into_iter().flatten().map(name).collect();
    let there: BTreeSet<_> = its(api, object, "secrets")
        .map(|secret| name(&secret["metadata"]))
        .collect();
    let wrong = || format!("tells of Secrets {told:?}, not of {there:?}");
    (told == there).then_some(()).ok_or_else(wrong)
}

/// The Secrets of an object whose identity has this client and tenant ID are those that its spec asks for.
pub fn are_written(api: &ApiServer, object: &Value, uuids: [&str; 2]) -> Result<(), String> {
    let wanted = &object["spec"]["connectionSecret"];
    let ids: Vec<&str> = {
        let connections = object["spec"]["connections"].as_array();
        let ids = connections.into_iter().flatten();
        ids.filter_map(|connection| connection["id"].as_str())
            .collect()
    };
    let (mut keys, count) = match wanted["format"].as_str() {
        Some("SecretsBackend") => (vec!["value".to_owned(); ids.len()], ids.len()),
        Some("File") => (vec!["connections.json".to_owned()], 1),
        _ => {
            let variables = ids
                .iter()
                .map(|id| format!("AIRFLOW_CONN_{}", id.to_uppercase()));
            (variables.collect(), 1)
        }
    };
    keys.sort();
    let secrets: Vec<&Value> = its(api, object, "secrets").collect();
    if secrets.len() != count {
        let names: Vec<_> = secrets.iter().map(|s| &s["metadata"]["name"]).collect();
        return Err(format!("has Secrets {names:?}, not {count}"));
    }
    if wanted["format"] == "SecretsBackend" {
        let label = |secret: &&Value| secret["metadata"]["labels"][CONNECTION_ID].to_string();
        let mut labels: Vec<String> = secrets.iter().map(label).collect();
        let mut asked: Vec<String> = ids.iter().map(|id| json!(id).to_string()).collect();
        labels.sort();
        asked.sort();
        if labels != asked {
            return Err(format!("has Secrets for {labels:?}, not {asked:?}"));
        }
    }
    let data = secrets
        .iter()
        .filter_map(|secret| secret["data"].as_object());
    let data: Vec<(&String, &Value)> = data.flatten().collect();
    let mut found: Vec<&String> = data.iter().map(|(key, _)| *key).collect();
    found.sort();
    if found != keys.iter().collect::<Vec<_>>() {
        return Err(format!("has Secrets that hold {found:?}, not {keys:?}"));
    }
    for (key, value) in data {
        let value = STANDARD.decode(value.as_str().unwrap_or_default());
        let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        for uuid in uuids {
            if !text.contains(uuid) {
                return Err(format!("has Secrets whose {key} does not name {uuid}"));
            }
        }
    }
    Ok(())
}

/// Whether a Secret that is not its own has one of its connections, in Airflow's eyes.
pub fn have_a_rival(api: &ApiServer, object: &Value) -> bool {
    let connections = object["spec"]["connections"].as_array();
    let mut ids = connections.into_iter().flatten().map(|of| &of["id"]);
    object["spec"]["connectionSecret"]["format"] == "SecretsBackend"
        && ids.any(|id| {
            api.list("secrets").any(|secret| {
                let metadata = &secret["metadata"];
                metadata["namespace"] == object["metadata"]["namespace"]
                    && metadata["ownerReferences"][0]["uid"] != object["metadata"]["uid"]
                    && metadata["labels"][CONNECTION_ID] == *id
            })
        })
}

/// Whoever is granted may list the Secrets, if the spec says so; and nobody may do anything else.
pub fn role_is_right(api: &ApiServer, object: &Value, granted: &[&str]) -> Result<(), String> {
    let reads = object["spec"]["connectionSecret"]["readerRole"] == true && !granted.is_empty();
    let roles: Vec<&Value> = its(api, object, "roles").collect();
    let bindings: Vec<&Value> = its(api, object, "rolebindings").collect();
    if !reads {
        let count = roles.len() + bindings.len();
        return if count == 0 {
            Ok(())
        } else {
            Err(format!(
                "has {count} Roles and RoleBindings, and should have none"
            ))
        };
    }
    let ([role], [binding]) = (&roles[..], &bindings[..]) else {
        let (roles, bindings) = (roles.len(), bindings.len());
        return Err(format!("has {roles} Roles and {bindings} RoleBindings"));
    };
    let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["list"] }]);
    if role["rules"] != rules {
        return Err(format!("has a Role that allows {}", role["rules"]));
    }
    let namespace = &object["metadata"]["namespace"];
    let mut subjects: Vec<Value> = granted
        .iter()
        .map(|account| json!({ "kind": "ServiceAccount", "namespace": namespace, "name": account }))
        .collect();
    subjects.sort_by_key(Value::to_string);
    let mut bound = binding["subjects"].as_array().cloned().unwrap_or_default();
    bound.sort_by_key(Value::to_string);
    let is_bound = binding["roleRef"]["kind"] == "Role"
        && binding["roleRef"]["name"] == role["metadata"]["name"];
    if bound != subjects || !is_bound {
        return Err(format!(
            "has a RoleBinding of {bound:?}, not of {subjects:?}"
        ));
    }
    Ok(())
}

/// Nobody but these accounts may list the Secrets.
pub fn role_gives_no_more(api: &ApiServer, object: &Value, granted: &[&str]) -> Result<(), String> {
    for binding in its(api, object, "rolebindings") {
        for bound in binding["subjects"].as_array().into_iter().flatten() {
            if !granted.iter().any(|account| bound["name"] == *account) {
                return Err(format!(
                    "has a RoleBinding of {bound}, which no grant covers"
                ));
            }
        }
    }
    Ok(())
}

/// What an operator made for this object.
fn its<'a>(
    api: &'a ApiServer,
    object: &'a Value,
    plural: &'static str,
) -> impl Iterator<Item = &'a Value> {
    let is_its = |found: &&Value| {
        let owner = &found["metadata"]["ownerReferences"][0]["uid"];
        *owner == object["metadata"]["uid"]
    };
    api.list(plural).filter(is_its)
}
