//! Request limits of the managed identity provider, per resource.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Requests that may come at once. Microsoft documents rates only; the real burst is not known.
const BURST: f64 = 4.0;

/// Kinds of requests with a limit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Create or update.
    Put,
    /// Read one.
    Get,
    /// Read a collection.
    List,
    /// Delete.
    Delete,
}

impl Kind {
    /// Requests per second for one resource: Microsoft Entra documentation,
    /// "Important considerations and restrictions for identity federation",
    /// "Throttling limits".
    fn rate(self) -> f64 {
        match self {
            Self::Put | Self::Delete | Self::List => 0.25,
            Self::Get => 0.5,
        }
    }
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// Token buckets by kind and resource.
#[derive(Default)]
pub struct Throttle {
    buckets: HashMap<(Kind, String), Bucket>,
}

impl Throttle {
    /// Counts a request against the limit, or says how many seconds to wait.
    pub fn take(&mut self, kind: Kind, resource: String, now: Instant) -> Result<(), u64> {
        let bucket = self.buckets.entry((kind, resource)).or_insert(Bucket {
            tokens: BURST,
            filled: now,
        });
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = elapsed.mul_add(kind.rate(), bucket.tokens).min(BURST);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / kind.rate());
        // Retry-After counts whole seconds: round up, or a client that obeys comes too early.
        Err(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }

    /// Fills every bucket.
    pub fn reset(&mut self) {
        self.buckets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(throttle: &mut Throttle, kind: Kind, resource: &str, now: Instant) -> Result<(), u64> {
        throttle.take(kind, resource.to_owned(), now)
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        for (kind, wait) in [
            (Kind::Put, 4),
            (Kind::Delete, 4),
            (Kind::List, 4),
            (Kind::Get, 2),
        ] {
            let (mut throttle, start) = (Throttle::default(), Instant::now());
            for _ in 0..4 {
                assert_eq!(take(&mut throttle, kind, "a", start), Ok(()), "{kind:?}");
            }
            assert_eq!(take(&mut throttle, kind, "a", start), Err(wait), "{kind:?}");
            let early = start + Duration::from_millis(wait * 1000 - 1);
            assert_eq!(take(&mut throttle, kind, "a", early), Err(1), "{kind:?}");
            let due = start + Duration::from_secs(wait);
            assert_eq!(take(&mut throttle, kind, "a", due), Ok(()), "{kind:?}");
            assert_eq!(take(&mut throttle, kind, "a", due), Err(wait), "{kind:?}");
        }
    }

    #[test]
    fn resources_and_kinds_have_their_own_limits() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        while take(&mut throttle, Kind::Put, "a", now).is_ok() {}
        assert_eq!(take(&mut throttle, Kind::Put, "b", now), Ok(()));
        assert_eq!(take(&mut throttle, Kind::Get, "a", now), Ok(()));
    }

    #[test]
    fn idle_time_saves_up_no_more_than_the_burst() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        while take(&mut throttle, Kind::Put, "a", start).is_ok() {}
        let later = start + Duration::from_secs(3600);
        let admitted = (0..10)
            .filter(|_| take(&mut throttle, Kind::Put, "a", later).is_ok())
            .count();
        assert_eq!(admitted, 4);
    }
}
