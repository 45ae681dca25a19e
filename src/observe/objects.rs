//! Our own objects: their names, by which kube's controller goes; and each as the watch told it last, or as the
//! operator wrote it since.

use std::{
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource, ResourceExt,
    api::ObjectMeta,
    core::PartialObjectMeta,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher::Event,
    },
};

use super::{
    Guarded,
    packed::{Marks, Packed},
    watched::Watched,
};
use crate::api::{AirflowWorkloadIdentity, CredentialRecord};

/// By uid, the credentials that an object's last pass let go of, which its status may not tell yet.
pub(super) type Left = HashMap<String, Vec<CredentialRecord>>;

/// Our kind; one that does not parse does not hide the others.
pub(super) type Object = Guarded<AirflowWorkloadIdentity>;

/// What kube's controller keeps of an object: no more than what it is called.
pub type Stub = PartialObjectMeta<AirflowWorkloadIdentity>;

/// All of them, also those that do not parse.
#[derive(Clone)]
pub struct Objects {
    /// What they are called.
    pub stubs: Store<Stub>,
    kept: Watched<Packed>,
    left: Arc<Mutex<Left>>,
}

impl Objects {
    /// None yet, and what takes them from the watch.
    pub fn watched() -> (Self, impl FnMut(&Event<Object>) + Send + 'static) {
        let (stubs, mut writer) = reflector::store();
        let kept = Watched::told();
        let objects = Self {
            stubs,
            kept: kept.clone(),
            left: Arc::default(),
        };
        let mut is_filled = false;
        let left = objects.left.clone();
        let keep = move |event: &Event<Object>| {
            if let Event::Delete(object) = event {
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                locked(&left).remove(uid);
            }
            // What kube starts a pass for has to be found.
            kept.apply(event, Packed::new);
            if let (Event::InitApply(object), true) = (event, is_filled) {
                writer.apply_watcher_event(&Event::Apply(Self::stub(object)));
            }
            writer.apply_watcher_event(&match event {
                Event::Init => Event::Init,
                Event::InitApply(object) => Event::InitApply(Self::stub(object)),
                Event::InitDone => Event::InitDone,
                Event::Apply(object) => Event::Apply(Self::stub(object)),
                Event::Delete(object) => Event::Delete(Self::stub(object)),
            });
            is_filled |= matches!(event, Event::InitDone);
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

    /// What an object is called.
    #[must_use]
    pub fn stub(object: &Object) -> Stub {
        Stub {
            metadata: ObjectMeta {
                name: object.meta().name.clone(),
                namespace: object.meta().namespace.clone(),
                ..ObjectMeta::default()
            },
            types: None,
            _phantom: PhantomData,
        }
    }

    /// Takes what the operator has just written, as the API server answered.
    pub fn written(&self, mut object: AirflowWorkloadIdentity) {
        object.metadata.managed_fields = None;
        let object = Guarded(Ok(object));
        self.kept.written(object.meta(), Packed::new(&object));
    }

    /// The object as it is, as far as is known.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        let packed = self.kept.get(namespace, name)?;
        Some(packed.unpack())
    }

    /// A new pass of the object decides anew what it lets go of, beginning with these.
    pub fn forgets(
        &self,
        object: &AirflowWorkloadIdentity,
        credentials: &BTreeSet<CredentialRecord>,
    ) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let mut left = self.left();
        if credentials.is_empty() {
            left.remove(&uid);
        } else {
            left.insert(uid, credentials.iter().cloned().collect());
        }
    }

