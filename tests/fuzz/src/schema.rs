//! The schemas of the CRDs: objects that they admit, and whether they admit one. The rules in CEL are
//! left out, so objects are made that the API server would refuse, and none is missing.

use std::sync::LazyLock;

use airflow_workload_identity::api::{AirflowWorkloadIdentity, AzureIdentityGrant};
use arbitrary::{Result, Unstructured};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// The schema of an `AirflowWorkloadIdentity`.
pub static OBJECT: LazyLock<Value> =
    LazyLock::new(|| schema(&json!(AirflowWorkloadIdentity::crd())));
/// The schema of an `AzureIdentityGrant`.
pub static GRANT: LazyLock<Value> = LazyLock::new(|| schema(&json!(AzureIdentityGrant::crd())));

/// Texts that mean something in the world of these tests, and some that mean trouble.
const WORDS: [&str; 34] = [
    "airflow",
    "airflow-scheduler",
    "airflow-worker",
    "prod",
    "dags",
    "default",
    "data",
    "team",
    "In",
    "NotIn",
    "Exists",
    "azure_default",
    "AZURE_DEFAULT",
    "lake",
    "a-b",
    "a.b",
    "wasb_default",
    "mylake",
    "https://mylake.blob.core.windows.net",
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow",
    "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000001/RESOURCEGROUPS/data/PROVIDERS/microsoft.managedidentity/userassignedidentities/AIRFLOW",
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/other",
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data",
    "applications/11111111-1111-1111-1111-111111111111",
    "https://oidc.example/cluster/",
    "https://oidc.example/other/",
    "system:serviceaccount:airflow:airflow-scheduler",
    "system:serviceaccount:airflow:airflow-worker",
    "system:serviceaccount:other:airflow-worker",
    "aks-identity-binding",
    "prod-scheduler",
    "prod-airflow-connections",
    "Ready",
    "",
];
const UUIDS: [&str; 4] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "AAAAAAAA-0000-0000-0000-00000000000A",
    "aaaaaaaa00000000000000000000000b",
];
const TIMES: [&str; 5] = [
    "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456Z",
    "9999-12-30T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "2026-01-01T00:00:00-11:00",
];
/// As many elements as tests need to meet each limit but the longest.
const LONGEST_LIST: usize = 40;

fn schema(crd: &Value) -> Value {
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// A value that the schema admits, apart from patterns and the rules in CEL.
pub fn admitted(schema: &Value, bytes: &mut Unstructured) -> Result<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return bytes.choose(words).cloned();
    }
    Ok(match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => {
            let required: Vec<&str> = list(&schema["required"]).collect();
            let mut object = Map::new();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if required.contains(&name.as_str()) || is_so(2, 5, bytes)? {
                    object.insert(name.clone(), admitted(field, bytes)?);
                }
            }
            // The API server fills these in.
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = field.get("default").filter(|_| !object.contains_key(name)) {
                    object.insert(name.clone(), default.clone());
                }
            }
            object.into()
        }
        Some("object") => {
            let mut object = Map::new();
            let value = &schema["additionalProperties"];
            while value.is_object() && is_so(1, 2, bytes)? {
                object.insert(word(bytes, 63)?, admitted(value, bytes)?);
            }
            object.into()
        }
        Some("array") => {
            let most = limit(&schema["maxItems"], LONGEST_LIST).min(LONGEST_LIST);
            let least = limit(&schema["minItems"], 0);
            let mut array = Vec::new();
            while array.len() < least || array.len() < most && is_so(3, 5, bytes)? {
                array.push(admitted(&schema["items"], bytes)?);
            }
            array.into()
        }
        Some("boolean") => bytes.arbitrary::<bool>()?.into(),
        Some("integer") => bytes.arbitrary::<i32>()?.into(),
        Some("string") => match schema["format"].as_str() {
            Some("uuid") => (*bytes.choose(&UUIDS)?).into(),
            Some("date-time") => (*bytes.choose(&TIMES)?).into(),
            _ => word(bytes, limit(&schema["maxLength"], 300))?.into(),
        },
        _ => anything(bytes, 3)?,
    })
}

