//! One pass over one object.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    channel::mpsc,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::Action as Next,
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    events::{changes, effects, unreadable},
    passes::{Passes, Phase},
    publisher::News,
    queue::UnderWay,
    retry::{delay, is_attempt, rest},
};
use crate::{
    api::AirflowWorkloadIdentity,
    apply::{Ahead, Outcome, Sinks, StepResult, apply, write_status},
    azure::{ARRIVES, MaxAge},
    observe::{Guarded, Snapshot, Sources, Stub, observe, version},
    plan::{Action, Plan, is_let_go, plan},
    problem::headline,
    status::{exchanges_in, problems, restart_failed, settles_in, status},
};

/// What Azure said must not be older than this when it is written to.
const FRESH: Duration = Duration::from_secs(5);

/// In a pause of Azure's, what it said may be so much older than a resync.
const PAUSE: Duration = Duration::from_secs(60);

/// Whoever had to go by what is too old looks again after so long.
const SOON: Duration = Duration::from_secs(5);

/// Without a write for so long, an object is at peace.
const LATELY: Duration = Duration::from_secs(60);

/// Resolves when all stores are filled: one future for all passes, since a store of kube-runtime 5.0 wakes only the last
/// of several tasks that wait for it. No pass goes on before it has.
pub(super) type Filled = Shared<BoxFuture<'static, ()>>;

/// What all passes share.
pub(super) struct Context {
    sources: Sources,
    filled: Filled,
    sinks: Sinks,
    news: News,
    passes: Arc<Passes>,
    resync: Duration,
    wake: mpsc::UnboundedSender<ObjectRef<Stub>>,
    under_way: UnderWay,
    memory: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of an object between its passes, by uid.
#[derive(Default)]
struct Memory {
    attempts: u32,
    /// How many passes wrote something lately, and when the last of them did.
    writes: Option<(u32, Instant)>,
    /// The version of the object that was read before the last write to it failed: until a later one is known, that
    /// write may have been carried out, or may still be.
    doubted: Option<u64>,
    /// It asked for something new, and Azure could not be looked at since.
    is_unseen: bool,
    /// When credentials were written that no status tells of, since it could not be written; by account.
    untold: BTreeMap<String, Time>,
}

impl Context {
    pub fn new(
        sources: Sources,
        sinks: Sinks,
        news: News,
        passes: Arc<Passes>,
        resync: Duration,
        wake: mpsc::UnboundedSender<ObjectRef<Stub>>,
        under_way: UnderWay,
    ) -> Self {
        let stores = sources.stores.clone();
        Self {
            filled: async move { stores.ready().await }.boxed().shared(),
            sources,
            sinks,
            news,
            passes,
            resync,
            wake,
            under_way,
            memory: Mutex::default(),
        }
    }

    pub fn filled(&self) -> Filled {
        self.filled.clone()
    }

    fn memory<T>(&self, uid: &str, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        with(memory.entry(uid.to_owned()).or_default())
    }

    /// Puts into the object's status what it could not be told, unless it tells it after all; returns whether there was
    /// anything.
    fn recall(&self, object: &mut AirflowWorkloadIdentity) -> bool {
        let untold = self.memory(&object.uid().unwrap_or_default(), |memory| {
            memory.untold.clone()
        });
        let accounts = object
            .status
            .iter_mut()
            .flat_map(|status| &mut status.service_accounts);
        let mut is_recalled = false;
        for account in accounts {
            let told = account.federated_at.as_ref().map(second);
            if let Some(at) = untold.get(&account.name)
                && told != Some(second(at))
            {
                account.federated_at = Some(at.clone());
                is_recalled = true;
            }
        }
        is_recalled
    }

