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
                    is_told: false,
                    revision: 0,
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
    /// The operator makes none of them: what the watch does not tell of is gone.
    is_told: bool,
    /// Counts changes.
    revision: u64,
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

    /// Of a kind that the operator changes, but of which it makes none.
    #[must_use]
    pub fn told() -> Self {
        let watched = Self::default();
        watched.write().is_told = true;
        watched
    }

    /// Takes what the watch tells.
    pub fn apply<K: Resource>(&self, event: &Event<K>, parse: impl Fn(&K) -> T) {
        let mut state = self.write();
        match event {
            Event::Init => state.listing = Some((BTreeMap::new(), BTreeMap::new())),
            Event::InitApply(object) => {
                let State {
                    kept,
                    listing,
                    is_filled,
                    ..
                } = &mut *state;
                if let Some((listed, _)) = listing {
                    put(listed, object.meta(), || parse(object));
                    let (namespace, name) = key(object.meta());
                    let entry = find(listed, namespace, name).cloned();
                    // Who is woken by it looks for it now, and never again for what is not there.
                    if let Some(entry) = entry.filter(|_| *is_filled) {
                        let known = find(kept, namespace, name);
                        if known.is_none_or(|known| known.version < entry.version) {
                            put_entry(kept, namespace, name, entry);
                        }
                    }
                }
            }
            Event::InitDone => {
                let is_told = state.is_told;
                if let Some((mut listed, written)) = state.listing.take() {
                    for (namespace, objects) in written {
                        for (name, entry) in objects {
                            if !is_told || find(&listed, &namespace, &name).is_some() {
                                put_entry(&mut listed, &namespace, &name, entry);
                            }
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
        let is_gone = gone.is_some_and(|(gone, _)| *gone >= version);
        if is_gone || state.is_told && find(&state.kept, namespace, name).is_none() {
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
        Some(find(&state.kept, namespace, name)?.value.clone())
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

    /// Another one after each change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.read().revision
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
        let mut state = self
            .shared
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        state.revision += 1;
        state
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

/// Keeps the later of two. Of the same version, what was written or looked at knows more than a watch.
fn put<T>(kept: &mut Kept<T>, metadata: &ObjectMeta, value: impl FnOnce() -> T) {
    let (namespace, name) = key(metadata);
    let version = version(metadata);
    let known = find(kept, namespace, name);
    if known.is_none_or(|known| known.version < version) {
        let value = Arc::new(value());
        put_entry(kept, namespace, name, Entry { version, value });
    }
}

fn find<'a, T>(kept: &'a Kept<T>, namespace: &str, name: &str) -> Option<&'a Entry<T>> {
    kept.get(namespace)?.get(name)
}

fn put_entry<T>(kept: &mut Kept<T>, namespace: &str, name: &str, entry: Entry<T>) {
    let objects = kept.entry(namespace.to_owned()).or_default();
    let known = objects.get(name);
    if known.is_none_or(|known| known.version <= entry.version) {
        objects.insert(name.to_owned(), entry);
    }
}

fn key(metadata: &ObjectMeta) -> (&str, &str) {
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    (namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// An object's resource version; zero if it has none. Those of one kind are numbers, and ordered.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
#[must_use]
pub fn version(metadata: &ObjectMeta) -> u64 {
    let version = metadata.resource_version.as_ref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    /// An object at a version; what is kept of it is that version.
    fn object(name: &str, version: u64) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some("airflow".into()),
            name: Some(name.into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ConfigMap {
            metadata,
            ..ConfigMap::default()
        }
    }

    fn tell(watched: &Watched<u64>, events: impl IntoIterator<Item = Event<ConfigMap>>) {
        for event in events {
            watched.apply(&event, |object| version(&object.metadata));
        }
    }

    fn list(objects: &[(&str, u64)]) -> Vec<Event<ConfigMap>> {
        let listed = objects
            .iter()
            .map(|(name, at)| Event::InitApply(object(name, *at)));
        let events = [Event::Init].into_iter().chain(listed);
        events.chain([Event::InitDone]).collect()
    }

    fn write(watched: &Watched<u64>, name: &str, version: u64) {
        watched.written(&object(name, version).metadata, version);
    }

    fn seen(watched: &Watched<u64>) -> Vec<(String, u64)> {
        let all = watched.in_namespace("airflow").into_iter();
        all.map(|(name, version)| (name, *version)).collect()
    }

    fn expect(watched: &Watched<u64>, expected: &[(&str, u64)]) {
        let expected = expected.iter().map(|(name, at)| ((*name).to_owned(), *at));
        assert_eq!(seen(watched), expected.collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_seen_of_the_first_list_before_it_is_complete() {
        let watched = Watched::default();
        tell(&watched, [Event::Init, Event::InitApply(object("a", 1))]);
        expect(&watched, &[]);
        assert!(watched.filled().now_or_never().is_none());
        tell(&watched, [Event::InitDone]);
        expect(&watched, &[("a", 1)]);
        assert!(watched.filled().now_or_never().is_some());
    }

    #[test]
    fn what_was_written_is_seen_at_once_and_an_older_event_does_not_take_it_back() {
        let watched = Watched::default();
        tell(&watched, list(&[("a", 1)]));
        write(&watched, "a", 5);
        write(&watched, "b", 6);
        expect(&watched, &[("a", 5), ("b", 6)]);
        tell(&watched, [Event::Apply(object("a", 3))]);
        expect(&watched, &[("a", 5), ("b", 6)]);
        tell(&watched, [Event::Apply(object("a", 7))]);
        expect(&watched, &[("a", 7), ("b", 6)]);
    }

    #[test]
    fn what_was_deleted_is_gone_and_a_late_answer_to_a_write_does_not_bring_it_back() {
        let watched = Watched::default();
        tell(&watched, list(&[("a", 1)]));
        tell(&watched, [Event::Delete(object("a", 4))]);
        write(&watched, "a", 3);
        expect(&watched, &[]);
        // Made anew.
        write(&watched, "a", 8);
        expect(&watched, &[("a", 8)]);
    }

    #[test]
    fn a_deletion_of_before_does_not_take_what_was_made_anew() {
        let watched = Watched::default();
        tell(&watched, list(&[("a", 1)]));
        write(&watched, "a", 8);
        tell(&watched, [Event::Delete(object("a", 4))]);
        expect(&watched, &[("a", 8)]);
    }

    #[test]
    fn a_new_list_drops_what_it_does_not_hold_but_for_what_was_written_since_it_began() {
        let watched = Watched::default();
        tell(&watched, list(&[("gone", 1), ("old", 2)]));
        write(&watched, "old", 5);
        tell(&watched, [Event::Init, Event::InitApply(object("old", 5))]);
        write(&watched, "old", 9);
        write(&watched, "new", 10);
        tell(&watched, [Event::InitDone]);
        expect(&watched, &[("new", 10), ("old", 9)]);
    }

    #[test]
    fn what_a_new_list_tells_is_seen_at_once_and_what_it_leaves_out_when_it_is_complete() {
        let watched = Watched::default();
        tell(&watched, list(&[("gone", 1), ("old", 2)]));
        let news = [("new", 7), ("old", 8)].map(|(name, at)| Event::InitApply(object(name, at)));
        tell(&watched, [Event::Init].into_iter().chain(news));
        expect(&watched, &[("gone", 1), ("new", 7), ("old", 8)]);
        tell(&watched, [Event::InitDone]);
        expect(&watched, &[("new", 7), ("old", 8)]);
    }

    #[test]
    fn of_a_kind_that_the_operator_never_makes_what_the_watch_does_not_show_is_gone() {
        let watched = Watched::told();
        tell(&watched, list(&[("a", 1)]));
        // Written, then deleted, then listed: without it.
        tell(&watched, [Event::Init]);
        write(&watched, "a", 5);
        expect(&watched, &[("a", 5)]);
        tell(&watched, [Event::InitDone]);
        expect(&watched, &[]);
        write(&watched, "a", 6);
        expect(&watched, &[]);
    }
}
