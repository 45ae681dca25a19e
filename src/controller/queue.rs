//! Whose pass is next. kube's controller takes those that wait in no order, and may leave one until last, so whoever is
//! triggered waits here: objects of one namespace come together, since they share identities, and what was listed for
//! one is still fresh for the next.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::{Stream, StreamExt, stream::poll_fn, task::AtomicWaker};
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use super::triggers::Refs;
use crate::observe::Stub;

/// Longest time to the next pass: a timer takes no more than some years.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// By namespace, then by name.
type Key = (String, String);

/// Those that kube's controller was given, until their pass is over.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// And whether the pass has begun: what happens after that it may have missed.
    keys: HashMap<Key, bool>,
    /// Whose pass was over lately, and when the next one is due.
    again: Vec<(Key, Instant)>,
}

/// A pass that is under way until this is dropped.
pub(super) struct Running<'a> {
    under_way: &'a UnderWay,
    key: Key,
    again: Option<Duration>,
}

impl UnderWay {
    /// The pass of an object begins; or never will, if that is dropped at once.
    pub fn begin(&self, namespace: &str, name: &str) -> Running<'_> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state().keys.insert(key.clone(), true);
        Running {
            under_way: self,
            key,
            again: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    /// The pass is over, and the next one due after so long, if nothing starts one before.
    pub fn over(mut self, again: Option<Duration>) {
        self.again = again;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let key = std::mem::take(&mut self.key);
        let mut state = self.under_way.state();
        state.keys.remove(&key);
        if let Some(after) = self.again {
            let at = Instant::now() + after.min(LONGEST);
            state.again.push((key, at));
        }
        drop(state);
        self.under_way.0.news.wake();
    }
}

/// The objects of `triggers` and those whose next pass is due, each once however often it is triggered before its pass
/// begins; in a circle, so that nobody waits for longer than all others take once. None is given while it is under way,
/// or `limit` others are.
pub(super) fn in_order(
    mut triggers: impl Stream<Item = Refs> + Send + Unpin,
    under_way: UnderWay,
    limit: usize,
) -> impl Stream<Item = ObjectRef<Stub>> + Send {
    let mut waiting: BTreeSet<Key> = BTreeSet::new();
    let mut later = Later::default();
    let mut last = Key::default();
    poll_fn(move |context| {
        under_way.0.news.register(context.waker());
        while let Poll::Ready(Some(refs)) = triggers.poll_next_unpin(context) {
            let triggered = refs.into_iter();
            let triggered =
                triggered.map(|object| (object.namespace.unwrap_or_default(), object.name));
            let keys = &under_way.state().keys;
            waiting.extend(triggered.filter(|key| keys.get(key) != Some(&false)));
        }
        let mut state = under_way.state();
        for (key, at) in state.again.drain(..) {
            later.put(key, at);
        }
        while let Poll::Ready(Some(due)) = later.timers.poll_expired(context) {
            let key = due.into_inner();
            later.keys.remove(&key);
            waiting.insert(key);
        }
        let keys = &mut state.keys;
        let beyond = waiting.range((Bound::Excluded(&last), Bound::Unbounded));
        let mut free = beyond
            .chain(&waiting)
            .filter(|key| !keys.contains_key(*key));
        let next = free.next().filter(|_| keys.len() < limit).cloned();
        let Some(next) = next else {
            return Poll::Pending;
        };
        waiting.remove(&next);
        later.take(&next);
        keys.insert(next.clone(), false);
        last.clone_from(&next);
        Poll::Ready(Some(ObjectRef::new(&next.1).within(&next.0)))
    })
}

/// When the next pass of each object is due.
#[derive(Default)]
struct Later {
    timers: DelayQueue<Key>,
    keys: HashMap<Key, delay_queue::Key>,
}

impl Later {
    fn put(&mut self, key: Key, at: Instant) {
        self.take(&key);
        let timer = self.timers.insert_at(key.clone(), at);
        self.keys.insert(key, timer);
    }

    fn take(&mut self, key: &Key) {
        if let Some(timer) = self.keys.remove(key) {
            self.timers.remove(&timer);
        }
    }
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

    #[tokio::test]
    async fn objects_of_one_namespace_come_together_in_whatever_order_they_are_triggered() {
        let (triggers, _, mut given) = queue(9);
        trigger(&triggers, &[("b", "1"), ("a", "2"), ("b", "2"), ("a", "1")]);
        assert_eq!(given(), ["a/1", "a/2", "b/1", "b/2"]);
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be() {
        let (triggers, under_way, mut given) = queue(2);
        trigger(&triggers, &[("a", "1"), ("a", "2"), ("a", "3")]);
        assert_eq!(given(), ["a/1", "a/2"]);
        let pass = under_way.begin("a", "2");
        assert!(given().is_empty());
        drop(pass);
        assert_eq!(given(), ["a/3"]);
    }

    #[tokio::test]
    async fn an_object_that_is_triggered_again_and_again_has_one_pass_in_each_circle() {
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

    #[tokio::test]
    async fn a_pass_that_has_not_begun_sees_what_triggers_its_object_again() {
        let (triggers, under_way, mut given) = queue(9);
        trigger(&triggers, &[("a", "1")]);
        assert_eq!(given(), ["a/1"]);
        trigger(&triggers, &[("a", "1")]);
        assert!(given().is_empty());
        drop(under_way.begin("a", "1"));
        assert!(given().is_empty());
    }

    #[tokio::test]
    async fn an_object_that_is_triggered_in_its_pass_has_another_one_after_it() {
        let (triggers, under_way, mut given) = queue(9);
        let pass = under_way.begin("a", "1");
        trigger(&triggers, &[("a", "1"), ("b", "1")]);
        assert_eq!(given(), ["b/1"]);
        drop(pass);
        assert_eq!(given(), ["a/1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_has_its_next_pass_when_it_is_due_and_not_again_for_a_time_that_is_outdated()
    {
        let (triggers, under_way, mut given) = queue(9);
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        under_way
            .begin("a", "1")
            .over(Some(Duration::from_secs(30)));
        assert!(given().is_empty());
        wait(29).await;
        assert!(given().is_empty());
        wait(2).await;
        assert_eq!(given(), ["a/1"]);
        under_way
            .begin("a", "1")
            .over(Some(Duration::from_secs(30)));
        trigger(&triggers, &[("a", "1")]);
        assert_eq!(given(), ["a/1"]);
        under_way.begin("a", "1").over(None);
        wait(60).await;
        assert!(given().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_whose_pass_is_due_do_not_keep_others_out() {
        let (triggers, under_way, mut given) = queue(1);
        for name in ["1", "2", "3"] {
            under_way
                .begin("a", name)
                .over(Some(Duration::from_secs(1)));
        }
        assert!(given().is_empty());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut turns = Vec::new();
        trigger(&triggers, &[("b", "1")]);
        for _ in 0..8 {
            let [key] = &given()[..] else {
                panic!("one at a time")
            };
            let (namespace, name) = key.split_once('/').unwrap();
            under_way
                .begin(namespace, name)
                .over((namespace == "a").then_some(Duration::ZERO));
            tokio::time::sleep(Duration::from_secs(1)).await;
            turns.push(key.clone());
        }
        assert!(turns[..4].contains(&"b/1".to_owned()), "{turns:?}");
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
