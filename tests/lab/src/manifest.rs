//! Manifests that differ from others in a few fields.

use serde_json::Value;

/// Lays `patch` over `target`: objects field by field, everything else as a whole.
pub fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}
