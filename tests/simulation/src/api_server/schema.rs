//! What is known of an object's shape: enough to default, prune and validate our own kinds, and to
//! tell for all kinds what belongs to whom.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// A part of an object.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub shape: Shape,
    pub default: Option<Value>,
    pub rules: Rules,
}

#[derive(Debug, Default)]
pub(super) enum Shape {
    /// Nothing is known: maps are open, lists are atomic.
    #[default]
    Any,
    Scalar,
    /// Replaced as a whole.
    Atomic,
    Struct {
        fields: BTreeMap<String, Schema>,
        /// Whether fields that are not declared are kept.
        open: bool,
    },
    Map(Box<Schema>),
    Set(Box<Schema>),
    /// A list of things with these keys.
    Keyed(Vec<Key>, Box<Schema>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub name: String,
    pub default: Option<Value>,
}

/// What a value has to be. Of our own kinds only.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub type_: Option<String>,
    pub required: Vec<String>,
    pub one_of: Vec<Value>,
    pub length: (Option<u64>, Option<u64>),
    pub items: (Option<u64>, Option<u64>),
    pub pattern: Option<Regex>,
    pub format: Option<String>,
    /// What the items of an atomic list have to be, or the fields of an atomic map.
    pub inner: Option<Box<Schema>>,
}

static ANY: Schema = Schema {
    shape: Shape::Any,
    default: None,
    rules: Rules {
        type_: None,
        required: Vec::new(),
        one_of: Vec::new(),
        length: (None, None),
        items: (None, None),
        pattern: None,
        format: None,
        inner: None,
    },
};

impl Schema {
    /// What a field is, and whether it is declared by name.
    pub fn field(&self, name: &str) -> (&Self, bool) {
        match &self.shape {
            Shape::Struct { fields, .. } => (fields.get(name).unwrap_or(&ANY), true),
            Shape::Map(of) => (of, false),
            _ => (&ANY, false),
        }
    }

    pub fn item(&self) -> &Self {
        match &self.shape {
            Shape::Set(of) | Shape::Keyed(_, of) => of,
            _ => &ANY,
        }
    }

    /// The way down one element of a path.
    pub fn step<'a>(schema: &'a Self, element: &str) -> (&'a Self, bool) {
        match element.strip_prefix("f:") {
            Some(name) => schema.field(name),
            None => (schema.item(), false),
        }
    }

    /// What a list's item is called in a path; none if the list is atomic.
    pub fn element(&self, item: &Value) -> Option<String> {
        match &self.shape {
            Shape::Set(_) => Some(format!("v:{item}")),
            Shape::Keyed(keys, _) => {
                let mut named: Vec<(&str, Value)> = Vec::with_capacity(keys.len());
                for key in keys {
                    let value = item.get(&key.name).or(key.default.as_ref());
                    named.push((&key.name, value.cloned().unwrap_or_default()));
                }
                named.sort_by_key(|(name, _)| *name);
                let named: Vec<String> = named
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                Some(format!("k:{{{}}}", named.join(",")))
            }
            _ => None,
        }
    }

    /// Which lists and maps are replaced as a whole: whether this value is one.
    pub fn is_atomic(&self, value: &Value) -> bool {
        match self.shape {
            Shape::Scalar | Shape::Atomic => true,
            Shape::Any | Shape::Struct { .. } | Shape::Map(_) => !value.is_object(),
            Shape::Set(_) | Shape::Keyed(..) => !value.is_array(),
        }
    }
}

// For the kinds that are built in.

pub(super) fn any() -> Schema {
    Schema::default()
}

pub(super) fn of(shape: Shape) -> Schema {
    Schema {
        shape,
        ..Schema::default()
    }
}

pub(super) fn atomic() -> Schema {
    of(Shape::Atomic)
}

pub(super) fn map() -> Schema {
    of(Shape::Map(Box::new(of(Shape::Scalar))))
}

pub(super) fn set() -> Schema {
    of(Shape::Set(Box::new(of(Shape::Scalar))))
}

pub(super) fn keyed<const N: usize>(keys: [&str; N], item: Schema) -> Schema {
    let keys = keys.map(|name| Key {
        name: name.to_owned(),
        default: (name == "protocol").then(|| "TCP".into()),
    });
    of(Shape::Keyed(keys.into(), Box::new(item)))
}

pub(super) fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    let fields = fields.map(|(name, schema)| (name.to_owned(), schema));
    of(Shape::Struct {
        fields: fields.into(),
        open: true,
    })
}

/// `ObjectMeta`.
pub(super) fn metadata() -> Schema {
    object([
        ("labels", map()),
        ("annotations", map()),
        ("finalizers", set()),
        ("ownerReferences", keyed(["uid"], atomic())),
        ("managedFields", atomic()),
    ])
}