    pub(super) fn left(&self) -> MutexGuard<'_, Left> {
        locked(&self.left)
    }

    /// Waits until all were listed once.
    pub async fn filled(&self) {
        self.kept.filled().await;
    }

    /// All there are.
    pub fn all(&self) -> impl Iterator<Item = Object> {
        self.kept.all().into_iter().map(|packed| packed.unpack())
    }

    /// How many are ready, and the others.
    pub fn by_readiness(&self) -> (usize, impl Iterator<Item = Object>) {
        let (ready, others): (Vec<_>, Vec<_>) = {
            let all = self.kept.all().into_iter();
            all.partition(|packed| packed.is_ready())
        };
        let others = others.into_iter().map(|packed| packed.unpack());
        (ready.len(), others)
    }

    /// References to all of them that parse.
    pub(super) fn references(&self) -> Vec<ObjectRef<Stub>> {
        let stubs = self.stubs.state();
        let readable = stubs.iter().filter(|stub| {
            let namespace = stub.namespace().unwrap_or_default();
            let packed = self.kept.get(&namespace, &stub.name_any());
            packed.is_some_and(|packed| packed.is_readable())
        });
        readable
            .map(|stub| ObjectRef::from_obj(stub.as_ref()))
            .collect()
    }

    /// References to those of a namespace that parse.
    pub(super) fn references_in(&self, namespace: &str) -> Vec<ObjectRef<Stub>> {
        let all = self.kept.in_namespace(namespace).into_iter();
        all.filter(|(_, packed)| packed.is_readable())
            .map(|(name, _)| ObjectRef::new(&name).within(namespace))
            .collect()
    }

    /// Those of a namespace that have one of the marks, and perhaps a few others.
    pub(super) fn marked(&self, namespace: &str, marks: Marks) -> impl Iterator<Item = Object> {
        let all = self.kept.in_namespace(namespace).into_iter();
        all.filter(move |(_, packed)| packed.has_any(&marks))
            .map(|(_, packed)| packed.unpack())
    }
}

fn locked(left: &Mutex<Left>) -> MutexGuard<'_, Left> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::version, *};

    fn object(version: u64) -> AirflowWorkloadIdentity {
        let object = json!({
            "metadata": {
                "name": "prod", "namespace": "airflow", "uid": "1", "resourceVersion": version.to_string(),
            },
            "spec": { "identity": {} },
        });
        serde_json::from_value(object).unwrap()
    }

    /// The version that a pass goes by.
    fn seen(objects: &Objects) -> Option<u64> {
        let object = objects.get("airflow", "prod")?;
        Some(version(object.meta()))
    }

    #[test]
    fn what_was_written_last_is_known_until_the_watch_shows_it() {
        let (objects, mut keep) = Objects::watched();
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(1)))));
        keep(&Event::InitDone);
        objects.written(object(5));
        assert_eq!(seen(&objects), Some(5));
        keep(&Event::Apply(Guarded(Ok(object(3)))));
        assert_eq!(seen(&objects), Some(5));
        keep(&Event::Apply(Guarded(Ok(object(7)))));
        assert_eq!(seen(&objects), Some(7));
    }

    #[test]
    fn nothing_is_kept_of_an_object_that_is_gone() {
        let (objects, mut keep) = Objects::watched();
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(1)))));
        keep(&Event::InitDone);
        objects.written(object(5));
        keep(&Event::Delete(Guarded(Ok(object(6)))));
        assert_eq!(seen(&objects), None);
        // The answer to a write of before.
        objects.written(object(5));
        assert_eq!(seen(&objects), None);
    }

    #[test]
    fn what_is_kept_of_an_object_is_all_of_it() {
        let read: Object = serde_json::from_value(json!({
            "metadata": { "name": "prod", "namespace": "airflow", "resourceVersion": "1" },
            "spec": { "identity": { "application": { "appId": "00000000-0000-0000-0000-000000000009" } } },
            "status": { "conditions": [{
                "type": "Ready", "status": "True", "reason": "Done", "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05.678901Z",
            }] },
        })).unwrap();
        let objects = Objects::listed(vec![read.clone()]);
        assert_eq!(objects.get("airflow", "prod").unwrap().0.ok(), read.0.ok());

        let unreadable: Object = serde_json::from_value(json!({
            "metadata": { "name": "prod", "namespace": "airflow" }, "spec": 1,
        }))
        .unwrap();
        let error = unreadable.0.as_ref().unwrap_err().error.clone();
        let objects = Objects::listed(vec![unreadable]);
        assert_eq!(
            objects.get("airflow", "prod").unwrap().0.unwrap_err().error,
            error
        );
        assert!(objects.references().is_empty());
    }

    #[test]
    fn what_comes_while_the_watch_is_away_is_found_by_the_pass_that_a_new_list_starts() {
        let (objects, mut keep) = Objects::watched();
        keep(&Event::Init);
        keep(&Event::InitDone);
        keep(&Event::Init);
        keep(&Event::InitApply(Guarded(Ok(object(7)))));
        assert_eq!(seen(&objects), Some(7));
        let reference = ObjectRef::new("prod").within("airflow");
        assert!(objects.stubs.get(&reference).is_some());
    }
}
