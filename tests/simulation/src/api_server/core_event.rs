//! Events have two faces: they are kept as those of `events.k8s.io`, and also served as the core's.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    kinds::{EVENTS, KINDS, Kind},
    refusal::Cause,
    strategy::{complete, remove},
};

/// The names of fields in `events.k8s.io` and in the core.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// An object as `kind` shows it.
pub(super) fn view<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    if !kind.is_view() {
        return Cow::Borrowed(object);
    }
    let mut object = renamed(object.clone(), NAMES);
    object["apiVersion"] = kind.api_version().into();
    complete(&mut object, kind.zero());
    Cow::Owned(object)
}

/// An object that came as `kind`, as it is kept.
pub(super) fn stored(kind: &Kind, object: Value) -> Value {
    if !kind.is_view() {
        return object;
    }
    let mut object = renamed(object, NAMES.map(|(kept, shown)| (shown, kept)));
    object["apiVersion"] = KINDS[EVENTS].api_version().into();
    for key in ["reportingController", "reportingInstance"] {
        if object[key] == "" {
            remove(&mut object, key);
        }
    }
    complete(&mut object, KINDS[EVENTS].zero());
    object
}

fn renamed(mut object: Value, names: [(&str, &str); 7]) -> Value {
    if let Some(map) = object.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
    }
    object
}

/// Longest note.
const NOTE: usize = 1024;

/// What an event has to say; those of old, without a time, say less.
pub(super) fn check_new(event: &Value, causes: &mut Vec<Cause>) {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    if event["eventTime"].is_null() {
        // Of the core's, there is one of these at least.
        if event["deprecatedFirstTimestamp"].is_null() && event.get("deprecatedCount").is_none() {
            causes.push(Cause::required("eventTime"));
        }
        return;
    }
    for key in [
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if text(key).is_empty() {
            causes.push(Cause::required(key));
        }
    }
    let limits = [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
    ];
    let more = [("reason", "reason", 128), ("note", "message", NOTE)];
    for (key, name, most) in limits.into_iter().chain(more) {
        if text(key).len() > most {
            let why = format!("can have at most {most} characters");
            causes.push(Cause::invalid(name, "\"\"", &why));
        }
    }
}

/// Nothing but how often it was seen changes.
pub(super) fn check_changed(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if new["eventTime"].is_null() {
        return;
    }
    let series = &new["series"];
    if *series != old["series"] && series["count"].as_i64().is_some_and(|count| count < 2) {
        causes.push(Cause::invalid(
            "series.count",
            "\"\"",
            "should be at least 2",
        ));
    }
    for (key, name) in [
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("action", "action"),
    ] {
        if new.get(key) != old.get(key) {
            causes.push(Cause::immutable(name, &new[key].to_string()));
        }
    }
}