    fn forget(&self, uid: &str) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// A status has no finer times.
fn second(time: &Time) -> i64 {
    time.0.as_second()
}

pub(super) async fn reconcile(stub: Arc<Stub>, context: Arc<Context>) -> Result<Next, Infallible> {
    let (namespace, name) = (stub.namespace().unwrap_or_default(), stub.name_any());
    let running = context.under_way.begin(&namespace, &name);
    // Not `name`: in JSON that is the span's own.
    let span = tracing::info_span!("pass", namespace = namespace, object = name);
    let again = async {
        tokio::select! {
            biased;
            () = context.filled.clone() => {}
            // They may never be, and nothing has begun yet.
            () = context.sinks.mandate.stopped() => return None,
        }
        match context.sources.stores.objects.get(&namespace, &name)?.0 {
            Ok(object) => Box::pin(pass(object, &context)).await,
            Err(invalid) => {
                tracing::warn!("cannot be read: {}", headline(&invalid.error));
                let event = unreadable(&invalid.error);
                let object: Guarded<AirflowWorkloadIdentity> = Guarded(Err(invalid));
                context.news.publish(event, object.object_ref(&()));
                None
            }
        }
    };
    running.over(again.instrument(span).await);
    // It has its turn among the others, which kube's own timer would not give it.
    Ok(Next::await_change())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "kube's signature")]
/// A pass has no errors: problems go into the status, and decide when the next pass comes.
pub(super) fn never_fails(_: Arc<Stub>, error: &Infallible, _: Arc<Context>) -> Next {
    match *error {}
}

/// Returns when the next one is due.
async fn pass(mut object: AirflowWorkloadIdentity, context: &Context) -> Option<Duration> {
    let uid = object.uid().unwrap_or_default();
    if is_let_go(&object) {
        context.forget(&uid);
        return None;
    }
    let rest = context.memory(&uid, |memory| {
        let (count, at) = memory.writes?;
        rest(count).checked_sub(at.elapsed())
    });
    if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
        return Some(rest);
    }
    let passes = &context.passes;
    let _running = passes.begin();
    let is_recalled = context.recall(&mut object);
    let (snapshot, plan, is_old) = prepare(&object, context).await;
    let ahead = Ahead {
        status: status(&snapshot, &plan, &Outcome::default(), Timestamp::now()),
        is_in_doubt: context.memory(&uid, |memory| memory.doubted)
            >= Some(version(&object.metadata)),
    };
    let applied = apply(&context.sinks, &object, &plan, &ahead);
    let outcome = passes.time(Phase::Apply, applied).await;
    let mut problems = problems(&plan, &outcome);
    let mandate = &context.sinks.mandate;
    if !mandate.is_in_term() || !mandate.is_valid() && !problems.is_empty() {
        // What was broken off by the operator's own end is nobody's news, and whoever leads now
        // knows better.
        return None;
    }
    wake_siblings(context, &snapshot, &plan, &outcome);
    let wrote = outcome.results.contains(&StepResult::Done);
    if wrote {
        context.memory(&uid, |memory| {
            let lately = memory.writes.filter(|(_, at)| at.elapsed() < LATELY);
            let before = lately.map_or(0, |(count, _)| count);
            memory.writes = Some((before.saturating_add(1), Instant::now()));
        });
    }

    let after = status(&snapshot, &plan, &outcome, Timestamp::now());
    let mut is_told = true;
    let mut latest = object.clone();
    latest
        .metadata
        .resource_version
        .clone_from(&outcome.version);
    if !outcome.gone && (is_recalled || object.status.as_ref() != Some(&after)) {
        let written = write_status(&context.sinks.client, &latest, &after);
        match passes.time(Phase::Status, written).await {
            Ok(written) => context.sources.stores.objects.written(written),
            Err(problem) => {
                tracing::warn!("{}", headline(&problem.message));
                problems.push(problem);
                is_told = false;
            }
        }
    }
    let untold = after.service_accounts.iter().filter(|_| !is_told);
    let untold =
        untold.filter_map(|account| Some((account.name.clone(), account.federated_at.clone()?)));
    context.memory(&uid, |memory| memory.untold = untold.collect());
    if !is_told || outcome.failed.is_some() {
        let doubted = Some(version(&latest.metadata));
        context.memory(&uid, |memory| memory.doubted = doubted);
    }
    passes.count(wrote, &problems);
    let turns = if is_told && !outcome.gone {
        changes(object.status.as_ref(), &after)
    } else {
        // The last status of an object that is gone is not news; nor, yet, one that is not written.
        Vec::new()
    };
    turns.iter().for_each(log);
    for event in effects(&plan, &outcome).into_iter().chain(turns) {
        context.news.publish(event, object.object_ref(&()));
    }
    if outcome.gone {
        context.forget(&uid);
        return None;
    }
    let attempts = context.memory(&uid, |memory| {
        let next = if is_attempt(&problems) {
            memory.attempts.saturating_add(1)
        } else {
            0
        };
        std::mem::replace(&mut memory.attempts, next)
    });
    let delay = delay(&problems, attempts, context.resync, rand::random());
    let settled = settles_in(&after, Timestamp::now());
    let exchanged = exchanges_in(&snapshot, &after);
    // What was tried and refused has a pace of its own.
    let looked = plan
        .look_again
        .filter(|_| restart_failed(&plan, &outcome).is_none());
    let again = is_old.then_some(SOON);
    let sooner = [settled, looked, exchanged, again];
    let sooner = sooner.into_iter().flatten().min();
    Some(sooner.map_or(delay, |sooner| delay.min(sooner)))
}

