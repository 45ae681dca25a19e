//! Connections as Airflow reads them: bytes that choose among all that an object may ask for.

use std::collections::{BTreeMap, BTreeSet};

use airflow_workload_identity::{
    api::SecretFormat,
    observe::Snapshot,
    plan::{Action, plan},
    secrets::{BACKEND_KEY, FILE_KEY, variable, wanted_secrets},
};
use arbitrary::{Result, Unstructured};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::{given, schema};

type Secrets = BTreeMap<String, BTreeMap<String, ByteString>>;

/// Each connection is there under its own key and reads back with every field that was given, in
/// Secrets that the API server takes.
pub fn check(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok(spec) = spec(&mut bytes) else {
        return;
    };
    let mut world = given::converged();
    world.object.status = None;
    world.object.spec = serde_json::from_value(spec.clone()).unwrap();
    let secrets = written(&world);
    let wanted = wanted_secrets(&world.object);
    assert_eq!(secrets.len(), wanted.len(), "two have one name: {spec}");
    for (name, data) in &secrets {
        assert!(is_subdomain(name), "{name}");
        assert!(data.keys().all(|key| is_key(key)), "{:?}", data.keys());
    }
    for secret in &wanted {
        let id = secret.connection_id().into_iter();
        id.for_each(|id| assert!(is_label(id), "{id}"));
    }
    for connection in spec["connections"].as_array().unwrap() {
        let id = connection["id"].as_str().unwrap();
        let read = read(&world, &secrets, id);
        is_the_same(connection, &read);
    }
    if let Some(backend) = spec.get("keyVaultBackend") {
        let data = &secrets["prod-airflow-key-vault"];
        let settings = json_of(&data["AIRFLOW__SECRETS__BACKEND_KWARGS"]);
        assert_eq!(settings["vault_url"], backend["vaultUrl"]);
        assert_eq!(settings["managed_identity_client_id"], given::CLIENT);
    }
}

/// What the schema admits, its patterns and rules about IDs included.
fn spec(bytes: &mut Unstructured) -> Result<Value> {
    let schema = &schema::OBJECT["properties"]["spec"]["properties"];
    let format = *bytes.choose(&["Environment", "SecretsBackend", "File"])?;
    let mut ids = BTreeSet::new();
    let mut connections = Vec::new();
    while connections.len() < 32 && schema::is_so(4, 5, bytes)? {
        let id = id(format, bytes)?;
        let key = if format == "Environment" {
            id.to_ascii_uppercase()
        } else {
            id.clone()
        };
        if ids.insert(key) {
            connections.push(connection(&id, &schema["connections"]["items"], bytes)?);
        }
    }
    let mut spec = json!({
        "identity": { "managedIdentity": { "resourceId": given::id("airflow").to_string() } },
        "connections": connections,
        "connectionSecret": { "format": format },
    });
    if schema::is_so(1, 3, bytes)? {
        let chosen = ["a", "x.y", &"long".repeat(42), "prod-airflow-connections"];
        spec["connectionSecret"]["name"] = (*bytes.choose(&chosen)?).into();
    }
    if format == "Environment" && schema::is_so(1, 3, bytes)? {
        spec["keyVaultBackend"] = schema::admitted(&schema["keyVaultBackend"], bytes)?;
    }
    Ok(spec)
}

fn id(format: &str, bytes: &mut Unstructured) -> Result<String> {
    let (first, others, last, longest) = match format {
        "Environment" => ("aZ_", "bY_09", "cX_8", 200),
        "SecretsBackend" => ("aZ0", "bY_09.-", "cX8", 63),
        _ => ("a#!().-/:", "bY_09#!()./:-", "c#!().-/:", 200),
    };
    let pick = |from: &str, bytes: &mut Unstructured| {
        let from: Vec<char> = from.chars().collect();
        bytes.choose(&from).copied()
    };
    let mut id = String::from(pick(first, bytes)?);
    if schema::is_so(1, 8, bytes)? {
        id.extend(std::iter::repeat_n(pick(others, bytes)?, longest - 2));
    }
    while id.len() + 1 < longest && schema::is_so(3, 4, bytes)? {
        id.push(pick(others, bytes)?);
    }
    id.push(pick(last, bytes)?);
    Ok(id)
}

