//! One owner per identity: everybody who reads or writes an identity's credentials goes through
//! here, so that one LIST serves all, one write is in flight at a time (Azure answers 409
//! otherwise), and nobody asks again before Azure wants to be asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{ArmClient, ArmError, ArmErrorKind, CredentialProperties, ManagedIdentity};
use crate::model::{CredentialName, FederatedCredential, ResourceId};

/// How long a failed read answers for others; many objects may share an identity.
const FAILURE_SHARED: Duration = Duration::from_secs(2);
/// Azure lets one LIST or write through every four seconds when it throttles.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations#throttling-limits>
const THROTTLED: Duration = Duration::from_secs(4);

/// All identities that the operator has met.
#[derive(Debug)]
pub struct Identities {
    arm: ArmClient,
    entries: Mutex<HashMap<ResourceId, Arc<tokio::sync::Mutex<Entry>>>>,
}

/// An identity as seen some time ago.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The identity; the last known one when Azure does not answer.
    pub identity: Result<ManagedIdentity, ArmError>,
    /// All its credentials, whoever wrote them.
    pub credentials: Result<Vec<FederatedCredential>, ArmError>,
    /// How old `credentials` is.
    pub age: Duration,
}

#[derive(Debug, Default)]
struct Entry {
    identity: Option<ManagedIdentity>,
    listed: Option<(Instant, Vec<FederatedCredential>)>,
    failed: Option<(Instant, ArmError)>,
    not_before: Option<Instant>,
}

impl Identities {
    /// Identities behind one client.
    #[must_use]
    pub fn new(arm: ArmClient) -> Self {
        Self {
            arm,
            entries: Mutex::default(),
        }
    }

    /// The identity and its credentials, read again only if what is known is older than
    /// `max_age`. Waits for a write in flight.
    pub async fn view(&self, id: &ResourceId, max_age: Duration) -> View {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        let now = Instant::now();
        if let Some((at, credentials)) = &entry.listed
            && let Some(identity) = entry.identity
            && now - *at <= max_age
        {
            return View {
                identity: Ok(identity),
                credentials: Ok(credentials.clone()),
                age: now - *at,
            };
        }
        let error = match entry.refused(now) {
            Some(error) => error,
            None => match entry.refresh(&self.arm, id).await {
                Ok(()) => return entry.latest(),
                Err(error) => entry.failed(error),
            },
        };
        View {
            identity: entry
                .identity
                .filter(|_| error.kind != ArmErrorKind::NotFound)
                .ok_or_else(|| error.clone()),
            credentials: Err(error),
            age: Duration::ZERO,
        }
    }

    /// Creates or replaces a credential, after all writes to this identity that came before.
    ///
    /// # Errors
    /// See [`ArmErrorKind`].
    pub async fn put(
        &self,
        id: &ResourceId,
        name: &CredentialName,
        properties: &CredentialProperties,
    ) -> Result<(), ArmError> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        entry.write_allowed()?;
        match self.arm.put_credential(id, name, properties).await {
            Ok(written) => {
                entry.forget(name.as_str());
                if let Some((_, credentials)) = &mut entry.listed {
                    credentials.push(written);
                }
                Ok(())
            }
            Err(error) => Err(entry.write_failed(error)),
        }
    }

    /// Deletes a credential, after all writes to this identity that came before.
    ///
    /// # Errors
    /// See [`ArmErrorKind`]; an identity that does not exist is none.
    pub async fn delete(&self, id: &ResourceId, name: &str) -> Result<(), ArmError> {
        let entry = self.entry(id);
        let mut entry = entry.lock().await;
        entry.write_allowed()?;
        match self.arm.delete_credential(id, name).await {
            Ok(()) => {
                entry.forget(name);
                Ok(())
            }
            Err(error) if error.kind == ArmErrorKind::NotFound => {
                entry.failed(error);
                Ok(())
            }
            Err(error) => Err(entry.write_failed(error)),
        }
    }

    fn entry(&self, id: &ResourceId) -> Arc<tokio::sync::Mutex<Entry>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.entry(id.clone()).or_default().clone()
    }
}

impl Entry {
    fn latest(&self) -> View {
        let missing = || ArmError::new(ArmErrorKind::Unexpected, "nothing was read yet");
        View {
            identity: self.identity.ok_or_else(missing),
            credentials: self
                .listed
                .as_ref()
                .map(|(_, credentials)| credentials.clone())
                .ok_or_else(missing),
            age: Duration::ZERO,
        }
    }

    /// The error that Azure would most likely give, so that it need not be asked.
    fn refused(&self, now: Instant) -> Option<ArmError> {
        if let Some(error) = self.throttled(now) {
            return Some(error);
        }
        self.failed
            .as_ref()
            .filter(|(at, _)| now - *at < FAILURE_SHARED)
            .map(|(_, error)| error.clone())
    }

    fn throttled(&self, now: Instant) -> Option<ArmError> {
        let wait = self.not_before?.checked_duration_since(now)?;
        let mut error = ArmError::new(ArmErrorKind::Throttled, "Azure asked to slow down");
        error.retry_after = Some(wait);
        Some(error)
    }

    async fn refresh(&mut self, arm: &ArmClient, id: &ResourceId) -> Result<(), ArmError> {
        if self.identity.is_none() {
            self.identity = Some(arm.identity(id).await?);
        }
        let credentials = arm.credentials(id).await?;
        let lost_some = self.listed.as_ref().is_some_and(|(_, before)| {
            before
                .iter()
                .any(|old| !credentials.iter().any(|new| new.is_named(&old.name)))
        });
        if lost_some {
            // Perhaps the identity was deleted and made again, under another client ID.
            self.identity = Some(arm.identity(id).await?);
        }
        self.listed = Some((Instant::now(), credentials));
        self.failed = None;
        Ok(())
    }

    fn failed(&mut self, error: ArmError) -> ArmError {
        if error.kind == ArmErrorKind::NotFound {
            self.identity = None;
            self.listed = None;
        }
        self.pace(&error);
        self.failed = Some((Instant::now(), error.clone()));
        error
    }

    fn write_allowed(&self) -> Result<(), ArmError> {
        self.throttled(Instant::now()).map_or(Ok(()), Err)
    }

    /// A failed write may have been carried out all the same: what was listed is no longer known.
    fn write_failed(&mut self, error: ArmError) -> ArmError {
        self.listed = None;
        self.identity = None;
        self.pace(&error);
        error
    }

    fn pace(&mut self, error: &ArmError) {
        if error.kind == ArmErrorKind::Throttled {
            let wait = error.retry_after.unwrap_or(THROTTLED);
            self.not_before = Some(Instant::now() + wait);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some((_, credentials)) = &mut self.listed {
            credentials.retain(|credential| !credential.is_named(name));
        }
    }
}
