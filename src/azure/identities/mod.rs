//! One owner per identity: everybody who reads or writes an identity's credentials goes through
//! here, so that one LIST serves all, one write is in flight at a time (Azure answers 409
//! otherwise), and nobody asks again before Azure wants to be asked.
//!
//! Writes wait for their turn, first come, first served; who would wait in vain does not line up.
//! When Azure puts off a look, one waits for all, and the others have something to do elsewhere.
//! Another cluster may write to the same identity, so 409 is normal life: the turn is kept, and the
//! write is tried again.

mod entry;
mod pace;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

pub use self::entry::{ARRIVES, Unsettled};
use self::entry::{Entry, Owner, paused};
use super::{AzureClient, AzureError, AzureErrorKind, AzureIdentity, CredentialProperties};
use crate::{
    mandate::Mandate,
    model::{CredentialName, FederatedCredential, IdentityId, ResourceId},
};

/// What was listed longer ago is listed again before it is written to: what stood there when the
/// write was decided must still stand there.
const FRESH: Duration = Duration::from_secs(5);
/// How long one write waits for its turn, and how long it keeps it when Azure is busy or slow; then others
/// have theirs, and the object says what it waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// First and longest wait for another writer.
const BUSY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// All identities that the operator has met.
#[derive(Debug)]
pub struct Identities {
    azure: AzureClient,
    owners: Mutex<HashMap<IdentityId, Arc<Owner>>>,
    mandate: Arc<Mandate>,
}

/// How old a list may be.
#[derive(Clone, Copy, Debug)]
pub struct MaxAge {
    /// What is older is asked for again.
    pub wanted: Duration,
    /// While Azure wants not to be asked, what is older than `wanted` does, up to this age.
    pub in_a_pause: Duration,
}

impl MaxAge {
    /// At most this old, whatever Azure wants.
    #[must_use]
    pub const fn strictly(age: Duration) -> Self {
        Self {
            wanted: age,
            in_a_pause: age,
        }
    }
}

/// An identity as seen some time ago.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The identity; the last known one when Azure does not answer.
    pub identity: Result<AzureIdentity, AzureError>,
    /// All its credentials, whoever wrote them.
    pub credentials: Result<Vec<FederatedCredential>, AzureError>,
    /// How old `credentials` is.
    pub age: Duration,
    /// Which of them a write of before may still change.
    pub unsettled: Unsettled,
}

/// What became of a request to write.
enum Attempt {
    Written,
    /// Azure did nothing, and wants to be asked again.
    PutOff(AzureError),
}

/// Asked at the moment of a write.
type IsAllowed<'a> = &'a (dyn Fn() -> bool + Send + Sync);

enum Write<'a> {
    Put {
        name: &'a CredentialName,
        properties: &'a CredentialProperties,
        seen: Option<&'a FederatedCredential>,
        is_allowed: IsAllowed<'a>,
    },
    Delete {
        seen: &'a FederatedCredential,
        is_allowed: IsAllowed<'a>,
    },
}

impl Write<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Put { name, .. } => name.as_str(),
            Self::Delete { seen, .. } => &seen.name,
        }
    }

    /// Whether what it was decided on still stands.
    fn check(&self, entry: &Entry) -> Result<(), AzureError> {
        let changed = || Err(outdated("the credential changed in the meantime"));
        match self {
            Self::Put { is_allowed, .. } if !is_allowed() => {
                Err(outdated("the grant that allowed it is gone"))
            }
            Self::Put { name, seen, .. } if entry.named(name.as_str()) != *seen => changed(),
            Self::Put { .. } => Ok(()),
            Self::Delete { is_allowed, .. } if !is_allowed() => {
                Err(outdated("it is wanted or granted again"))
            }
            Self::Delete { seen, .. } => match entry.named(&seen.name) {
                // Somebody was faster.
                None => Err(AzureError::new(AzureErrorKind::NotFound, "it is gone")),
                Some(found) if found == *seen => Ok(()),
                Some(_) => changed(),
            },
        }
    }
}

impl Identities {
    /// Identities behind one client, which are written to while `mandate` is valid.
    #[must_use]
    pub fn new(azure: AzureClient, mandate: Arc<Mandate>) -> Self {
        Self {
            azure,
            owners: Mutex::default(),
            mandate,
        }
    }

    /// The identity and its credentials, read again only if what is known is too old; then after all
    /// that others do with it at the moment.
    pub async fn view(&self, id: &IdentityId, age: MaxAge) -> View {
        let owner = self.owner(id);
        let give_up = Instant::now() + PATIENCE;
        let mut waits_for_all = None;
        loop {
            if let Some(view) = owner.known(age.wanted) {
                return view;
            }
            let mut entry = owner.entry.lock().await;
            let read = entry.read(&self.azure, id, age.wanted).await;
            owner.publish(&entry);
            match read {
                Ok(view) => return view,
                Err(error) if error.kind == AzureErrorKind::Throttled => {}
                Err(error) => return entry.without(error),
            }
            if let Some(view) = entry.known(age.in_a_pause) {
                return view;
            }
            waits_for_all = waits_for_all.or_else(|| owner.pause.try_lock().ok());
            let wait = entry.reads.wait(Instant::now());
            if waits_for_all.is_none() || Instant::now() + wait > give_up {
                return entry.without(paused(wait));
            }
            drop(entry);
            if let Err(stopping) = self.pause(wait).await {
                return owner.entry.lock().await.without(stopping);
            }
        }
    }

