//! One identity: what is known of it, and the pace at which Azure wants to be asked.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{FRESH, View, pace::Pace};
use crate::{
    azure::{AzureClient, AzureError, AzureErrorKind, AzureIdentity},
    model::{FederatedCredential, IdentityId},
};

/// An identity that was made anew with all that it had looks as it did: it is read again after so long, whatever is
/// listed.
const REREAD: Duration = Duration::from_secs(3600);
/// How long a failed read answers for others; many objects may share an identity.
const FAILURE_SHARED: Duration = Duration::from_secs(2);

/// How long a write may still arrive that nobody waits for any longer: well beyond what Azure takes for one.
/// Whoever gave it up has waited for its whole timeout before; whoever died has not.
pub const ARRIVES: Duration = Duration::from_secs(15);

/// One identity. Writers queue for their turn, and wait in it; only a request in flight holds the
/// entry; and what was known after the last one can be read at any time. So a queue of writers
/// holds up nobody who only looks.
#[derive(Debug)]
pub(super) struct Owner {
    pub turn: tokio::sync::Mutex<()>,
    pub entry: tokio::sync::Mutex<Entry>,
    /// Held by the one who waits until Azure may be asked again.
    pub pause: tokio::sync::Mutex<()>,
    /// How many have the turn or wait for it.
    writers: AtomicU32,
    known: Mutex<Known>,
}

/// What was known after the last request.
#[derive(Debug, Default)]
struct Known {
    listed: Option<Arc<Listed>>,
    reads: Pace,
    writes: Pace,
}

/// A place in the line of those who write; left when dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Owner {
    /// An identity of which nothing is known, not even what a process before this one had sent until `began`,
    /// which whoever only looks does not ask.
    pub fn new(began: Option<Instant>) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            entry: tokio::sync::Mutex::new(Entry::new(began)),
            pause: tokio::sync::Mutex::default(),
            writers: AtomicU32::default(),
            known: Mutex::default(),
        }
    }

    /// What was known last, if it is at most this old.
    pub fn known(&self, max_age: Duration) -> Option<View> {
        let known = self.last();
        known
            .listed
            .as_ref()
            .and_then(|listed| listed.view(max_age))
    }

    /// How many credentials were listed last, at most this long ago.
    pub fn count(&self, max_age: Duration) -> Option<usize> {
        let known = self.last();
        let listed = known.listed.as_ref()?;
        (listed.at.elapsed() <= max_age).then_some(listed.credentials.len())
    }

    pub fn publish(&self, entry: &Entry) {
        let mut known = self.last();
        known.listed.clone_from(&entry.listed);
        (known.reads, known.writes) = (entry.reads, entry.writes);
    }

    /// Lines up for a write, unless at Azure's pace the turn would not come within `patience`, or the
    /// first in line waits until it may look.
    ///
    /// # Errors
    /// How long the first in line has to wait.
    pub fn line_up(&self, patience: Duration) -> Result<Place<'_>, Duration> {
        let before = self.writers.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.writers);
        let (last, now) = (self.last(), Instant::now());
        let look = wait_to_look(last.listed.as_deref(), last.reads, now);
        if before > 0 && !look.is_zero() {
            return Err(look);
        }
        if last.writes.wait_after(before, now) > patience {
            return Err(last.writes.wait(now));
        }
        drop(last);
        Ok(place)
    }

    fn last(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An identity and its credentials, as Azure told them.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    at: Instant,
    identity: AzureIdentity,
    credentials: Vec<FederatedCredential>,
    unsettled: Unsettled,
}

/// The credentials that a write may still change which was under way when they were listed: one that was
/// given up, or that a process before this one had sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unsettled {
    /// None.
    #[default]
    Nothing,
    /// Those of these names, in lower case.
    Named(BTreeSet<String>),
    /// Any of them.
    All,
}

impl Unsettled {
    /// Whether the one of this name is among them.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Named(names) => names.contains(&name.to_ascii_lowercase()),
            Self::All => true,
        }
    }
}

