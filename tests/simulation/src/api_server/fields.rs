//! A set of an object's fields, as `FieldsV1` writes it down.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>

use std::collections::{BTreeMap, btree_map};

use serde_json::{Map, Value};

use super::schema::Schema;

/// Fields by the last element of their path: `f:name`, `k:{"key":"value"}` or `v:"value"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(BTreeMap<String, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// Whether this very field is in the set, and not only some below it.
    member: bool,
    below: Fields,
}

impl Fields {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The root is no field.
    pub fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    pub fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// The fields below one.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.0
            .get(element)
            .map(|node| &node.below)
            .filter(|below| !below.is_empty())
    }

    pub fn union(&mut self, other: &Self) {
        for (element, theirs) in &other.0 {
            let node = self.0.entry(element.clone()).or_default();
            node.member |= theirs.member;
            node.below.union(&theirs.below);
        }
    }

    /// Takes exactly these fields out.
    pub fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.0.retain(|element, node| {
            if let Some(theirs) = other.0.get(element) {
                node.member &= !theirs.member;
                node.below.subtract(&theirs.below);
            }
            node.member || !node.below.is_empty()
        });
    }

    /// Keeps exactly these fields.
    pub fn intersect(&mut self, other: &Self) {
        self.0.retain(|element, node| {
            let Some(theirs) = other.0.get(element) else {
                return false;
            };
            node.member &= theirs.member;
            node.below.intersect(&theirs.below);
            node.member || !node.below.is_empty()
        });
    }

    /// Takes a field and all below it out.
    pub fn cut(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let btree_map::Entry::Occupied(mut node) = self.0.entry(format!("f:{first}")) else {
            return;
        };
        if rest.is_empty() {
            node.remove();
            return;
        }
        node.get_mut().below.cut(rest);
        if !node.get().member && node.get().below.is_empty() {
            node.remove();
        }
    }

    /// Takes out this field but not what is below it.
    pub fn drop_member(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let btree_map::Entry::Occupied(mut node) = self.0.entry(format!("f:{first}")) else {
            return;
        };
        if rest.is_empty() {
            node.get_mut().member = false;
        } else {
            node.get_mut().below.drop_member(rest);
        }
        if !node.get().member && node.get().below.is_empty() {
            node.remove();
        }
    }

    /// Declared fields that only have fields below them become members themselves.
    pub fn name_parents(&mut self, schema: &Schema) {
        for (element, node) in &mut self.0 {
            let (below, declared) = Schema::step(schema, element);
            node.member |= declared && !node.below.is_empty();
            node.below.name_parents(below);
        }
    }

    /// Their paths as in messages: `.metadata.labels`, `.list[name="x"]`, `.set[="x"]`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, parent: &str, paths: &mut Vec<String>) {
        // As the real one: the fields of one level before those below it.
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            paths.push(format!("{parent}{}", spelled(element)));
        }
        for (element, node) in &self.0 {
            node.below
                .collect(&format!("{parent}{}", spelled(element)), paths);
        }
    }

    pub fn to_json(&self) -> Value {
        let node = |node: &Node| {
            let mut json = node.below.to_map();
            if node.member && !json.is_empty() {
                json.insert(".".into(), Value::Object(Map::new()));
            }
            Value::Object(json)
        };
        Value::Object(self.0.iter().map(|(k, n)| (k.clone(), node(n))).collect())
    }

    fn to_map(&self) -> Map<String, Value> {
        match self.to_json() {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    pub fn from_json(json: &Value) -> Self {
        let Some(map) = json.as_object() else {
            return Self::default();
        };
        let elements = map.iter().filter(|(element, _)| *element != ".");
        let nodes = elements.map(|(element, below)| {
            let is_leaf = below.as_object().is_none_or(Map::is_empty);
            let node = Node {
                member: is_leaf || below.get(".").is_some(),
                below: Self::from_json(below),
            };
            (element.clone(), node)
        });
        Self(nodes.collect())
    }
}

fn spelled(element: &str) -> String {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys = json(keys);
            let keys = keys.as_object().into_iter().flatten();
            let keys: Vec<String> = keys.map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => element.to_owned(),
    }
}
