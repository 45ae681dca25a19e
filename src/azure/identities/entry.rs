//! One identity: what is known of it, and the pace at which Azure wants to be asked.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{View, pace::Pace};
use crate::{
    azure::{AzureClient, AzureError, AzureErrorKind, AzureIdentity},
    model::{FederatedCredential, IdentityId},
};

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
    known: Mutex<Option<Arc<Listed>>>,
}

impl Owner {
    /// An identity of which nothing is known, not even what a process before this one had sent until `began`,
    /// which whoever only looks does not ask.
    pub fn new(began: Option<Instant>) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            entry: tokio::sync::Mutex::new(Entry::new(began)),
            known: Mutex::default(),
        }
    }

    /// What was known last, if it is at most this old.
    pub fn known(&self, max_age: Duration) -> Option<View> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().and_then(|listed| listed.view(max_age))
    }

    /// How many credentials were listed last, at most this long ago.
    pub fn count(&self, max_age: Duration) -> Option<usize> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = known.as_ref()?;
        (listed.at.elapsed() <= max_age).then_some(listed.credentials.len())
    }

    pub fn publish(&self, entry: &Entry) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(&entry.listed);
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
        let age = self.at.elapsed();
        (age <= max_age).then(|| View {
            identity: Ok(self.identity),
            credentials: Ok(self.credentials.clone()),
            age,
            unsettled: self.unsettled.clone(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    identity: Option<AzureIdentity>,
    /// Credentials that were there before the identity was read last: as long as one of them is, it
    /// is still the same identity.
    anchors: Vec<String>,
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

    /// The error of a moment ago: it answers for all objects that ask in that moment.
    pub fn failed_just_now(&self) -> Option<AzureError> {
        self.failed
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FAILURE_SHARED)
            .map(|(_, error)| error.clone())
    }

    /// Asks Azure.
    pub async fn refresh(
        &mut self,
        azure: &AzureClient,
        id: &IdentityId,
    ) -> Result<View, AzureError> {
        let sent = Instant::now();
        let credentials = match azure.credentials(id).await {
            Ok(credentials) => credentials,
            Err(error) => {
                // What cannot be listed can perhaps be read: then that is what is to be told.
                if self.identity.is_none() && error.kind != AzureErrorKind::Throttled {
                    self.identity = azure.identity(id).await.ok();
                }
                return Err(error);
            }
        };
        self.reads.passed(sent);
        let mut anchors = self.anchors.iter();
        let is_the_same = anchors.any(|name| credentials.iter().any(|c| c.is_named(name)));
        let identity = if let (Some(identity), true) = (self.identity, is_the_same) {
            identity
        } else {
            // It is not known yet; or perhaps it was deleted and made again, under another client ID.
            let identity = azure.identity(id).await?;
            self.anchors = credentials.iter().map(|c| c.name.clone()).collect();
            identity
        };
        self.identity = Some(identity);
        let unsettled = self.unsettled(sent);
        self.listed = Some(Arc::new(Listed {
            at: Instant::now(),
            identity,
            credentials: credentials.clone(),
            unsettled: unsettled.clone(),
        }));
        self.failed = None;
        Ok(View {
            identity: Ok(identity),
            credentials: Ok(credentials),
            age: Duration::ZERO,
            unsettled,
        })
    }

    pub fn read_failed(&mut self, error: AzureError) -> AzureError {
        if error.kind == AzureErrorKind::NotFound {
            self.forget();
        }
        self.failed = Some((Instant::now(), error.clone()));
        error
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
        self.anchors.retain(|name| !credential.is_named(name));
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

/// What Azure would answer before the pause is over that it asked for.
pub(super) fn paused(wait: Duration) -> AzureError {
    let mut error = AzureError::new(
        AzureErrorKind::Throttled,
        "no request before the pause that Azure asked for is over",
    );
    error.retry_after = Some(wait);
    error
}
