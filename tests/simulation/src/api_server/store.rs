//! The objects, and all that ever changed.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::kinds::{KINDS, Kind};

/// One change to one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object's version after it; also that of a deletion.
    pub version: u64,
    /// Who asked for it, by its `User-Agent`.
    pub user_agent: String,
    /// The field manager that it is booked on.
    pub manager: String,
    /// `create`, `update`, `patch`, `apply` or `delete`: what was asked for. An update may delete, too.
    pub verb: &'static str,
    /// The kind.
    pub plural: &'static str,
    /// Where the object is, unless it is in no namespace.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// Such as `status`.
    pub subresource: Option<String>,
    /// The object before; none if it was created.
    pub before: Option<Arc<Value>>,
    /// The object after; none if it is gone.
    pub after: Option<Arc<Value>>,
    pub(super) store: usize,
}

/// Who changes something, and by which request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Author<'a> {
    pub user_agent: &'a str,
    pub manager: &'a str,
    pub verb: &'static str,
    pub subresource: Option<&'a str>,
}

pub(super) type Objects = BTreeMap<String, Arc<Value>>;

#[derive(Debug)]
pub(super) struct Store {
    objects: Vec<Objects>,
    changes: Vec<Change>,
    version: u64,
    compacted: u64,
    /// How many names and uids were given.
    given: u64,
}

/// Objects are sorted by this, as in etcd.
pub(super) fn key(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

impl Store {
    pub fn new() -> Self {
        Self {
            objects: vec![Objects::new(); KINDS.len()],
            changes: Vec::new(),
            version: 0,
            compacted: 0,
            given: 0,
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn compact(&mut self, version: u64) {
        self.compacted = self.compacted.max(version.min(self.version));
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes after a version.
    pub fn changes_after(&self, version: u64) -> &[Change] {
        let first = self
            .changes
            .partition_point(|change| change.version <= version);
        &self.changes[first..]
    }

    pub fn get(&self, kind: &Kind, key: &str) -> Option<&Arc<Value>> {
        self.objects[kind.store].get(key)
    }

    pub fn all(&self, kind: &Kind) -> impl Iterator<Item = (&String, &Arc<Value>)> + use<'_> {
        self.objects[kind.store].iter()
    }

    /// The objects in a namespace, or all; as they were at a version.
    pub fn selected(&self, kind: &Kind, namespace: Option<&str>, version: u64) -> Objects {
        let is_in = |key: &str| match namespace {
            Some(namespace) => key
                .strip_prefix(namespace)
                .is_some_and(|rest| rest.starts_with('/')),
            None => true,
        };
        let first = namespace.map(|namespace| format!("{namespace}/"));
        let objects = self.objects[kind.store].range(first.unwrap_or_default()..);
        let objects = objects.take_while(|(key, _)| is_in(key));
        let mut selected: Objects = objects.map(|(k, v)| (k.clone(), v.clone())).collect();
        let later = self.changes_after(version).iter().rev();
        for change in later.filter(|change| change.store == kind.store) {
            let key = key(change.namespace.as_deref(), &change.name);
            if !is_in(&key) {
                continue;
            }
            match &change.before {
                Some(before) => selected.insert(key, before.clone()),
                None => selected.remove(&key),
            };
        }
        selected
    }

    /// One object as it was at a version.
    pub fn get_at(&self, kind: &Kind, key: &str, version: u64) -> Option<&Arc<Value>> {
        let is_it = |change: &&Change| {
            change.store == kind.store
                && self::key(change.namespace.as_deref(), &change.name) == key
        };
        match self.changes_after(version).iter().find(is_it) {
            Some(change) => change.before.as_ref(),
            None => self.get(kind, key),
        }
    }

    /// Puts an object in its place, as a new version.
    pub fn put(&mut self, author: &Author, kind: &Kind, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let (namespace, name) = (text("namespace"), text("name").unwrap_or_default());
        let key = key(namespace.as_deref(), &name);
        let before = self.objects[kind.store].insert(key, object.clone());
        let after = Some(object.clone());
        self.record(author, kind, namespace, name, before, after);
        object
    }

    /// Takes an object away. Returns it as it was, with the version of its end.
    pub fn remove(&mut self, author: &Author, kind: &Kind, object: &Value) -> Value {
        self.version += 1;
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let (namespace, name) = (text("namespace"), text("name").unwrap_or_default());
        let before = self.objects[kind.store].remove(&key(namespace.as_deref(), &name));
        let mut last = before.as_deref().cloned().unwrap_or_default();
        self.record(author, kind, namespace, name, before, None);
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        last
    }

    fn record(
        &mut self,
        author: &Author,
        kind: &Kind,
        namespace: Option<String>,
        name: String,
        before: Option<Arc<Value>>,
        after: Option<Arc<Value>>,
    ) {
        self.changes.push(Change {
            version: self.version,
            user_agent: author.user_agent.to_owned(),
            manager: author.manager.to_owned(),
            verb: author.verb,
            plural: kind.plural,
            namespace,
            name,
            subresource: author.subresource.map(str::to_owned),
            before,
            after,
            store: kind.store,
        });
    }

    pub fn new_uid(&mut self) -> String {
        self.given += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.given)
    }

    /// What is put behind a `generateName`.
    pub fn new_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.given += 1;
        let mut rest = self.given;
        let mut letter = || {
            let letter = LETTERS[usize::try_from(rest % 27).unwrap_or_default()];
            rest /= 27;
            char::from(letter)
        };
        (0..5).map(|_| letter()).collect()
    }
}