/// In so many of so many cases; never once the bytes have come to their end, or lists would have none.
pub fn is_so(cases: u8, of: u8, bytes: &mut Unstructured) -> Result<bool> {
    Ok(!bytes.is_empty() && bytes.ratio(cases, of)?)
}

fn word(bytes: &mut Unstructured, longest: usize) -> Result<String> {
    let word: String = if is_so(4, 5, bytes)? {
        (*bytes.choose(&WORDS)?).to_owned()
    } else if is_so(1, 3, bytes)? {
        "a".repeat(longest)
    } else {
        bytes.arbitrary()?
    };
    Ok(word.chars().take(longest).collect())
}

fn anything(bytes: &mut Unstructured, depth: u8) -> Result<Value> {
    Ok(
        match bytes.int_in_range(0..=if depth == 0 { 4 } else { 6 })? {
            0 => Value::Null,
            1 => bytes.arbitrary::<bool>()?.into(),
            2 => bytes.arbitrary::<i64>()?.into(),
            3 => bytes.arbitrary::<f64>()?.into(),
            4 => word(bytes, 50)?.into(),
            5 => {
                let count = bytes.int_in_range(0..=3)?;
                let items: Result<Vec<_>> =
                    (0..count).map(|_| anything(bytes, depth - 1)).collect();
                items?.into()
            }
            _ => json!({ word(bytes, 20)?: anything(bytes, depth - 1)? }),
        },
    )
}

/// What the schema does not admit of a value: the field, and why.
pub fn refused(schema: &Value, value: &Value, field: &str) -> Option<String> {
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{field} is {value}"));
    }
    match (schema["type"].as_str(), value) {
        (Some("string"), Value::String(text)) => {
            let (length, most) = (
                text.chars().count(),
                limit(&schema["maxLength"], usize::MAX),
            );
            let least = limit(&schema["minLength"], 0);
            (length > most || length < least).then(|| format!("{field} has {length} characters"))
        }
        (Some("array"), Value::Array(items)) => {
            if items.len() > limit(&schema["maxItems"], usize::MAX) {
                return Some(format!("{field} has {} elements", items.len()));
            }
            let keys: Vec<&str> = list(&schema["x-kubernetes-list-map-keys"]).collect();
            let key =
                |item: &Value| -> Vec<Value> { keys.iter().map(|k| item[*k].clone()).collect() };
            let is_twice = |at: usize| {
                items[..at]
                    .iter()
                    .any(|other| key(other) == key(&items[at]))
            };
            if let Some(at) = (0..items.len()).find(|at| !keys.is_empty() && is_twice(*at)) {
                return Some(format!("{field}[{at}] is there twice"));
            }
            let mut items = items.iter().enumerate();
            items.find_map(|(at, item)| refused(&schema["items"], item, &format!("{field}[{at}]")))
        }
        (Some("object"), Value::Object(object)) => {
            // The merge patch that writes it takes null for absent.
            let is_there = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
            let missing = list(&schema["required"]).find(|name| !is_there(name));
            if let Some(missing) = missing {
                return Some(format!("{field}.{missing} is missing"));
            }
            let mut fields = object.iter().filter(|(name, _)| is_there(name));
            fields.find_map(|(name, value)| {
                let field = format!("{field}.{name}");
                match schema["properties"].get(name) {
                    Some(schema) => refused(schema, value, &field),
                    None => Some(format!("{field} is unknown")),
                }
            })
        }
        (Some("boolean"), Value::Bool(_)) => None,
        (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => None,
        (expected, _) => Some(format!("{field} is {value}, not {expected:?}")),
    }
}

fn limit(field: &Value, otherwise: usize) -> usize {
    let limit = field.as_u64().and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(otherwise)
}

fn list(field: &Value) -> impl Iterator<Item = &str> {
    field
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
