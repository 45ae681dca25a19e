//! What the kubelet asks: whether this replica is ready, and whether it is alive.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A loop that is well comes round every second; the machine may be slow.
const STUCK: Duration = Duration::from_secs(60);

/// What is still to come, and when each loop was last seen to run.
#[derive(Debug, Default)]
pub struct Health {
    pending: Mutex<BTreeMap<String, String>>,
    loops: Mutex<BTreeMap<String, Instant>>,
}

impl Health {
    /// The replica is not ready before `what` is done; `why` is what the reader is told.
    pub fn pending(&self, what: &str, why: &str) {
        lock(&self.pending).insert(what.to_owned(), why.to_owned());
    }

    /// Says why something that is pending is; what was done once stays done.
    pub fn explain(&self, what: &str, why: &str) {
        if let Some(reason) = lock(&self.pending).get_mut(what) {
            why.clone_into(reason);
        }
    }

    /// `what` came about.
    pub fn done(&self, what: &str) {
        lock(&self.pending).remove(what);
    }

    /// The loop runs.
    pub fn beat(&self, name: &str) {
        lock(&self.loops).insert(name.to_owned(), Instant::now());
    }

    /// What keeps the replica from being ready: one line each.
    ///
    /// # Errors
    /// Something is pending.
    pub fn ready(&self) -> Result<(), String> {
        let pending = lock(&self.pending);
        let lines = pending.iter().map(|(what, why)| format!("{what}: {why}\n"));
        report(lines.collect())
    }

    /// The loops that did not come round for a minute: one line each.
    ///
    /// # Errors
    /// There is one, and only a restart helps.
    pub fn alive(&self) -> Result<(), String> {
        let loops = lock(&self.loops);
        let stuck = loops
            .iter()
            .map(|(name, beat)| (name, beat.elapsed()))
            .filter(|(_, silent)| *silent > STUCK)
            .map(|(name, silent)| format!("{name}: stuck for {} s\n", silent.as_secs()));
        report(stuck.collect())
    }
}

fn report(lines: String) -> Result<(), String> {
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_when_nothing_is_pending_and_says_what_is() {
        let health = Health::default();
        assert_eq!(health.ready(), Ok(()));
        health.pending("secrets", "not listed yet");
        health.pending("lease", "not asked for yet");
        health.explain("secrets", "403 forbidden");
        assert_eq!(
            health.ready(),
            Err("lease: not asked for yet\nsecrets: 403 forbidden\n".into())
        );
        health.done("secrets");
        health.done("lease");
        // A watch that breaks later is resumed; nobody is better off without the replica.
        health.explain("secrets", "connection refused");
        assert_eq!(health.ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_come_round_for_a_minute_is_stuck() {
        let health = Health::default();
        assert_eq!(health.alive(), Ok(()));
        health.beat("controller");
        health.beat("election");
        tokio::time::advance(Duration::from_secs(59)).await;
        health.beat("election");
        assert_eq!(health.alive(), Ok(()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(health.alive(), Err("controller: stuck for 61 s\n".into()));
        health.beat("controller");
        assert_eq!(health.alive(), Ok(()));
    }
}