fn connection(id: &str, schema: &Value, bytes: &mut Unstructured) -> Result<Value> {
    const OWN: [&str; 2] = ["id", "extra"];
    let kinds = schema["properties"].as_object().unwrap();
    let kinds: Vec<(&String, &Value)> = kinds
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect();
    let (kind, fields) = bytes.choose(&kinds)?;
    let mut connection = json!({ "id": id, *kind: schema::admitted(fields, bytes)? });
    let mut names = BTreeSet::new();
    let mut extra = Vec::new();
    while extra.len() < 32 && schema::is_so(1, 2, bytes)? {
        let field = schema::admitted(&schema["properties"]["extra"]["items"], bytes)?;
        if names.insert(field["name"].to_string()) {
            extra.push(field);
        }
    }
    if !extra.is_empty() {
        connection["extra"] = extra.into();
    }
    Ok(connection)
}

/// The Secrets that a pass writes.
fn written(world: &Snapshot) -> Secrets {
    let mut world = world.clone();
    world.secrets.clear();
    let steps = plan(&world).steps.into_iter();
    let written = steps.filter_map(|step| match step.action {
        Action::WriteSecret { name, data, .. } => Some((name, data)),
        _ => None,
    });
    written.collect()
}

/// A connection as Airflow finds it.
fn read(world: &Snapshot, secrets: &Secrets, id: &str) -> Value {
    let wanted = wanted_secrets(&world.object);
    match world.object.spec.connection_secret.format {
        SecretFormat::Environment => json_of(&secrets[&wanted[0].name][&variable(id)]),
        SecretFormat::File => json_of(&secrets[&wanted[0].name][FILE_KEY])[id].clone(),
        SecretFormat::SecretsBackend => {
            let mut ours = wanted
                .iter()
                .filter(|secret| secret.connection_id() == Some(id));
            let secret = ours.next().unwrap();
            assert!(ours.next().is_none(), "{id} is there twice");
            json_of(&secrets[&secret.name][BACKEND_KEY])
        }
    }
}

fn json_of(text: &ByteString) -> Value {
    serde_json::from_slice(&text.0).unwrap()
}

fn is_the_same(given: &Value, read: &Value) {
    const KNOWN: [&str; 5] = ["conn_type", "host", "login", "schema", "extra"];
    let unknown = read
        .as_object()
        .unwrap()
        .keys()
        .find(|key| !KNOWN.contains(&key.as_str()));
    assert_eq!(
        unknown, None,
        "Airflow drops a connection with a key that it does not know"
    );
    let (_, fields) = given
        .as_object()
        .unwrap()
        .iter()
        .find(|(name, _)| !["id", "extra"].contains(&name.as_str()))
        .unwrap();
    let extra = read["extra"].as_object().unwrap();
    let holds = |value: &Value| {
        ["host", "login"].iter().any(|key| read[*key] == *value)
            || extra.values().any(|v| v == value)
    };
    // Both of a storage account are refused by a rule; the other types show all that they are given.
    let is_account = fields.get("account").is_some() && fields.get("accountUrl").is_some();
    for (name, value) in fields.as_object().unwrap() {
        let is_shown = is_account || holds(&as_written(value));
        assert!(is_shown, "{name} is lost: {given}: {read}");
    }
    assert_eq!(extra["managed_identity_client_id"], crate::given::CLIENT);
    assert_eq!(extra["workload_identity_tenant_id"], crate::given::TENANT);
    for field in given
        .get("extra")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = field["name"].as_str().unwrap();
        let found = extra
            .get(name)
            .unwrap_or_else(|| panic!("{name} is lost: {read}"));
        assert!(
            *found == twice(&field["value"]) || !is_free(name),
            "{name}: {read}"
        );
    }
}

/// IDs are written in one form.
fn as_written(value: &Value) -> Value {
    let id = value
        .as_str()
        .and_then(|text| text.parse::<uuid::Uuid>().ok());
    id.map_or_else(|| value.clone(), |id| json!(id))
}

/// Numbers with a fraction may lose their last bit when they are read, so both are read as often.
fn twice(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// What no connection type sets by itself.
fn is_free(name: &str) -> bool {
    const SET: [&str; 13] = [
        "account_url",
        "auth_method",
        "collection_name",
        "database_name",
        "factory_name",
        "fully_qualified_namespace",
        "managed_identity_client_id",
        "partition_key",
        "resource_group",
        "resource_group_name",
        "subscriptionId",
        "subscription_id",
        "workload_identity_tenant_id",
    ];
    !SET.contains(&name) && name != "use_azure_identity_object"
}

/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>
fn is_subdomain(name: &str) -> bool {
    let is_part = |part: &str| {
        let inner = part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

/// <https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data>
fn is_key(key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=253).contains(&key.len()) && key.bytes().all(plain)
}

/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
fn is_label(value: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63 && is_key(value) && edge(bytes.first()) && edge(bytes.last())
}
