//! Our own kinds, by the CRDs of this repository.

use std::fmt;

use serde_json::{Map, Value};

use super::{
    refusal::Cause,
    schema::{Key, Rules, Schema, Shape, metadata, object, of},
};

/// The schema of a kind, by its CRD.
///
/// # Panics
/// If it is not one.
pub(super) fn schema(yaml: &str) -> Schema {
    let crd: Value = serde_saphyr::from_str(yaml).expect("a CRD");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut read = read(schema);
    if let Shape::Struct { fields, .. } = &mut read.shape {
        fields.insert("metadata".into(), metadata());
        for name in ["apiVersion", "kind"] {
            fields.insert(name.into(), of(Shape::Scalar));
        }
    }
    read
}

fn read(schema: &Value) -> Schema {
    let text = |key: &str| schema[key].as_str().map(str::to_owned);
    let number = |key: &str| schema[key].as_u64();
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let items = || Box::new(read(&schema["items"]));
    let mut inner = None;
    let shape = match schema["type"].as_str() {
        Some("object") => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(fields), _) => Shape::Struct {
                fields: fields.iter().map(|(k, v)| (k.clone(), read(v))).collect(),
                open: is_open,
            },
            (_, of @ Value::Object(_)) => Shape::Map(Box::new(read(of))),
            _ if is_open => Shape::Any,
            _ => object([]).shape.closed(),
        },
        Some("array") => match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Shape::Set(items()),
            Some("map") => Shape::Keyed(keys(schema), items()),
            _ => {
                inner = Some(items());
                Shape::Atomic
            }
        },
        Some(_) => Shape::Scalar,
        None => Shape::Any,
    };
    let list = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    let required = list("required").into_iter();
    Schema {
        shape,
        default: schema.get("default").cloned(),
        rules: Rules {
            type_: text("type"),
            required: required
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            one_of: list("enum"),
            length: (number("minLength"), number("maxLength")),
            items: (number("minItems"), number("maxItems")),
            pattern: text("pattern").map(|pattern| pattern.parse().expect("a pattern")),
            format: text("format"),
            inner,
        },
    }
}

fn keys(schema: &Value) -> Vec<Key> {
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let names = keys.into_iter().flatten().filter_map(Value::as_str);
    let key = |name: &str| Key {
        name: name.to_owned(),
        default: schema["items"]["properties"][name].get("default").cloned(),
    };
    names.map(key).collect()
}

impl Shape {
    fn closed(mut self) -> Self {
        if let Self::Struct { open, .. } = &mut self {
            *open = false;
        }
        self
    }
}

impl Schema {
    /// Takes out what is not declared.
    pub fn prune(&self, value: &mut Value) {
        match (&self.shape, value) {
            (Shape::Struct { fields, open }, Value::Object(map)) => {
                if !open {
                    map.retain(|key, _| fields.contains_key(key));
                }
                for (key, value) in map {
                    if let Some(schema) = fields.get(key) {
                        schema.prune(value);
                    }
                }
            }
            (Shape::Map(of), Value::Object(map)) => map.values_mut().for_each(|v| of.prune(v)),
            (_, Value::Array(items)) => {
                let of = self.inner();
                for item in items {
                    of.prune(item);
                }
            }
            _ => {}
        }
    }

    /// Puts in what is missing and has a default.
    pub fn fill_in(&self, value: &mut Value) {
        match (&self.shape, value) {
            (Shape::Struct { fields, .. }, Value::Object(map)) => {
                for (key, schema) in fields {
                    if map.get(key).is_none_or(Value::is_null)
                        && let Some(default) = &schema.default
                    {
                        map.insert(key.clone(), default.clone());
                    }
                    if let Some(value) = map.get_mut(key) {
                        schema.fill_in(value);
                    }
                }
            }
            (Shape::Map(of), Value::Object(map)) => map.values_mut().for_each(|v| of.fill_in(v)),
            (_, Value::Array(items)) => {
                let of = self.inner();
                for item in items {
                    of.fill_in(item);
                }
            }
            _ => {}
        }
    }