impl Listed {
    fn view(&self, max_age: Duration) -> Option<View> {
        (self.at.elapsed() <= max_age).then(|| self.seen())
    }

    fn seen(&self) -> View {
        View {
            identity: Ok(self.identity),
            credentials: Ok(self.credentials.clone()),
            age: self.at.elapsed(),
            unsettled: self.unsettled.clone(),
        }
    }
}

/// What one LIST told: asked for at `sent`, answered at `at`.
struct List {
    sent: Instant,
    at: Instant,
    credentials: Vec<FederatedCredential>,
}

impl List {
    fn has(&self, name: &str) -> bool {
        self.credentials.iter().any(|c| c.is_named(name))
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    identity: Option<AzureIdentity>,
    /// When it was read last.
    read_at: Option<Instant>,
    /// Hashes of credentials that were there before the identity was read last: as long as one of them is as it
    /// was, and none that was listed is gone, it is still the same identity.
    anchors: Vec<u64>,
    listed: Option<Arc<Listed>>,
    failed: Option<(Instant, AzureError)>,
    /// Until when a process before this one may have sent writes.
    began: Option<Instant>,
    /// When writes were given up that may be carried out all the same, by the name in lower case.
    given_up: HashMap<String, Instant>,
    pub reads: Pace,
    pub writes: Pace,
}

impl Entry {
    fn new(began: Option<Instant>) -> Self {
        Self {
            identity: None,
            read_at: None,
            anchors: Vec::new(),
            listed: None,
            failed: None,
            began,
            given_up: HashMap::new(),
            reads: Pace::default(),
            writes: Pace::default(),
        }
    }

    /// What is known, if it is at most this old.
    pub fn known(&self, max_age: Duration) -> Option<View> {
        self.listed.as_ref()?.view(max_age)
    }

    /// What can be said of it after this error.
    pub fn without(&self, error: AzureError) -> View {
        View {
            identity: self
                .identity
                .filter(|_| error.kind != AzureErrorKind::NotFound)
                .ok_or_else(|| error.clone()),
            credentials: Err(error),
            age: Duration::ZERO,
            unsettled: Unsettled::Nothing,
        }
    }

    /// How long to wait before a write, and the look that goes before it.
    pub fn wait_to_write(&self, now: Instant) -> Duration {
        let wait = self.writes.wait(now);
        wait + wait_to_look(self.listed.as_deref(), self.reads, now + wait)
    }

    /// What is known, if it is at most this old; or else what Azure says, unless it wants not to be asked.
    pub async fn read(
        &mut self,
        azure: &AzureClient,
        id: &IdentityId,
        max_age: Duration,
    ) -> Result<View, AzureError> {
        if let Some(view) = self.known(max_age) {
            return Ok(view);
        }
        // It answers for all objects that ask in that moment.
        if let Some((at, error)) = &self.failed
            && at.elapsed() < FAILURE_SHARED
        {
            return Err(error.clone());
        }
        let wait = self.reads.wait(Instant::now());
        if !wait.is_zero() {
            return Err(paused(wait));
        }
        let read = self.refresh(azure, id).await;
        match &read {
            Ok(_) => self.failed = None,
            Err(error) if error.kind == AzureErrorKind::Throttled => {
                self.reads.throttled(error.retry_after, Instant::now());
            }
            Err(error) => {
                if error.kind == AzureErrorKind::NotFound {
                    self.forget();
                }
                self.failed = Some((Instant::now(), error.clone()));
            }
        }
        read
    }

    /// Asks Azure.
    async fn refresh(&mut self, azure: &AzureClient, id: &IdentityId) -> Result<View, AzureError> {
        let mut list = self.list(azure, id).await?;
        let identity = if let (Some(identity), true) = (self.identity, self.is_the_same(&list)) {
            identity
        } else {
            // It is not known yet; or perhaps it was deleted and made again, under another client ID.
            let identity = azure.identity(id).await?;
            self.identity = Some(identity);
            self.read_at = Some(Instant::now());
            self.anchors = list.credentials.iter().map(hash).collect();
            if list.at.elapsed() > FRESH {
                // That took long, and what was listed before is old by now.
                list = self.list(azure, id).await?;
            }
            identity
        };
        let listed = Listed {
            at: list.at,
            identity,
            credentials: list.credentials,
            unsettled: self.unsettled(list.sent),
        };
        let view = listed.seen();
        self.listed = Some(Arc::new(listed));
        Ok(view)
    }

