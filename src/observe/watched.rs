//! What is watched of one kind: of each object the least that a pass needs, by namespace and name. What the
//! operator itself writes is here at once, before the watch tells of it; so no pass does again what the one before
//! has done.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use kube::{Resource, api::ObjectMeta, runtime::watcher::Event};
use tokio::{sync::Notify, time::Instant};

/// How long an answer to a write may take that was sent before somebody deleted the object.
const LATE: Duration = Duration::from_secs(60);

/// All objects of one kind, as far as they are watched. Those that have no namespace are in namespace "".
pub struct Watched<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: RwLock::new(State {
                    kept: BTreeMap::new(),
                    listing: None,
                    gone: BTreeMap::new(),
                    is_filled: false,
                }),
                filled: Notify::new(),
            }),
        }
    }
}

struct Shared<T> {
    state: RwLock<State<T>>,
    filled: Notify,
}

type Kept<T> = BTreeMap<String, BTreeMap<String, Entry<T>>>;

struct State<T> {
    kept: Kept<T>,
    /// What a list has told so far that is not complete yet, and what was written since it began.
    listing: Option<(Kept<T>, Kept<T>)>,
    /// What was deleted lately: at which version, and when that was told.
    gone: BTreeMap<(String, String), (u64, Instant)>,
    is_filled: bool,
}

struct Entry<T> {
    version: u64,
    value: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            version: self.version,
            value: self.value.clone(),
        }
    }
}

impl<T> Watched<T> {
    /// These are all there are.
    #[must_use]
    pub fn listed<K: Resource>(objects: &[K], parse: impl Fn(&K) -> T) -> Self {
        let mut kept = BTreeMap::new();
        for object in objects {
            put(&mut kept, object.meta(), || parse(object));
        }
        let watched = Self::default();
        let mut state = watched.write();
        state.kept = kept;
        state.is_filled = true;
        drop(state);
        watched
    }

    /// Takes what the watch tells.
    pub fn apply<K: Resource>(&self, event: &Event<K>, parse: impl Fn(&K) -> T) {
        let mut state = self.write();
        match event {
            Event::Init => state.listing = Some((BTreeMap::new(), BTreeMap::new())),
            Event::InitApply(object) => {
                if let Some((listed, _)) = &mut state.listing {
                    put(listed, object.meta(), || parse(object));
                }
            }
            Event::InitDone => {
                if let Some((mut listed, written)) = state.listing.take() {
                    for (namespace, objects) in written {
                        for (name, entry) in objects {
                            put_entry(&mut listed, &namespace, &name, entry);
                        }
                    }
                    state.kept = listed;
                }
                state.is_filled = true;
                drop(state);
                self.shared.filled.notify_waiters();
            }
            Event::Apply(object) => put(&mut state.kept, object.meta(), || parse(object)),
            Event::Delete(object) => state.delete(object.meta()),
        }
    }

    /// Takes what the operator has just written, as the API server answered.
    pub fn written(&self, metadata: &ObjectMeta, value: T) {
        let mut state = self.write();
        let (namespace, name) = key(metadata);
        let version = version(metadata);
        let gone = state.gone.get(&(namespace.to_owned(), name.to_owned()));
        if gone.is_some_and(|(gone, _)| *gone >= version) {
            return;
        }
        let entry = Entry {
            version,
            value: Arc::new(value),
        };
        if let Some((_, written)) = &mut state.listing {
            put_entry(written, namespace, name, entry.clone());
        }
        put_entry(&mut state.kept, namespace, name, entry);
    }

    /// The object, if it is there.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let state = self.read();
        Some(state.kept.get(namespace)?.get(name)?.value.clone())
    }

    /// All of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<(String, Arc<T>)> {
        let state = self.read();
        let objects = state.kept.get(namespace).into_iter().flatten();
        objects
            .map(|(name, entry)| (name.clone(), entry.value.clone()))
            .collect()
    }

    /// All there are.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<T>> {
        let state = self.read();
        let entries = state.kept.values().flat_map(BTreeMap::values);
        entries.map(|entry| entry.value.clone()).collect()
    }

    /// Waits until all objects were listed once.
    pub async fn filled(&self) {
        loop {
            let news = self.shared.filled.notified();
            if self.read().is_filled {
                return;
            }
            news.await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.shared
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.shared
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn delete(&mut self, metadata: &ObjectMeta) {
        let (namespace, name) = key(metadata);
        let version = version(metadata);
        if let Some(objects) = self.kept.get_mut(namespace) {
            if objects
                .get(name)
                .is_some_and(|entry| entry.version <= version)
            {
                objects.remove(name);
            }
            if objects.is_empty() {
                self.kept.remove(namespace);
            }
        }
        let now = Instant::now();
        self.gone
            .retain(|_, (_, told)| now.duration_since(*told) < LATE);
        self.gone
            .insert((namespace.to_owned(), name.to_owned()), (version, now));
    }
}

/// Keeps the later of two. An entry of the same version stays: it may know more by now.
fn put<T>(kept: &mut Kept<T>, metadata: &ObjectMeta, value: impl FnOnce() -> T) {
    let (namespace, name) = key(metadata);
    let version = version(metadata);
    let known = kept.get(namespace).and_then(|objects| objects.get(name));
    if known.is_none_or(|known| known.version < version) {
        let value = Arc::new(value());
        put_entry(kept, namespace, name, Entry { version, value });
    }
}

fn put_entry<T>(kept: &mut Kept<T>, namespace: &str, name: &str, entry: Entry<T>) {
    if !kept.contains_key(namespace) {
        kept.insert(namespace.to_owned(), BTreeMap::new());
    }
    let objects = kept.entry(namespace.to_owned()).or_default();
    let known = objects.get(name);
    if known.is_none_or(|known| known.version < entry.version) {
        objects.insert(name.to_owned(), entry);
    }
}

fn key(metadata: &ObjectMeta) -> (&str, &str) {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    (namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// Resource versions of one kind are numbers, and ordered.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
fn version(metadata: &ObjectMeta) -> u64 {
    let version = metadata.resource_version.as_ref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}