/// Whether the spec is one of which the status says nothing yet.
fn is_new(object: &AirflowWorkloadIdentity) -> bool {
    let status = object.status.as_ref();
    let told = status.and_then(|status| status.observed_generation);
    told != object.metadata.generation
}

/// Reads and plans; once more, if Azure is to be written to, or something let go, on the ground of old news. Tells
/// whether what was read of Azure is older than it should be.
async fn prepare(object: &AirflowWorkloadIdentity, context: &Context) -> (Snapshot, Plan, bool) {
    let uid = object.uid().unwrap_or_default();
    let is_unseen = is_new(object) || context.memory(&uid, |memory| memory.is_unseen);
    // Whoever asks for something new is told what is so now.
    let wanted = if is_unseen {
        FRESH.min(context.resync)
    } else {
        context.resync
    };
    let age = MaxAge {
        wanted,
        in_a_pause: context.resync + PAUSE,
    };
    let (mut snapshot, mut plan) = look(object, context, age).await;
    if plan.has_to_be_sure() && !snapshot.is_at_most(FRESH) {
        (snapshot, plan) = look(object, context, MaxAge::strictly(FRESH)).await;
    } else if snapshot.may_miss_records() {
        (snapshot, plan) = look(object, context, MaxAge::strictly(ARRIVES)).await;
    }
    let is_old = !snapshot.is_at_most(wanted);
    let is_seen = snapshot.has_read_azure() && !is_old;
    context.memory(&uid, |memory| memory.is_unseen = is_unseen && !is_seen);
    (snapshot, plan, is_old)
}

async fn look(
    object: &AirflowWorkloadIdentity,
    context: &Context,
    age: MaxAge,
) -> (Snapshot, Plan) {
    let passes = &context.passes;
    let observed = observe(&context.sources, object, age);
    let snapshot = passes.time(Phase::Observe, observed).await;
    let planned = passes.time(Phase::Plan, async { plan(&snapshot) }).await;
    (snapshot, planned)
}

/// What turned for better or worse; the effects were logged as they were taken.
fn log(turn: &Event) {
    let (reason, note) = (&turn.reason, turn.note.as_deref().unwrap_or_default());
    let note = headline(note);
    match turn.type_ {
        EventType::Warning => tracing::warn!("{reason}: {note}"),
        EventType::Normal => tracing::info!("{reason}: {note}"),
    }
}

/// What this object let go of may be what another one of the namespace waits for.
fn wake_siblings(context: &Context, snapshot: &Snapshot, plan: &Plan, outcome: &Outcome) {
    let let_go = outcome.done(plan).any(|action| {
        matches!(
            action,
            Action::Release { .. } | Action::DeleteCredential { .. } | Action::DeleteSecret(_)
        )
    });
    if let_go {
        let stores = &context.sources.stores;
        let all = stores.references_in(&snapshot.namespace).into_iter();
        for sibling in all.filter(|sibling| sibling.name != snapshot.name()) {
            // The receiver is gone only when the operator stops.
            let _ = context.wake.unbounded_send(sibling);
        }
    }
}
