//! What each kind does with what it is given before it is stored.

use serde_json::{Map, Value, json};

use super::{
    core_event, defaults,
    kinds::{DEPLOYMENTS, EVENTS, Kind, LEASES, NAMESPACES, PODS, ROLE_BINDINGS},
    managed::drop_nulls,
    refusal::{Cause, Refusal},
};

/// Brings an object that came over the wire, or out of a patch, into the shape that it is stored in.
pub(super) fn decode(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the object is no JSON object"));
    }
    let (version, name) = (kind.api_version(), kind.kind);
    for (field, expected) in [("apiVersion", version.as_str()), ("kind", name)] {
        match &object[field] {
            Value::Null => object[field] = expected.into(),
            Value::String(found) if found == expected => {}
            found if kind.custom => {
                let cause =
                    Cause::invalid(field, &found.to_string(), &format!("must be {expected}"));
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                return Err(Refusal::invalid(kind, name, &[cause]));
            }
            found => {
                return Err(Refusal::bad_request(format!(
                    "{field} in the data ({found}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    drop_nulls(metadata);
    drop_empty(metadata);
    if kind.custom {
        kind.schema().prune(object);
        kind.schema().fill_in(object);
    } else {
        drop_nulls(object);
        if let Some(fields) = object.as_object_mut() {
            let is_empty = |value: &Value| *value == json!({}) || *value == json!([]);
            fields.retain(|key, value| !(OMITTED.contains(&key.as_str()) && is_empty(value)));
        }
        drop_empty_lists(object);
        defaults::fill_in(kind, object);
        complete(object, kind.zero());
    }
    Ok(())
}

/// Lists that are empty are not stored.
fn drop_empty_lists(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| *value != json!([]) || key == "managedFields");
            map.values_mut().for_each(drop_empty_lists);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty_lists),
        _ => {}
    }
}

/// Fields that are left out when they are empty.
const OMITTED: [&str; 5] = [
    "data",
    "binaryData",
    "subjects",
    "secrets",
    "imagePullSecrets",
];

/// Fields of Go's structs that are left out when they are empty.
fn drop_empty(metadata: &mut Value) {
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    metadata.retain(|key, value| match value {
        // That one says something: forget all managers.
        Value::Array(_) if key == "managedFields" => true,
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0) || key == "deletionGracePeriodSeconds",
        _ => true,
    });
}

/// Puts in what is always there.
pub(super) fn complete(object: &mut Value, zero: &Value) {
    let (Value::Object(object), Value::Object(zero)) = (object, zero) else {
        return;
    };
    for (key, zero) in zero {
        match object.get_mut(key) {
            Some(value) => complete(value, zero),
            None => {
                object.insert(key.clone(), zero.clone());
            }
        }
    }
}

pub(super) fn before_create(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    if kind.custom {
        if kind.has_status {
            remove(object, "status");
        }
        // As it is read again.
        kind.schema().fill_in(object);
    }
    if kind.counts {
        object["metadata"]["generation"] = 1.into();
    }
    match kind.store {
        NAMESPACES => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({ "phase": "Active" });
        }
        PODS => object["status"] = defaults::pod_status(),
        _ if kind.has_status && !kind.custom => object["status"] = kind.zero()["status"].clone(),
        _ => {}
    }
    let mut causes = Vec::new();
    check(kind, object, &mut causes);
    if kind.store == EVENTS {
        core_event::check_new(object, &mut causes);
    }
    refuse_if(kind, object, &causes)
}

