//! What API servers were told, by their audit logs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

use crate::search::Sensitive;

/// Shorter ones are no secrets, but words that any text may hold.
const SHORTEST: usize = 13;

pub struct Audited {
    /// Of Secrets, and tokens.
    pub values: Vec<Sensitive>,
    /// What the operator wrote, and everything of its kinds, with the line.
    pub objects: Vec<(usize, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    request_object: Option<Value>,
    response_object: Option<Value>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

pub fn read_audit_log(path: &Path) -> Audited {
    let mut values = BTreeMap::new();
    let mut objects = Vec::new();
    let lines = BufReader::new(File::open(path).unwrap()).lines();
    for (number, line) in lines.enumerate() {
        let line = line.unwrap();
        // The last one may have been in the writing.
        let Ok(event) = serde_json::from_str::<Event>(&line) else {
            continue;
        };
        let of = &event.object_ref;
        let bodies = [&event.request_object, &event.response_object];
        let bodies = bodies.into_iter().flatten();
        match (of.resource.as_str(), of.subresource.as_str()) {
            ("secrets", _) => {
                for (key, value) in bodies.flat_map(secret_values) {
                    let origin = format!("Secret {}/{}, {key}", of.namespace, of.name);
                    values.insert(value, origin);
                }
            }
            ("serviceaccounts", "token") => {
                let token = event.response_object.as_ref();
                if let Some(token) = token.and_then(|body| body.pointer("/status/token")?.as_str())
                {
                    let origin = format!("a token of ServiceAccount {}/{}", of.namespace, of.name);
                    values.insert(token.to_owned(), origin);
                }
            }
            _ => {
                let is_operators = event.user.username.ends_with(":airflow-workload-identity");
                let is_of_its_kinds = of.api_group == "airflow-workload-identity.io";
                if is_operators || is_of_its_kinds {
                    objects.extend(bodies.map(|body| (number + 1, body.to_string())));
                }
            }
        }
    }
    let values = values
        .into_iter()
        .map(|(value, origin)| Sensitive { origin, value });
    Audited {
        values: values.collect(),
        objects,
    }
}

fn secret_values(secret: &Value) -> Vec<(String, String)> {
    let fields = |name: &str| secret[name].as_object().cloned().unwrap_or_default();
    let plain = fields("stringData").into_iter();
    let plain = plain.filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
    let data = fields("data").into_iter().filter_map(|(key, value)| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        Some((key, String::from_utf8(bytes).ok()?))
    });
    let all = plain.chain(data);
    all.filter(|(_, value)| value.len() >= SHORTEST && !is_public(value))
        .collect()
}

/// Certificates, and the class that Airflow is to load: everybody may know them.
fn is_public(value: &str) -> bool {
    value.starts_with("-----BEGIN CERTIFICATE-----") || value.ends_with(".AzureKeyVaultBackend")
}
