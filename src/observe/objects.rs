//! Our own objects: kube's store, which its controller reads; their names by namespace; and each as the operator
//! wrote it last, until the watch has told of that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher::Event,
    },
};

use super::{
    Guarded,
    watched::{Watched, version},
};
use crate::api::AirflowWorkloadIdentity;

pub(super) type Object = Guarded<AirflowWorkloadIdentity>;

/// All of them, also those that do not parse.
#[derive(Clone)]
pub struct Objects {
    /// By reference.
    pub store: Store<Object>,
    names: Watched<()>,
    written: Arc<Mutex<HashMap<ObjectRef<Object>, AirflowWorkloadIdentity>>>,
}

impl Objects {
    /// None yet, and what takes them from the watch.
    pub fn watched() -> (Self, impl FnMut(&Event<Object>) + Send + 'static) {
        let (store, mut writer) = reflector::store();
        let objects = Self {
            store,
            names: Watched::default(),
            written: Arc::default(),
        };
        let kept = objects.clone();
        let keep = move |event: &Event<Object>| {
            writer.apply_watcher_event(event);
            kept.names.apply(event, |_| ());
            match event {
                Event::Apply(object) | Event::Delete(object) => kept.told(&reference(object)),
                Event::InitDone => {
                    let all: Vec<_> = kept.last_written().keys().cloned().collect();
                    for reference in &all {
                        kept.told(reference);
                    }
                }
                Event::Init | Event::InitApply(_) => {}
            }
        };
        (objects, keep)
    }

    /// These are all there are.
    #[must_use]
    pub fn listed(objects: Vec<Object>) -> Self {
        let (listed, mut keep) = Self::watched();
        keep(&Event::Init);
        for object in objects {
            keep(&Event::InitApply(object));
        }
        keep(&Event::InitDone);
        listed
    }

    /// Takes what the operator has just written, as the API server answered.
    pub fn written(&self, mut object: AirflowWorkloadIdentity) {
        object.metadata.managed_fields = None;
        let reference = reference(&object);
        self.last_written().insert(reference.clone(), object);
        self.told(&reference);
    }

    /// The object as it is, if the operator wrote it after what the watch has told.
    #[must_use]
    pub fn newest(&self, watched: &AirflowWorkloadIdentity) -> AirflowWorkloadIdentity {
        let newer = |written: &&AirflowWorkloadIdentity| {
            written.metadata.uid == watched.metadata.uid
                && version(&written.metadata) > version(&watched.metadata)
        };
        let written = self.last_written();
        let newest = written.get(&reference(watched)).filter(newer);
        newest.unwrap_or(watched).clone()
    }

    /// Waits until all were listed once.
    pub async fn filled(&self) {
        self.names.filled().await;
    }

    /// All there are.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.store.state()
    }

    /// All of a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let names = self.names.in_namespace(namespace).into_iter();
        names
            .filter_map(|(name, _)| self.store.get(&ObjectRef::new(&name).within(namespace)))
            .collect()
    }

    /// What the store shows, or shows no longer, need not be kept beside it.
    fn told(&self, reference: &ObjectRef<Object>) {
        let mut written = self.last_written();
        let stored = self.store.get(reference);
        let is_newer = |written: &AirflowWorkloadIdentity| {
            stored.is_some_and(|stored| version(&written.metadata) > version(stored.meta()))
        };
        if !written.get(reference).is_some_and(is_newer) {
            written.remove(reference);
        }
    }

    fn last_written(&self) -> MutexGuard<'_, HashMap<ObjectRef<Object>, AirflowWorkloadIdentity>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reference(object: &impl ResourceExt) -> ObjectRef<Object> {
    let namespace = object.namespace().unwrap_or_default();
    ObjectRef::new(&object.name_any()).within(&namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(version: u64) -> AirflowWorkloadIdentity {
        let object = json!({
            "metadata": {
                "name": "prod", "namespace": "airflow", "uid": "1", "resourceVersion": version.to_string(),
            },
            "spec": { "identity": {} },
        });
        serde_json::from_value(object).unwrap()
    }

    /// The version that a pass goes by, whose watch has told `watched`.
    fn seen(objects: &Objects, watched: u64) -> u64 {
        version(&objects.newest(&object(watched)).metadata)
    }

    #[test]
    fn what_was_written_last_is_known_until_the_store_shows_it() {
        let (objects, mut keep) = Objects::watched();
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(1)))));
        keep(&Event::InitDone);
        objects.written(object(5));
        assert_eq!(seen(&objects, 1), 5);
        keep(&Event::Apply(Guarded(Ok(object(3)))));
        assert_eq!(seen(&objects, 3), 5);

        // A list that is not complete shows nothing yet.
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(5)))));
        assert_eq!(seen(&objects, 3), 5);
        keep(&Event::InitDone);
        assert!(objects.last_written().is_empty());
        assert_eq!(seen(&objects, 7), 7);
    }

    #[test]
    fn nothing_is_kept_of_an_object_that_is_gone() {
        let (objects, mut keep) = Objects::watched();
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(1)))));
        keep(&Event::InitDone);
        objects.written(object(5));
        assert_eq!(objects.last_written().len(), 1);
        keep(&Event::Delete(Guarded(Ok(object(6)))));
        assert!(objects.last_written().is_empty());
        // The answer to a write of before.
        objects.written(object(5));
        assert!(objects.last_written().is_empty());
    }
}
