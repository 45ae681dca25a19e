//! The passes, counted and timed.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
    },
    metrics::{
        MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use strum::VariantArray;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{api::Reason, problem::Problem};

/// What became of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray)]
enum Ended {
    /// There was nothing to do.
    Unchanged,
    /// Everything that was to be done is done.
    Changed,
    /// Something stands in the way.
    Problem,
}

/// The parts of a pass, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Observe,
    Plan,
    Apply,
    Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnd {
    result: Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPhase {
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Reason,
}

/// All passes of this process.
#[derive(Debug)]
pub struct Passes {
    total: Family<ByEnd, Counter>,
    problems: Family<ByReason, Counter>,
    duration: Family<ByPhase, Histogram, fn() -> Histogram>,
    under_way: Arc<Mutex<UnderWay>>,
}

/// Since when each of the passes that have not ended runs.
#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// One pass that runs, until this is dropped.
pub(super) struct Running {
    number: u64,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Default for Passes {
    fn default() -> Self {
        // From what is read from memory to what waits for its turn at Azure.
        let buckets = || Histogram::new([0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0]);
        let passes = Self {
            total: Family::default(),
            problems: Family::default(),
            duration: Family::new_with_constructor(buckets),
            under_way: Arc::default(),
        };
        // Prometheus takes no notice of the first count of a series that was not there before.
        for result in Ended::VARIANTS.iter().copied() {
            drop(passes.total.get_or_create(&ByEnd { result }));
        }
        for reason in Reason::VARIANTS.iter().copied() {
            drop(passes.problems.get_or_create(&ByReason { reason }));
        }
        passes
    }
}

impl Passes {
    /// Makes them part of what is measured.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "passes",
            "Passes over an object, by result",
            self.total.clone(),
        );
        registry.register(
            "problems",
            "Problems that passes ran into, by the condition's reason",
            self.problems.clone(),
        );
        registry.register_with_unit(
            "pass_duration",
            "How long each phase of a pass took",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_collector(Box::new(Oldest(self.under_way.clone())));
    }

    pub(super) fn begin(&self) -> Running {
        let mut under_way = lock(&self.under_way);
        let number = under_way.next;
        under_way.next += 1;
        under_way.since.insert(number, Instant::now());
        Running {
            number,
            under_way: self.under_way.clone(),
        }
    }

    /// Runs one phase.
    pub(super) async fn time<T>(&self, phase: Phase, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let span = tracing::debug_span!("phase", phase = phase.as_str());
        let done = work.instrument(span).await;
        let duration = self.duration.get_or_create(&ByPhase { phase });
        duration.observe(started.elapsed().as_secs_f64());
        done
    }

    /// Counts a pass that ended.
    pub(super) fn count(&self, changed: bool, problems: &[Problem]) {
        for problem in problems {
            let reason = problem.reason;
            self.problems.get_or_create(&ByReason { reason }).inc();
        }
        let result = match (problems.is_empty(), changed) {
            (false, _) => Ended::Problem,
            (true, true) => Ended::Changed,
            (true, false) => Ended::Unchanged,
        };
        self.total.get_or_create(&ByEnd { result }).inc();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.under_way).since.remove(&self.number);
    }
}

/// How long the longest pass under way has taken so far.
#[derive(Debug)]
struct Oldest(Arc<Mutex<UnderWay>>);

impl Collector for Oldest {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let oldest = lock(&self.0).since.values().min().map(Instant::elapsed);
        let gauge = encoder.encode_descriptor(
            "oldest_pass",
            "How long the longest pass under way has taken so far",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(oldest.unwrap_or_default().as_secs_f64()).encode(gauge)
    }
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Status => "status",
        }
    }
}

impl EncodeLabelValue for Phase {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Ended {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        let result = match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Problem => "problem",
        };
        result.encode(encoder)
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        self.to_string().encode(encoder)
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> std::sync::MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