    /// How many credentials the identities carry that were listed within `max_age`.
    #[must_use]
    pub fn counts(&self, max_age: Duration) -> BTreeMap<IdentityId, usize> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = owners
            .iter()
            .filter_map(|(id, owner)| Some((id.clone(), owner.count(max_age)?)));
        listed.collect()
    }

    /// Whether the principal may write a managed identity's credentials, by its roles.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn may_write(&self, id: &ResourceId) -> Result<bool, AzureError> {
        self.azure.may_write(id).await
    }

    /// Creates a credential, or replaces `seen`, after all writes to this identity that came
    /// before. `is_allowed` is asked when its turn has come.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn put(
        &self,
        id: &IdentityId,
        name: &CredentialName,
        properties: &CredentialProperties,
        seen: Option<&FederatedCredential>,
        is_allowed: IsAllowed<'_>,
    ) -> Result<(), AzureError> {
        let put = Write::Put {
            name,
            properties,
            seen,
            is_allowed,
        };
        self.write(id, put).await
    }

    /// Deletes the credential `seen`, after all writes to this identity that came before.
    /// `is_allowed` is asked when its turn has come.
    ///
    /// # Errors
    /// See [`AzureErrorKind`]; a credential or an identity that does not exist is none. Of an
    /// application it has to show in a list: a replica of Graph's may not know it yet.
    pub async fn delete(
        &self,
        id: &IdentityId,
        seen: &FederatedCredential,
        is_allowed: IsAllowed<'_>,
    ) -> Result<(), AzureError> {
        match self.write(id, Write::Delete { seen, is_allowed }).await {
            Err(error) if error.kind == AzureErrorKind::NotFound => match id {
                IdentityId::Managed(_) => Ok(()),
                IdentityId::Application(_) => Err(outdated("Graph does not find it")),
            },
            written => written,
        }
    }

    /// Sends a write at the identity's pace, and again while another writer is in the way; each
    /// time only if what it was decided on still stands.
    async fn write(&self, id: &IdentityId, write: Write<'_>) -> Result<(), AzureError> {
        let owner = self.owner(id);
        // Passes are few, and others have something to do elsewhere.
        let line = owner.line_up(PATIENCE);
        let _place = line.map_err(|wait| paused(wait.max(BUSY.1)))?;
        let Ok(_turn) = timeout(PATIENCE, owner.turn.lock()).await else {
            return Err(paused(BUSY.1));
        };
        let give_up = Instant::now() + PATIENCE;
        let mut busy = BUSY.0;
        loop {
            let wait = owner.entry.lock().await.wait_to_write(Instant::now());
            if Instant::now() + wait > give_up {
                return Err(paused(wait));
            }
            self.pause(wait).await?;
            let mut entry = owner.entry.lock().await;
            let attempt = self.attempt(&mut entry, id, &write).await;
            owner.publish(&entry);
            drop(entry);
            match attempt? {
                Attempt::Written => return Ok(()),
                Attempt::PutOff(error) if error.kind == AzureErrorKind::ConcurrentWrite => {
                    let wait = busy.mul_f64(rand::random_range(0.5..1.5)).min(BUSY.1);
                    if Instant::now() + wait > give_up {
                        return Err(error);
                    }
                    self.pause(wait).await?;
                    busy = (busy * 2).min(BUSY.1);
                }
                Attempt::PutOff(_) => {}
            }
        }
    }

    async fn attempt(
        &self,
        entry: &mut Entry,
        id: &IdentityId,
        write: &Write<'_>,
    ) -> Result<Attempt, AzureError> {
        match entry.read(&self.azure, id, FRESH).await {
            Err(error) if error.kind == AzureErrorKind::Throttled => {
                return Ok(Attempt::PutOff(error));
            }
            read => read?,
        };
        write.check(entry)?;
        if !self.mandate.is_valid() {
            return Err(stopping());
        }
        let sent = Instant::now();
        let result = self.send(entry, id, write).await;
        match &result {
            Err(error) if error.kind == AzureErrorKind::Throttled => {
                entry.writes.throttled(error.retry_after, Instant::now());
            }
            _ => entry.writes.passed(sent),
        }
        match result {
            Ok(()) => Ok(Attempt::Written),
            Err(error)
                if [AzureErrorKind::Throttled, AzureErrorKind::ConcurrentWrite]
                    .contains(&error.kind) =>
            {
                Ok(Attempt::PutOff(error))
            }
            Err(error) => {
                entry.forget();
                if error.kind == AzureErrorKind::Unavailable {
                    entry.gave_up(write.name());
                }
                Err(error)
            }
        }
    }

    async fn send(
        &self,
        entry: &mut Entry,
        id: &IdentityId,
        write: &Write<'_>,
    ) -> Result<(), AzureError> {
        match write {
            Write::Put {
                name, properties, ..
            } => {
                let written = self.azure.put_credential(id, name, properties).await?;
                entry.written(written);
            }
            Write::Delete { seen, .. } => {
                self.azure.delete_credential(id, &seen.name).await?;
                entry.deleted(&seen.name);
            }
        }
        Ok(())
    }

    async fn pause(&self, wait: Duration) -> Result<(), AzureError> {
        tokio::select! {
            biased;
            () = self.mandate.stopped() => Err(stopping()),
            () = sleep(wait) => Ok(()),
        }
    }

    fn owner(&self, id: &IdentityId) -> Arc<Owner> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners.entry(id.clone());
        owner
            .or_insert_with(|| Arc::new(Owner::new(self.mandate.began())))
            .clone()
    }
}

fn stopping() -> AzureError {
    AzureError::new(AzureErrorKind::Unavailable, "the operator is stopping")
}

fn outdated(message: &str) -> AzureError {
    AzureError::new(AzureErrorKind::Outdated, message)
}