/// What an update through this endpoint may change is what it changes.
pub(super) fn before_update(
    kind: &Kind,
    subresource: Option<&str>,
    new: &mut Value,
    old: &Value,
) -> Result<(), Refusal> {
    match subresource {
        Some("status") if kind.custom => {
            let books = new["metadata"].get("managedFields").cloned();
            let status = new.get("status").cloned();
            let mut whole = old.clone();
            set(&mut whole["metadata"], "managedFields", books);
            set(&mut whole, "status", status);
            *new = whole;
        }
        Some("status") => set(new, "spec", old.get("spec").cloned()),
        _ => {
            if kind.has_status {
                set(new, "status", old.get("status").cloned());
            }
            if kind.store == NAMESPACES {
                set(
                    &mut new["spec"],
                    "finalizers",
                    old["spec"].get("finalizers").cloned(),
                );
            }
        }
    }
    if kind.custom {
        kind.schema().fill_in(new);
    }
    keep_metadata(kind, subresource, new, old);
    let mut causes = Vec::new();
    check_metadata(new, old, &mut causes);
    if kind.custom {
        // Two look at it.
        causes.extend_from_within(..);
    }
    check(kind, new, &mut causes);
    if kind.store == EVENTS {
        core_event::check_changed(new, old, &mut causes);
    }
    if kind.store == ROLE_BINDINGS && new["roleRef"] != old["roleRef"] {
        let reference = &new["roleRef"];
        let part = |key: &str| reference[key].as_str().unwrap_or_default();
        let value = format!(
            "{{\"APIGroup\":{:?},\"Kind\":{:?},\"Name\":{:?}}}",
            part("apiGroup"),
            part("kind"),
            part("name")
        );
        causes.push(Cause::immutable("roleRef", &value));
    }
    refuse_if(kind, new, &causes)
}

/// What no request may change of the metadata; and the generation, which counts changes.
fn keep_metadata(kind: &Kind, subresource: Option<&str>, new: &mut Value, old: &Value) {
    let is_changed = |key: &str| new.get(key) != old.get(key);
    let counts = match kind.store {
        _ if !kind.counts || subresource.is_some() => false,
        _ if kind.custom => {
            let fields = |object: &Value| object.as_object().cloned().unwrap_or_default();
            let (mut new, mut old) = (fields(new), fields(old));
            new.remove("metadata");
            old.remove("metadata");
            new != old
        }
        DEPLOYMENTS => {
            is_changed("spec")
                || new["metadata"].get("annotations") != old["metadata"].get("annotations")
        }
        _ => is_changed("spec"),
    };
    let (new, old) = (&mut new["metadata"], &old["metadata"]);
    set(new, "generation", old.get("generation").cloned());
    if counts {
        new["generation"] = (old["generation"].as_i64().unwrap_or_default() + 1).into();
    }
    if new.get("uid").is_none() {
        set(new, "uid", old.get("uid").cloned());
    }
    set(
        new,
        "creationTimestamp",
        old.get("creationTimestamp").cloned(),
    );
    if let Some(time) = old.get("deletionTimestamp") {
        new["deletionTimestamp"] = time.clone();
        if new.get("deletionGracePeriodSeconds").is_none() {
            let grace = old.get("deletionGracePeriodSeconds").cloned();
            set(new, "deletionGracePeriodSeconds", grace);
        }
    }
}

fn check_metadata(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, old) = (&new["metadata"], &old["metadata"]);
    if old.get("deletionTimestamp").is_some() {
        let had = old["finalizers"].as_array();
        let has = new["finalizers"].as_array().into_iter().flatten();
        let is_new = |finalizer: &&Value| had.is_none_or(|had| !had.contains(finalizer));
        let added: Vec<String> = has.filter(is_new).map(Value::to_string).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if new.get(field) != old.get(field) {
            let value = new
                .get(field)
                .map_or_else(|| "null".into(), Value::to_string);
            causes.push(Cause::immutable(&format!("metadata.{field}"), &value));
        }
    }
}

fn check(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let why = "name or generateName is required";
        causes.push(Cause::required_because("metadata.name", why));
    }
    if kind.custom {
        kind.schema().check(object, causes);
        if causes.iter().any(Cause::keeps_rules_from_being_checked) {
            causes.push(Cause::rules_unchecked());
        }
    }
    if kind.store == LEASES {
        let duration = &object["spec"]["leaseDurationSeconds"];
        if duration.as_i64().is_some_and(|seconds| seconds <= 0) {
            let (field, why) = ("spec.leaseDurationSeconds", "must be greater than 0");
            causes.push(Cause::invalid(field, &duration.to_string(), why));
        }
    }
}

fn refuse_if(kind: &Kind, object: &Value, causes: &[Cause]) -> Result<(), Refusal> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let group = if kind.store == EVENTS { "" } else { kind.group };
    Err(Refusal::invalid_kind(group, kind.kind, name, causes))
}

pub(super) fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

/// Sets a field, or takes it away.
pub(super) fn set(object: &mut Value, key: &str, value: Option<Value>) {
    let Some(value) = value else {
        return remove(object, key);
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    object[key] = value;
}