    /// Whether the identity can only be the one that was read last.
    fn is_the_same(&self, list: &List) -> bool {
        let before = self.listed.iter().flat_map(|listed| &listed.credentials);
        let is_all_there = before
            .into_iter()
            .all(|credential| list.has(&credential.name));
        let mut listed = list.credentials.iter().map(hash);
        is_all_there
            && listed.any(|hash| self.anchors.contains(&hash))
            && self.read_at.is_some_and(|at| at.elapsed() < REREAD)
    }

    async fn list(&mut self, azure: &AzureClient, id: &IdentityId) -> Result<List, AzureError> {
        let sent = Instant::now();
        match azure.credentials(id).await {
            Ok(credentials) => {
                self.reads.passed(sent);
                let at = Instant::now();
                Ok(List {
                    sent,
                    at,
                    credentials,
                })
            }
            Err(error) => {
                // What cannot be listed can perhaps be read: then that is what is to be told.
                if self.identity.is_none() && error.kind != AzureErrorKind::Throttled {
                    self.identity = azure.identity(id).await.ok();
                }
                Err(error)
            }
        }
    }

    /// What was known may be so no longer: the identity is gone, or a failed write was carried out
    /// all the same.
    pub fn forget(&mut self) {
        self.listed = None;
        self.identity = None;
    }

    /// A write to this credential was given up, and may be carried out all the same.
    pub fn gave_up(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.given_up.insert(name, Instant::now());
    }

    /// What a list that was asked for at `sent` is not the last word about.
    fn unsettled(&mut self, sent: Instant) -> Unsettled {
        self.given_up.retain(|_, at| sent < *at + ARRIVES);
        if self.began.is_some_and(|began| sent < began + ARRIVES) {
            Unsettled::All
        } else if self.given_up.is_empty() {
            Unsettled::Nothing
        } else {
            Unsettled::Named(self.given_up.keys().cloned().collect())
        }
    }

    /// The credential of this name, as it was listed last.
    pub fn named(&self, name: &str) -> Option<&FederatedCredential> {
        let mut credentials = self.listed.as_ref()?.credentials.iter();
        credentials.find(|credential| credential.is_named(name))
    }

    pub fn written(&mut self, credential: FederatedCredential) {
        self.deleted(&credential.name);
        // An identity that was made anew since the last look has it now, too.
        let hash = hash(&credential);
        self.anchors.retain(|anchor| *anchor != hash);
        if let Some(listed) = &mut self.listed {
            Arc::make_mut(listed).credentials.push(credential);
        }
    }

    pub fn deleted(&mut self, name: &str) {
        if let Some(listed) = &mut self.listed {
            let credentials = &mut Arc::make_mut(listed).credentials;
            credentials.retain(|c| !c.is_named(name));
        }
    }
}

fn hash(credential: &FederatedCredential) -> u64 {
    let mut hash = DefaultHasher::new();
    credential.hash(&mut hash);
    hash.finish()
}

/// How long to wait for a look that is fresh, at this time.
fn wait_to_look(listed: Option<&Listed>, reads: Pace, at: Instant) -> Duration {
    if listed.is_some_and(|listed| at <= listed.at + FRESH) {
        Duration::ZERO
    } else {
        reads.wait(at)
    }
}

/// What Azure would answer before the pause is over that it asked for.
pub(super) fn paused(wait: Duration) -> AzureError {
    let mut error = AzureError::new(
        AzureErrorKind::Throttled,
        "no request before the pause that Azure asked for is over",
    );
    error.retry_after = Some(wait);
    error
}
