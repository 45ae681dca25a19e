//! Reading one object or many.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

use super::{
    Answer, core_event,
    kinds::Kind,
    refusal::Refusal,
    request::Target,
    selector::Selector,
    store::{Store, key},
};

/// The object that a GET asks for, or a list; as it was at a version.
pub(super) fn answer(store: &Store, target: &Target, version: u64) -> Result<Answer, Refusal> {
    match target.name {
        Some(name) => {
            match target.subresource {
                None => {}
                Some("status") if target.kind.has_status => {}
                Some("status") if target.kind.custom => {
                    return Err(Refusal::not_found(target.kind, name));
                }
                Some(_) => return Err(Refusal::unknown_path()),
            }
            not_in_future(store, target)?;
            let found = store.get_at(target.kind, &key(target.namespace, name), version);
            let found = found.ok_or_else(|| Refusal::not_found(target.kind, name))?;
            Ok(object_answer(200, target, found))
        }
        None => list(store, target, version),
    }
}

/// An object, or its metadata, as the request wants it.
pub(super) fn object_answer(code: u16, target: &Target, object: &Value) -> Answer {
    let body = object_bytes(target.kind, target.metadata_only, object);
    Answer { code, body }
}

pub(super) fn object_bytes(kind: &Kind, metadata_only: bool, object: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    if metadata_only {
        partial(&mut body, &object["metadata"]);
    } else {
        write(&mut body, core_event::view(kind, object).as_ref());
    }
    body
}

fn partial(body: &mut Vec<u8>, metadata: &Value) {
    body.extend(
        b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":",
    );
    write(body, metadata);
    body.push(b'}');
}

fn write(body: &mut Vec<u8>, value: &impl Serialize) {
    // Neither a Vec nor a Value fails.
    let _ = serde_json::to_writer(body, value);
}

fn not_in_future(store: &Store, target: &Target) -> Result<u64, Refusal> {
    let asked: u64 = target.query.version.parse().unwrap_or_default();
    let current = store.version();
    if asked > current {
        return Err(Refusal::too_large_version(asked, current));
    }
    Ok(asked)
}

fn list(store: &Store, target: &Target, version: u64) -> Result<Answer, Refusal> {
    let (kind, query) = (target.kind, &target.query);
    let selector = Selector::read(kind, &query.labels, &query.fields)?;
    let asked = not_in_future(store, target)?;
    let mut version = version.max(asked);
    if query.version_match == "Exact" {
        version = asked;
    }
    let mut start = None;
    if !query.continue_.is_empty() {
        let (at, key) = read_token(&query.continue_)
            .ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
        (version, start) = (at, Some(key));
    }
    if version < store.compacted() {
        let what = if start.is_some() {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
        } else {
            "The resourceVersion for the provided list is too old."
        };
        return Err(Refusal::expired(what.into()));
    }
    let objects = store.selected(kind, target.namespace, version);
    let rest = objects
        .into_iter()
        .filter(|(key, _)| start.as_ref().is_none_or(|start| key >= start));
    let is_selected = |object: &Arc<Value>| {
        selector.is_empty() || selector.matches(&core_event::view(kind, object))
    };
    let mut matching = rest.filter(|(_, object)| is_selected(object));

    // What is read from a cache comes at once.
    let is_cached = query.version == "0" && query.continue_.is_empty();
    let limit = match query.limit {
        0 => usize::MAX,
        _ if is_cached => usize::MAX,
        limit => limit,
    };
    let page: Vec<_> = matching.by_ref().take(limit).collect();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if kind.custom && !target.metadata_only {
        metadata["continue"] = "".into();
    }
    if let Some((next, _)) = matching.next() {
        metadata["continue"] = format!("{version}:{next}").into();
        if selector.is_empty() {
            metadata["remainingItemCount"] = (matching.count() + 1).into();
        }
    }
    Ok(Answer {
        code: 200,
        body: list_bytes(target, &metadata, &page),
    })
}

fn list_bytes(target: &Target, metadata: &Value, page: &[(String, Arc<Value>)]) -> Vec<u8> {
    let kind = target.kind;
    let (list, version) = if target.metadata_only {
        ("PartialObjectMetadata", "meta.k8s.io/v1".into())
    } else {
        (kind.kind, kind.api_version())
    };
    let mut body = format!(
        "{{\"kind\":\"{list}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    )
    .into_bytes();
    for (index, (_, object)) in page.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        if target.metadata_only {
            partial(&mut body, &object["metadata"]);
            continue;
        }
        match core_event::view(kind, object).as_ref() {
            // The items of built-in kinds do not say what they are.
            Value::Object(map) if !kind.custom => write(&mut body, &WithoutKind(map)),
            object => write(&mut body, object),
        }
    }
    body.extend(b"]}");
    body
}

struct WithoutKind<'a>(&'a Map<String, Value>);

impl Serialize for WithoutKind<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.0 {
            if key != "kind" && key != "apiVersion" {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

fn read_token(token: &str) -> Option<(u64, String)> {
    let (version, key) = token.split_once(':')?;
    Some((version.parse().ok()?, key.to_owned()))
}
