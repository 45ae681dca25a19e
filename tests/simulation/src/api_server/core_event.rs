//! Events have two faces: they are kept as those of `events.k8s.io`, and also served as the core's.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    kinds::{EVENTS, KINDS, Kind},
    strategy::complete,
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
            super::strategy::remove(&mut object, key);
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
