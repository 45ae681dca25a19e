//! Whose pass is next. kube's controller takes those that wait in no order, and may leave one until last, so whoever is
//! triggered waits here: objects of one namespace come together, since they share identities, and what was listed for
//! one is still fresh for the next.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures::{Stream, StreamExt, stream::poll_fn, task::AtomicWaker};
use kube::runtime::reflector::ObjectRef;

use super::triggers::Refs;
use crate::observe::Stub;

/// By namespace, then by name.
type Key = (String, String);

/// Those that kube's controller was given, until their pass is over.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// And whether it has begun: what happens after that it may have missed.
    keys: Mutex<HashMap<Key, bool>>,
    less: AtomicWaker,
}

/// A pass that is under way until this is dropped.
pub(super) struct Running<'a> {
    under_way: &'a UnderWay,
    key: Key,
}

impl UnderWay {
    /// The pass of an object begins, whoever asked for it.
    pub fn begin(&self, namespace: &str, name: &str) -> Running<'_> {
        let key = (namespace.to_owned(), name.to_owned());
        self.keys().insert(key.clone(), true);
        Running {
            under_way: self,
            key,
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Key, bool>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.under_way.keys().remove(&self.key);
        self.under_way.0.less.wake();
    }
}

/// The objects of `triggers`, each once however often it is triggered before its pass begins; in a circle, so that nobody
/// waits here for longer than all others take once. None is given while it is under way, or `limit` others are. Passes
/// whose time has come again are begun by kube's controller itself.
pub(super) fn in_order(
    mut triggers: impl Stream<Item = Refs> + Send + Unpin,
    under_way: UnderWay,
    limit: usize,
) -> impl Stream<Item = ObjectRef<Stub>> + Send {
    let mut waiting: BTreeSet<Key> = BTreeSet::new();
    let mut last = Key::default();
    poll_fn(move |context| {
        while let Poll::Ready(Some(refs)) = triggers.poll_next_unpin(context) {
            let triggered = refs.into_iter();
            let triggered =
                triggered.map(|object| (object.namespace.unwrap_or_default(), object.name));
            let keys = under_way.keys();
            waiting.extend(triggered.filter(|key| keys.get(key) != Some(&false)));
        }
        under_way.0.less.register(context.waker());
        let mut keys = under_way.keys();
        let beyond = waiting.range((Bound::Excluded(&last), Bound::Unbounded));
        let mut free = beyond
            .chain(&waiting)
            .filter(|key| !keys.contains_key(*key));
        let next = free.next().filter(|_| keys.len() < limit).cloned();
        let Some(next) = next else {
            return Poll::Pending;
        };
        waiting.remove(&next);
        keys.insert(next.clone(), false);
        last.clone_from(&next);
        Poll::Ready(Some(ObjectRef::new(&next.1).within(&next.0)))
    })
}

#[cfg(test)]
mod tests {
    use futures::{
        FutureExt,
        channel::mpsc::{UnboundedSender, unbounded},
    };

    use super::*;

    /// Where triggers come in, what is under way, and what is given at the moment.
    fn queue(limit: usize) -> (UnboundedSender<Refs>, UnderWay, impl FnMut() -> Vec<String>) {
        let (triggers, triggered) = unbounded();
        let under_way = UnderWay::default();
        let mut queue = Box::pin(in_order(triggered, under_way.clone(), limit));
        let given = move || {
            std::iter::from_fn(|| queue.next().now_or_never().flatten())
                .map(|key| format!("{}/{}", key.namespace.unwrap_or_default(), key.name))
                .collect()
        };
        (triggers, under_way, given)
    }

    fn trigger(triggers: &UnboundedSender<Refs>, keys: &[(&str, &str)]) {
        let refs = keys.iter();
        let refs = refs.map(|(namespace, name)| ObjectRef::new(name).within(namespace));
        triggers.unbounded_send(refs.collect()).unwrap();
    }

    #[test]
    fn objects_of_one_namespace_come_together_in_whatever_order_they_are_triggered() {
        let (triggers, _, mut given) = queue(9);
        trigger(&triggers, &[("b", "1"), ("a", "2"), ("b", "2"), ("a", "1")]);
        assert_eq!(given(), ["a/1", "a/2", "b/1", "b/2"]);
    }

    #[test]
    fn no_more_are_under_way_than_may_be() {
        let (triggers, under_way, mut given) = queue(2);
        trigger(&triggers, &[("a", "1"), ("a", "2"), ("a", "3")]);
        assert_eq!(given(), ["a/1", "a/2"]);
        let pass = under_way.begin("a", "2");
        assert!(given().is_empty());
        drop(pass);
        assert_eq!(given(), ["a/3"]);
    }

    #[test]
    fn an_object_that_is_triggered_again_and_again_has_one_pass_in_each_circle() {
        let (triggers, under_way, mut given) = queue(1);
        trigger(&triggers, &[("a", "1"), ("a", "1"), ("b", "1")]);
        assert_eq!(given(), ["a/1"]);
        let pass = under_way.begin("a", "1");
        trigger(&triggers, &[("a", "1"), ("a", "1")]);
        assert!(given().is_empty());
        drop(pass);
        assert_eq!(given(), ["b/1"]);
        drop(under_way.begin("b", "1"));
        assert_eq!(given(), ["a/1"]);
        drop(under_way.begin("a", "1"));
        assert!(given().is_empty());
    }

    #[test]
    fn a_pass_that_has_not_begun_sees_what_triggers_its_object_again() {
        let (triggers, under_way, mut given) = queue(9);
        trigger(&triggers, &[("a", "1")]);
        assert_eq!(given(), ["a/1"]);
        trigger(&triggers, &[("a", "1")]);
        assert!(given().is_empty());
        drop(under_way.begin("a", "1"));
        assert!(given().is_empty());
    }

    #[test]
    fn an_object_that_is_triggered_in_its_pass_has_another_one_after_it() {
        let (triggers, under_way, mut given) = queue(9);
        let pass = under_way.begin("a", "1");
        trigger(&triggers, &[("a", "1"), ("b", "1")]);
        assert_eq!(given(), ["b/1"]);
        drop(pass);
        assert_eq!(given(), ["a/1"]);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_place_is_woken_when_there_is_one() {
        let (triggers, triggered) = unbounded();
        let under_way = UnderWay::default();
        let mut queue = Box::pin(in_order(triggered, under_way.clone(), 1));
        trigger(&triggers, &[("a", "1"), ("a", "2")]);
        assert_eq!(queue.next().await.unwrap().name, "1");
        let next = tokio::spawn(async move { queue.next().await.unwrap().name });
        tokio::task::yield_now().await;
        drop(under_way.begin("a", "1"));
        assert_eq!(next.await.unwrap(), "2");
    }
}
