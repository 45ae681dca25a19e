//! What Kubernetes' own controllers clean up.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    kinds::{KINDS, Kind, NAMESPACES},
    store::{Author, Store},
    strategy::set,
    write::Deletion,
};

const COLLECTOR: Author = Author {
    user_agent: "kube-controller-manager/garbage-collector",
    manager: "kube-controller-manager",
    verb: "delete",
    subresource: None,
};

/// One step: what it deletes may own others, which go in the next.
pub(super) fn collect(store: &mut Store, now: Timestamp) {
    let kinds = || KINDS.iter().filter(|kind| !kind.is_view());
    for kind in kinds() {
        let all: Vec<String> = store.all(kind).map(|(key, _)| key.clone()).collect();
        for key in all {
            // What was done for another may have been done to it.
            let Some(object) = store.get(kind, &key).cloned() else {
                continue;
            };
            let metadata = &object["metadata"];
            if namespace_ends(store, metadata) || is_orphaned(store, metadata) {
                delete(store, kind, metadata, now);
            } else if is_owner_for(metadata, "foregroundDeletion") {
                end_in_foreground(store, kind, &object, now);
            } else if is_owner_for(metadata, "orphan") {
                let dependents = dependents_of(store, &metadata["uid"]);
                for (kind, dependent) in dependents {
                    disown(store, kind, &dependent, &metadata["uid"]);
                }
                drop_finalizer(store, kind, &object, "orphan");
            }
        }
    }
    end_namespaces(store);
}

fn delete(store: &mut Store, kind: &Kind, metadata: &Value, now: Timestamp) {
    if metadata.get("deletionTimestamp").is_some() {
        return;
    }
    let text = |key: &str| metadata[key].as_str();
    let deletion = Deletion {
        uid: text("uid").map(str::to_owned),
        propagation: "Background".into(),
        ..Deletion::default()
    };
    let name = text("name").unwrap_or_default();
    // Gone already: as well.
    let _ = store.delete_one(&COLLECTOR, kind, text("namespace"), name, &deletion, now);
}

fn namespace_ends(store: &Store, metadata: &Value) -> bool {
    let namespace = metadata["namespace"].as_str();
    namespace.is_some_and(|namespace| {
        let found = store.get(&KINDS[NAMESPACES], namespace);
        found.is_none_or(|found| found["status"]["phase"] == "Terminating")
    })
}

fn owners(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["ownerReferences"].as_array().into_iter().flatten()
}

/// Whether it has owners, and none of them is there.
fn is_orphaned(store: &Store, metadata: &Value) -> bool {
    let mut owners = owners(metadata).peekable();
    owners.peek().is_some() && owners.all(|owner| !is_there(store, metadata, owner))
}

fn is_there(store: &Store, dependent: &Value, owner: &Value) -> bool {
    let text = |key: &str| owner[key].as_str().unwrap_or_default();
    let is_of =
        |kind: &&Kind| kind.kind == text("kind") && kind.api_version() == text("apiVersion");
    // What nobody knows here may be there.
    let Some(kind) = KINDS.iter().find(is_of) else {
        return true;
    };
    let namespace = dependent["namespace"].as_str().filter(|_| kind.namespaced);
    let found = store.get(kind, &super::store::key(namespace, text("name")));
    found.is_some_and(|found| found["metadata"]["uid"] == owner["uid"])
}

fn is_owner_for(metadata: &Value, finalizer: &str) -> bool {
    let mut finalizers = metadata["finalizers"].as_array().into_iter().flatten();
    metadata.get("deletionTimestamp").is_some() && finalizers.any(|found| found == finalizer)
}

fn dependents_of(store: &Store, uid: &Value) -> Vec<(&'static Kind, Arc<Value>)> {
    let kinds = KINDS.iter().filter(|kind| !kind.is_view());
    let all = kinds.flat_map(|kind| store.all(kind).map(move |(_, object)| (kind, object)));
    all.filter(|(_, object)| owners(&object["metadata"]).any(|owner| owner["uid"] == *uid))
        .map(|(kind, object)| (kind, object.clone()))
        .collect()
}

/// What it owns goes first.
fn end_in_foreground(store: &mut Store, kind: &Kind, owner: &Arc<Value>, now: Timestamp) {
    let dependents = dependents_of(store, &owner["metadata"]["uid"]);
    if dependents.is_empty() {
        drop_finalizer(store, kind, owner, "foregroundDeletion");
    }
    for (kind, dependent) in dependents {
        delete(store, kind, &dependent["metadata"], now);
    }
}

fn disown(store: &mut Store, kind: &Kind, dependent: &Value, uid: &Value) {
    let mut new = dependent.clone();
    let left = owners(&dependent["metadata"]).filter(|owner| owner["uid"] != *uid);
    let left: Vec<Value> = left.cloned().collect();
    let left =
        Some(Value::from(left)).filter(|left| left.as_array().is_some_and(|l| !l.is_empty()));
    set(&mut new["metadata"], "ownerReferences", left);
    store.put(
        &Author {
            verb: "patch",
            ..COLLECTOR
        },
        kind,
        new,
    );
}

fn drop_finalizer(store: &mut Store, kind: &Kind, object: &Arc<Value>, finalizer: &str) {
    let finalizers = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten();
    let left: Vec<Value> = finalizers
        .filter(|found| *found != finalizer)
        .cloned()
        .collect();
    let author = Author {
        verb: "patch",
        ..COLLECTOR
    };
    if left.is_empty() {
        store.remove(&author, kind, object);
        return;
    }
    let mut new = Value::clone(object);
    new["metadata"]["finalizers"] = left.into();
    store.put(&author, kind, new);
}

/// A namespace that ends and is empty is gone.
fn end_namespaces(store: &mut Store) {
    let namespaces = &KINDS[NAMESPACES];
    let ending: Vec<Arc<Value>> = store
        .all(namespaces)
        .map(|(_, namespace)| namespace.clone())
        .filter(|namespace| namespace["status"]["phase"] == "Terminating")
        .collect();
    for namespace in ending {
        let name = namespace["metadata"]["name"].as_str();
        let mut kinds = KINDS.iter().filter(|kind| kind.namespaced);
        if kinds.all(|kind| store.selected(kind, name, store.version()).is_empty()) {
            store.remove(&COLLECTOR, namespaces, &namespace);
        }
    }
}
