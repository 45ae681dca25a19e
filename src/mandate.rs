//! Whether this process may write: until it is told to stop, and, if replicas elect a leader, while
//! it holds the Lease by its own clock.

use std::{
    pin::pin,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// The right to write. Asked right before each write: a process that was paused does not know
/// that time went by.
#[derive(Debug)]
pub struct Mandate {
    is_stopped: AtomicBool,
    stopped: Notify,
    began: OnceLock<Instant>,
    /// None without election.
    until: Option<Mutex<Instant>>,
}

impl Mandate {
    /// That of the only replica: it lasts until it is stopped.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            is_stopped: AtomicBool::new(false),
            stopped: Notify::new(),
            began: Instant::now().into(),
            until: None,
        }
    }

    /// That of one replica of several: it has to be [extended](Self::extend) first.
    #[must_use]
    pub fn elected() -> Self {
        Self {
            is_stopped: AtomicBool::new(false),
            stopped: Notify::new(),
            began: OnceLock::new(),
            until: Some(Mutex::new(Instant::now())),
        }
    }

    /// It lasts for `term`, counted from `since`: the moment before the Lease was asked for.
    pub(crate) fn extend(&self, since: Instant, term: Duration) {
        if let Some(until) = &self.until {
            self.began.get_or_init(Instant::now);
            *until.lock().unwrap_or_else(PoisonError::into_inner) = since + term;
        }
    }

    /// Since when it may write, if it may: whatever a process before this one sent, it had sent by then.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }

    /// From now on no write begins, and none waits. One that is in flight ends as it will.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stopped.notify_waiters();
    }

    /// Whether a write may begin now.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.is_in_term() && !self.is_stopped.load(Ordering::Acquire)
    }

    /// Whether the Lease is held, by this process's own clock.
    pub(crate) fn is_in_term(&self) -> bool {
        Instant::now() < self.ends()
    }

    /// When the term is over; far from now without election.
    pub(crate) fn ends(&self) -> Instant {
        let until = self.until.as_ref();
        until.map_or_else(
            || Instant::now() + Duration::from_secs(u32::MAX.into()),
            |until| *until.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Resolves when it is stopped.
    pub async fn stopped(&self) {
        let mut stopped = pin!(self.stopped.notified());
        // From here on it is told; before, it is seen.
        stopped.as_mut().enable();
        if !self.is_stopped.load(Ordering::Acquire) {
            stopped.await;
        }
    }
}
