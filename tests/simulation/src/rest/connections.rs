//! The connections of an object, as its spec alone says what they are: not by the operator's own status.

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use serde_json::Value;

use crate::api_server::ApiServer;

/// What is wrong with the Secrets and the Role of an object whose identity has this client ID.
pub fn wrong(api: &ApiServer, object: &Value, client_id: &str) -> Option<String> {
    let is_its = |found: &&Value| {
        let owner = &found["metadata"]["ownerReferences"][0]["uid"];
        *owner == object["metadata"]["uid"]
    };
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
    let secrets: Vec<&Value> = api.list("secrets").filter(is_its).collect();
    if secrets.len() != count {
        let names: Vec<_> = secrets.iter().map(|s| &s["metadata"]["name"]).collect();
        return Some(format!("its Secrets are {names:?}, not {count}"));
    }
    let data = secrets
        .iter()
        .filter_map(|secret| secret["data"].as_object());
    let data: Vec<(&String, &Value)> = data.flatten().collect();
    let mut found: Vec<&String> = data.iter().map(|(key, _)| *key).collect();
    found.sort();
    if found != keys.iter().collect::<Vec<_>>() {
        return Some(format!("its Secrets hold {found:?}, not {keys:?}"));
    }
    for (key, value) in data {
        let value = STANDARD.decode(value.as_str().unwrap_or_default());
        let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        if !text.contains(client_id) {
            return Some(format!("{key} of its Secrets does not name {client_id}"));
        }
    }
    let reads = wanted["readerRole"] == true;
    let roles = api.list("roles").filter(is_its).count();
    (roles != usize::from(reads)).then(|| format!("there are {roles} Roles of it"))
}
