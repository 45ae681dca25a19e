//! How soon a broken watch tries again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Without a failure for so long, a watch is well again.
const WELL: Duration = Duration::from_secs(60);

/// Waits longer and longer: sooner than kube's default, which lets up to a minute pass after an
/// outage; there are only a handful of watches.
pub(super) struct Patience {
    waits: ExponentialBackoff,
    failed: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            waits: waits(),
            failed: None,
        }
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(8))
        .without_max_times()
        .with_jitter()
        .build()
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.failed.is_some_and(|failed| failed.elapsed() > WELL) {
            self.waits = waits();
        }
        self.failed = Some(Instant::now());
        self.waits.next()
    }
}

impl Backoff for Patience {
    /// Called on each event; but each attempt begins with one, also one that is refused then.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_stays_broken_is_tried_less_and_less_often_and_one_that_was_well_at_once()
    {
        let mut patience = Patience::default();
        let mut longest = Duration::ZERO;
        for _ in 0..8 {
            patience.reset();
            longest = patience.next().unwrap();
            tokio::time::advance(longest).await;
        }
        assert!(longest >= Duration::from_secs(8), "{longest:?}");
        tokio::time::advance(WELL + Duration::from_secs(1)).await;
        let first = patience.next().unwrap();
        assert!(first <= Duration::from_secs(1), "{first:?}");
    }
}
