//! The state that all requests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bearer::Tokens;
use crate::faults::Faults;
use crate::issuers::Issuers;
use crate::journal::Journal;
use crate::settings::Settings;
use crate::store::Store;
use crate::throttle::Throttle;

/// The emulator's state, each part behind its own lock. No lock is held across an await.
pub struct App {
    store: Mutex<Store>,
    settings: Mutex<Settings>,
    tokens: Mutex<Tokens>,
    throttle: Mutex<Throttle>,
    faults: Mutex<Faults>,
    journal: Mutex<Journal>,
    /// Signing keys of issuers, fetched on demand.
    pub issuers: Arc<Issuers>,
}

impl App {
    /// State at start.
    pub fn new(store: Store, issuers: Arc<Issuers>, settings: Settings) -> Self {
        Self {
            store: Mutex::new(store),
            settings: Mutex::new(settings),
            tokens: Mutex::default(),
            throttle: Mutex::default(),
            faults: Mutex::default(),
            journal: Mutex::default(),
            issuers,
        }
    }

    /// Identities, their credentials, and locks.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Settings in force.
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// Access tokens issued so far.
    pub fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    /// Token buckets of the request limits.
    pub fn throttle(&self) -> MutexGuard<'_, Throttle> {
        lock(&self.throttle)
    }

    /// Faults to apply.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// Requests seen so far.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }
}

/// A poisoned lock means that a request panicked; the others should still be answered.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
