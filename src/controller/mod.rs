//! The loop around observe → plan → apply → status: what triggers a pass, and when the next one
//! comes.

mod events;
mod passes;
mod patience;
mod publisher;
mod queue;
mod reconcile;
mod retry;
mod triggers;
mod watches;

use std::{
    future::{Future, pending, ready},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    channel::mpsc,
    future::join_all,
    stream::{self, BoxStream, poll_fn},
};
use kube::{
    Client,
    runtime::{
        controller::{Config, Controller, Error},
        reflector::ObjectRef,
    },
};
use tokio::time::{interval, timeout};

pub use passes::Passes;
pub use watches::{Scope, WatchErrors, Watches};

use crate::{
    apply::Sinks,
    azure::Identities,
    health::Health,
    issuers::IssuerHistory,
    mandate::Mandate,
    observe::{Exchanges, IssuerSource, Sources, Stores},
};
use publisher::{News, news};
use queue::{UnderWay, in_order};
use reconcile::{Context, Filled};
use triggers::Refs;

/// Passes at a time in one scope. Each holds all that was seen for it, some 100 KiB, and may wait at an identity for
/// twenty seconds: where Azure has asked for a pause before they came, six of them at most to write and one to look; and
/// all there are where it does not answer.
const PASSES: u16 = 128;

/// How long events may still go out when all passes are over.
const LAST_NEWS: Duration = Duration::from_secs(2);

/// What all scopes share.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Azure.
    pub identities: Arc<Identities>,
    /// Whether anything may be written.
    pub mandate: Arc<Mandate>,
    /// Who signs the cluster's ServiceAccount tokens.
    pub issuer: Arc<IssuerSource>,
    /// Whether Entra takes them, if that is to be tried.
    pub exchanges: Option<Arc<Exchanges>>,
    /// Who signed them before.
    pub history: Arc<IssuerHistory>,
    /// What is told of the passes.
    pub passes: Arc<Passes>,
    /// What is told of the loops.
    pub health: Arc<Health>,
    /// The audience of federated credentials.
    pub audience: String,
    /// How often a converged object is looked at again.
    pub resync: Duration,
}

/// Runs one controller per scope until `stop` resolves, then lets the passes under way finish.
pub async fn run(
    shared: &Shared,
    scopes: Vec<Watches>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let stop = stop.boxed().shared();
    for name in scopes.iter().flat_map(|watches| &watches.names) {
        shared.health.pending(name, "not listed yet");
    }
    let (news, publisher) = news(shared.client.clone());
    let scopes = scopes
        .into_iter()
        .map(|watches| run_scope(shared, watches, news.clone(), stop.clone()));
    let scopes = join_all(scopes);
    let mut publishing = pin!(publisher.run());
    tokio::select! {
        biased;
        _ = scopes => {}
        () = &mut publishing => {}
    }
    drop(news);
    let _ = timeout(LAST_NEWS, publishing).await;
}