    fn inner(&self) -> &Self {
        match &self.rules.inner {
            Some(inner) => inner,
            None => self.item(),
        }
    }

    /// What is wrong with an object. CEL rules are not looked at.
    pub fn check(&self, object: &Value, causes: &mut Vec<Cause>) {
        self.check_at(&Place::Root, object, causes);
    }

    fn check_at(&self, at: &Place, value: &Value, causes: &mut Vec<Cause>) {
        let rules = &self.rules;
        if let Some(type_) = &rules.type_
            && !is_of(type_, value)
        {
            causes.push(Cause::wrong_type(&at.to_string(), value, type_));
            return;
        }
        if !rules.one_of.is_empty() && !rules.one_of.contains(value) {
            causes.push(Cause::unsupported(&at.to_string(), value, &rules.one_of));
        }
        match value {
            Value::Object(map) => self.check_fields(at, map, causes),
            Value::Array(items) => {
                let count = items.len() as u64;
                match rules.items {
                    (Some(least), _) if count < least => {
                        causes.push(Cause::too_few(&at.to_string(), count, least));
                    }
                    (_, Some(most)) if count > most => {
                        causes.push(Cause::too_many(&at.to_string(), count, most));
                    }
                    _ => {}
                }
                for (index, item) in items.iter().enumerate() {
                    self.inner().check_at(&Place::Item(at, index), item, causes);
                }
                self.check_keys(at, items, causes);
            }
            Value::String(text) => self.check_text(at, text, causes),
            _ => {}
        }
    }

    fn check_fields(&self, at: &Place, map: &Map<String, Value>, causes: &mut Vec<Cause>) {
        for name in &self.rules.required {
            if !map.contains_key(name) {
                causes.push(Cause::required(&Place::Field(at, name).to_string()));
            }
        }
        for (key, value) in map {
            // The metadata is not theirs.
            let is_root = matches!(at, Place::Root);
            if is_root && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                continue;
            }
            let (schema, _) = self.field(key);
            schema.check_at(&Place::Field(at, key), value, causes);
        }
    }

    fn check_keys(&self, at: &Place, items: &[Value], causes: &mut Vec<Cause>) {
        let elements: Vec<Option<String>> = items.iter().map(|item| self.element(item)).collect();
        for (index, element) in elements.iter().enumerate() {
            if element.is_none() || !elements[..index].contains(element) {
                continue;
            }
            let item = &items[index];
            let key = match &self.shape {
                Shape::Keyed(keys, _) => {
                    let key = |key: &Key| (key.name.clone(), item[&key.name].clone());
                    Value::Object(keys.iter().map(key).collect())
                }
                _ => item.clone(),
            };
            let at = Place::Item(at, index).to_string();
            causes.push(Cause::duplicate(&at, &key));
        }
    }

    fn check_text(&self, at: &Place, text: &str, causes: &mut Vec<Cause>) {
        let rules = &self.rules;
        let length = text.chars().count() as u64;
        match rules.length {
            (Some(least), _) if length < least => {
                causes.push(Cause::too_short(&at.to_string(), text, least));
            }
            (_, Some(most)) if length > most => {
                causes.push(Cause::too_long(&at.to_string(), most));
            }
            _ => {}
        }
        if let Some(pattern) = &rules.pattern
            && !pattern.is_match(text)
        {
            causes.push(Cause::no_match(&at.to_string(), text, pattern.as_str()));
        }
        if rules.format.as_deref() == Some("uuid") && !is_uuid(text) {
            causes.push(Cause::wrong_format(&at.to_string(), text, "uuid"));
        }
    }
}

/// Where something is in an object; it is spelled out only for who has to be told.
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

fn is_of(type_: &str, value: &Value) -> bool {
    match type_ {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

/// With or without dashes, as the API server takes it.
fn is_uuid(text: &str) -> bool {
    let digits = text.chars().filter(|c| *c != '-');
    digits.clone().count() == 32 && digits.clone().all(|c| c.is_ascii_hexdigit())
}
