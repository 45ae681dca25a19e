//! Structured merge: what two versions of an object differ in, and how an applied configuration goes
//! into one. As in <https://github.com/kubernetes-sigs/structured-merge-diff>.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{fields::Fields, schema::Schema};

/// What became of the fields from one version to the next.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub removed: Fields,
    pub modified: Fields,
    pub added: Fields,
}

pub(super) fn compare(schema: &Schema, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    walk(
        schema,
        Some(old),
        Some(new),
        &mut Vec::new(),
        &mut difference,
    );
    difference
}

fn walk(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<String>,
    out: &mut Difference,
) {
    if old == new {
        return;
    }
    let is_leaf = is_leaf(schema, old, new);
    if !is_leaf {
        let maps = (
            old.and_then(Value::as_object),
            new.and_then(Value::as_object),
        );
        if maps.0.is_some() || maps.1.is_some() {
            walk_maps(schema, maps.0, maps.1, path, out);
        }
        let lists = (old.and_then(Value::as_array), new.and_then(Value::as_array));
        if lists.0.is_some() || lists.1.is_some() {
            walk_lists(schema, lists.0, lists.1, path, out);
        }
    }
    match (old, new) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ if is_leaf => out.modified.insert(path),
        _ => {}
    }
}

/// Whether it is looked at as a whole. What is empty on both sides is, too.
fn is_leaf(schema: &Schema, old: Option<&Value>, new: Option<&Value>) -> bool {
    let is_empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    let is_atomic =
        |value: Option<&Value>| value.is_none_or(|v| v.is_null() || schema.is_atomic(v));
    is_empty(old) && is_empty(new) || is_atomic(old) && is_atomic(new)
}

fn walk_maps(
    schema: &Schema,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    path: &mut Vec<String>,
    out: &mut Difference,
) {
    let mut visit = |key: &String, before: Option<&Value>, after: Option<&Value>| {
        if before == after {
            return;
        }
        path.push(format!("f:{key}"));
        walk(schema.field(key).0, before, after, path, out);
        path.pop();
    };
    for (key, before) in old.into_iter().flatten() {
        visit(key, Some(before), new.and_then(|new| new.get(key)));
    }
    for (key, after) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(key)) {
            visit(key, None, Some(after));
        }
    }
}

fn walk_lists(
    schema: &Schema,
    old: Option<&Vec<Value>>,
    new: Option<&Vec<Value>>,
    path: &mut Vec<String>,
    out: &mut Difference,
) {
    let by_element = |items: Option<&Vec<Value>>| -> BTreeMap<String, usize> {
        let items = items.into_iter().flatten().enumerate();
        items
            .filter_map(|(index, item)| Some((schema.element(item)?, index)))
            .collect()
    };
    let (before, after) = (by_element(old), by_element(new));
    let mut visit = |element: &String| {
        let old = before
            .get(element)
            .zip(old)
            .map(|(index, items)| &items[*index]);
        let new = after
            .get(element)
            .zip(new)
            .map(|(index, items)| &items[*index]);
        path.push(element.clone());
        walk(schema.item(), old, new, path, out);
        path.pop();
    };
    before.keys().for_each(&mut visit);
    after
        .keys()
        .filter(|element| !before.contains_key(*element))
        .for_each(visit);
}

/// All fields of an object that whoever applies it comes to own.
pub(super) fn fields_of(schema: &Schema, value: &Value) -> Fields {
    let mut fields = Fields::default();
    collect(schema, value, &mut Vec::new(), &mut fields);
    fields
}

fn collect(schema: &Schema, value: &Value, path: &mut Vec<String>, out: &mut Fields) {
    match value {
        Value::Null => {}
        value if schema.is_atomic(value) => out.insert(path),
        Value::Object(map) => {
            for (key, value) in map {
                let (field, declared) = schema.field(key);
                path.push(format!("f:{key}"));
                collect(field, value, path, out);
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if is_empty || !declared {
                    out.insert(path);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            for item in items {
                let Some(element) = schema.element(item) else {
                    continue;
                };
                path.push(element);
                collect(schema.item(), item, path, out);
                out.insert(path);
                path.pop();
            }
        }
        _ => out.insert(path),
    }
}

/// The live object with what is applied to it.
pub(super) fn merge(schema: &Schema, live: &Value, applied: &Value) -> Value {
    match (live, applied) {
        (Value::Object(ours), Value::Object(theirs)) if !schema.is_atomic(applied) => {
            let mut merged = ours.clone();
            for (key, value) in theirs {
                let value = match ours.get(key) {
                    Some(live) => merge(schema.field(key).0, live, value),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(ours), Value::Array(theirs)) if !schema.is_atomic(applied) => {
            Value::Array(merge_lists(schema, ours, theirs))
        }
        // Nothing is applied to it.
        (Value::Object(_) | Value::Array(_), Value::Null) if !schema.is_atomic(live) => {
            live.clone()
        }
        _ => applied.clone(),
    }
}

/// The applied order holds for what is applied; the rest stays where it is in between.
fn merge_lists(schema: &Schema, ours: &[Value], theirs: &[Value]) -> Vec<Value> {
    let named = |items: &[Value]| -> Vec<String> {
        let names = items.iter().map(|item| schema.element(item));
        names.map(Option::unwrap_or_default).collect()
    };
    let (left, right) = (named(ours), named(theirs));
    let mut shared = right.iter().filter(|element| left.contains(element));
    let mut next_shared = shared.next();
    let mut done: Vec<&String> = Vec::new();
    let mut merged = Vec::new();
    let merge_item = |index: usize| {
        let before = left.iter().position(|element| *element == right[index]);
        match before {
            Some(before) => merge(schema.item(), &ours[before], &theirs[index]),
            None => theirs[index].clone(),
        }
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                done.push(&right[r]);
                merged.push(merge_item(r));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if right.contains(&left[l]) && next_shared.is_some_and(|next| *next != left[l]) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !right.contains(&left[l]) {
                merged.push(ours[l].clone());
                l += 1;
                continue;
            }
            if done.contains(&&left[l]) {
                l += 1;
            }
        }
        if r < right.len() {
            done.push(&right[r]);
            merged.push(merge_item(r));
            if next_shared == Some(&right[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    merged
}

/// The object without these fields. What is left empty becomes null.
pub(super) fn without(schema: &Schema, value: &Value, fields: &Fields) -> Value {
    match value {
        _ if schema.is_atomic(value) => value.clone(),
        Value::Object(map) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let element = format!("f:{key}");
                if fields.has(&element) {
                    continue;
                }
                let value = match fields.below(&element) {
                    Some(below) => without(schema.field(key).0, value, below),
                    None => value.clone(),
                };
                kept.insert(key.clone(), value);
            }
            if kept.is_empty() && !map.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        Value::Array(items) => {
            let mut kept = Vec::new();
            for item in items {
                let element = schema.element(item).unwrap_or_default();
                if fields.has(&element) {
                    continue;
                }
                kept.push(match fields.below(&element) {
                    Some(below) => without(schema.item(), item, below),
                    None => item.clone(),
                });
            }
            if kept.is_empty() && !items.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        _ => value.clone(),
    }
}