async fn run_scope(
    shared: &Shared,
    watches: Watches,
    news: News,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let stores = watches.stores;
    let mandate = shared.mandate.clone();
    let (wake, woken) = mpsc::unbounded();
    let again = wake.clone();
    let under_way = UnderWay::default();
    let beats = heartbeat(watches.controller, shared.health.clone());
    let context = Context::new(
        Sources {
            client: shared.client.clone(),
            stores: stores.clone(),
            identities: shared.identities.clone(),
            issuer: shared.issuer.clone(),
            exchanges: shared.exchanges.clone(),
            history: shared.history.clone(),
            audience: shared.audience.clone(),
        },
        Sinks {
            client: shared.client.clone(),
            stores: stores.clone(),
            identities: shared.identities.clone(),
            history: shared.history.clone(),
            mandate: shared.mandate.clone(),
        },
        news,
        shared.passes.clone(),
        shared.resync,
        wake,
        under_way.clone(),
    );

    let stubs = stores.objects.stubs.clone();
    let hopeless = stop.clone().then(async move |()| {
        // kube's controller does not end before its objects are listed; until then it does nothing.
        if stubs.wait_until_ready().now_or_never().is_some() {
            pending::<()>().await;
        }
    });
    let others = Others {
        stores: stores.clone(),
        filled: context.filled(),
    };
    let objects = watches.objects;
    // Each concerns all objects: those that come together are one event.
    let grants = watches.grants.ready_chunks(PASSES.into());
    let triggers = stream::select_all([
        objects.map(|stub| vec![ObjectRef::from_obj(&stub)]).boxed(),
        others.told(grants, |s, _| triggers::of_grant(s)),
        others.told(watches.namespaces, triggers::of_namespace),
        others.told(watches.accounts, triggers::of_account),
        others.told(watches.secrets, triggers::of_secret),
        others.told(watches.deployments, triggers::of_workload),
        others.told(watches.stateful_sets, triggers::of_workload),
        others.told(watches.configs, triggers::of_config),
        // A pod wakes nobody, but its watch has to be polled.
        others.told(watches.pods, |_, _| Vec::new()),
        woken.map(|sibling| vec![sibling]).boxed(),
    ]);
    let queue = in_order(triggers, under_way.clone(), PASSES.into());
    let controller = Controller::for_stream(stream::pending(), stores.objects.stubs.clone())
        .with_config(
            Config::default()
                .debounce(Duration::from_millis(50))
                .concurrency(PASSES),
        )
        .reconcile_on(stream::select(queue, beats))
        .graceful_shutdown_on(async move {
            stop.await;
            mandate.stop();
        })
        .run(
            reconcile::reconcile,
            reconcile::never_fails,
            Arc::new(context),
        )
        .for_each(|result| {
            // Passes have no errors, and watches report their own.
            if let Err(error) = result {
                tracing::debug!("{error}");
                if let Error::ObjectNotFound(gone) = error {
                    let namespace = gone.namespace.unwrap_or_default();
                    drop(under_way.begin(&namespace, &gone.name));
                    let object = ObjectRef::new(&gone.name).within(&namespace);
                    // Made anew meanwhile: for the queue its pass had not begun.
                    if stores.objects.stubs.get(&object).is_some() {
                        let _ = again.unbounded_send(object);
                    }
                }
            }
            ready(())
        });
    tokio::select! {
        biased;
        () = controller => {}
        () = hopeless => {}
    }
}

/// A trigger that never comes: it only notes that the controller still polls its triggers.
fn heartbeat<T>(name: String, health: Arc<Health>) -> impl Stream<Item = T> + Send {
    let mut ticks = interval(Duration::from_secs(1));
    poll_fn(move |context| {
        while ticks.poll_tick(context).is_ready() {
            health.beat(&name);
        }
        Poll::Pending
    })
}

/// What is watched besides our own objects.
struct Others {
    stores: Stores,
    filled: Filled,
}

impl Others {
    /// The objects that each event concerns. As long as the stores are not filled, that is none: all wait for their first
    /// pass, which sees what was told until then.
    fn told<E: 'static>(
        &self,
        events: impl Stream<Item = E> + Send + 'static,
        concerned: fn(&Stores, &E) -> Refs,
    ) -> BoxStream<'static, Refs> {
        let (stores, filled) = (self.stores.clone(), self.filled.clone());
        let events = events.filter_map(move |event| {
            let is_filled = filled.peek().is_some();
            ready(is_filled.then(|| concerned(&stores, &event)))
        });
        events.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_polls_its_triggers_is_alive_and_one_that_does_not_is_stuck() {
        let health = Arc::new(Health::default());
        let mut beats = heartbeat::<()>("controller".into(), health.clone());
        let minutes = Duration::from_secs(300);
        let polled = tokio::time::timeout(minutes, beats.next()).await;
        assert!(polled.is_err(), "it triggers nothing");
        assert_eq!(health.alive(), Ok(()));
        tokio::time::advance(Duration::from_secs(75)).await;
        assert!(health.alive().is_err());
    }
}
