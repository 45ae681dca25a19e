//! How fast one identity may be asked or written to, learnt from Azure's answers: at full speed
//! until Azure answers 429, then no faster than it documents, until it was left alone for a while.

use std::time::Duration;

use tokio::time::Instant;

/// The interval that Azure documents for one identity: 0.25 LISTs, PUTs and DELETEs a second.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations#throttling-limits>
const DOCUMENTED: Duration = Duration::from_secs(4);
const SLOWEST: Duration = Duration::from_secs(60);
/// After so long without a request Azure's allowance is full again.
const RESTED: Duration = Duration::from_secs(60);
/// Waits that Azure may name before one request passes: another cluster may have come first meanwhile.
const TAKEN_AT_ITS_WORD: u32 = 2;

/// The pace of one kind of request to one identity.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    interval: Duration,
    next: Option<Instant>,
    /// Refusals since the last request that passed.
    refused: u32,
}

impl Pace {
    /// How long to wait before the next request.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next
            .map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// How long to wait when so many others have to go first.
    pub fn wait_after(&self, others: u32, now: Instant) -> Duration {
        if self.has_rested(now) {
            return Duration::ZERO;
        }
        self.wait(now) + self.interval * others
    }

    fn has_rested(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next + RESTED < now)
    }

    /// A request that was sent at this time was not throttled.
    pub fn passed(&mut self, sent: Instant) {
        self.interval = if self.has_rested(sent) || self.interval.is_zero() {
            Duration::ZERO
        } else {
            self.interval.mul_f64(0.95).max(DOCUMENTED)
        };
        self.next = Some(sent + self.interval);
        self.refused = 0;
    }

    /// Azure asked to slow down. How long it asks to wait is taken at its word as long as that helps: where another
    /// cluster writes, too, a wider interval would leave unused what Azure lets through.
    pub fn throttled(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.refused = self.refused.saturating_add(1);
        let is_trusted = retry_after.is_some() && self.refused <= TAKEN_AT_ITS_WORD;
        let growth = if is_trusted { 1.0 } else { 1.25 };
        self.interval = self.interval.mul_f64(growth).clamp(DOCUMENTED, SLOWEST);
        let asked = retry_after.filter(|asked| is_trusted || *asked > self.interval);
        self.next = Some(now + asked.unwrap_or(self.interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_waits_until_azure_asks_to_slow_down() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.wait(start), Duration::ZERO);
            pace.passed(start);
        }
    }

    #[test]
    fn what_azure_asks_for_is_obeyed_and_then_its_documented_pace_is_kept() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.throttled(Some(7 * SECOND), start);
        assert_eq!(pace.wait(start), 7 * SECOND);
        pace.passed(start + 7 * SECOND);
        assert_eq!(pace.wait(start + 7 * SECOND), DOCUMENTED);
    }

    #[test]
    fn as_long_as_it_helps_to_wait_as_azure_asks_its_documented_pace_is_kept_afterwards() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.throttled(Some(SECOND), now);
            pace.throttled(Some(SECOND), now);
            assert_eq!(pace.wait(now), SECOND);
            pace.passed(now);
            assert_eq!(pace.wait(now), DOCUMENTED);
        }
    }

    #[test]
    fn an_azure_that_refuses_again_and_again_whatever_it_says_is_written_to_less_often() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace.throttled(Some(SECOND), now);
        }
        assert!(pace.wait(now) > DOCUMENTED);
        pace.passed(now);
        assert!(pace.wait(now) > DOCUMENTED);
    }

    #[test]
    fn an_azure_that_is_slower_than_documented_is_followed_and_the_pace_comes_back() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.throttled(None, now);
        }
        assert_eq!(pace.wait(now), SLOWEST);
        for _ in 0..60 {
            now += pace.wait(now);
            pace.passed(now);
        }
        assert_eq!(pace.wait(now), DOCUMENTED);
    }

    #[test]
    fn after_a_rest_it_is_fast_again() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.throttled(None, start);
        let later = start + DOCUMENTED + RESTED + SECOND;
        pace.passed(later);
        assert_eq!(pace.wait(later), Duration::ZERO);
    }
}
