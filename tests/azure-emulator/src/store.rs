//! Identities, their federated credentials, and delete locks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::application::Application;
use crate::arm_error::ArmError;
use crate::bearer::Caller;
use crate::identity::{Credential, Identity, Trust};
use crate::paging::{Page, PageRequest};
use crate::resource_id::{IdentityId, Scope};
use crate::validation;

/// Whether a PUT made a resource or changed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It did not exist.
    Created,
    /// It existed.
    Updated,
}

/// Everything that ARM remembers. Times are handed in, so that tests need not wait.
#[derive(Default)]
pub struct Store {
    identities: BTreeMap<String, Identity>,
    applications: BTreeMap<Uuid, Application>,
    /// Scopes in lower case.
    delete_locks: BTreeSet<String>,
}

impl Store {
    /// Adds or replaces an identity.
    pub fn insert(&mut self, identity: Identity) {
        self.identities.insert(identity.id.key(), identity);
    }

    /// An identity.
    pub fn identity(&self, id: &IdentityId) -> Result<&Identity, ArmError> {
        self.identities
            .get(&id.key())
            .ok_or_else(|| ArmError::identity_not_found(id))
    }

    /// An identity, to change it.
    pub fn identity_mut(&mut self, id: &IdentityId) -> Result<&mut Identity, ArmError> {
        self.identities
            .get_mut(&id.key())
            .ok_or_else(|| ArmError::identity_not_found(id))
    }

    /// Who has a client id in a tenant, and what the token endpoint trusts to be them.
    pub fn client(
        &self,
        tenant: Uuid,
        client: Uuid,
        delay: Duration,
        now: Instant,
    ) -> Option<(Caller, Vec<Trust>)> {
        let is_meant = |caller: &Caller| caller.tenant == tenant && caller.client == client;
        let mut identities = self.identities.values();
        let mut applications = self.applications.values();
        identities
            .find(|identity| is_meant(&identity.caller()))
            .map(|identity| (identity.caller(), identity.propagated_trusts(delay, now)))
            .or_else(|| {
                let found = applications.find(|application| is_meant(&application.caller))?;
                Some((found.caller.clone(), found.propagated_trusts(delay, now)))
            })
    }

    /// Adds an application.
    pub fn insert_application(&mut self, application: Application) {
        self.applications.insert(application.id, application);
    }

    /// Applications, to change them.
    pub fn applications_mut(&mut self) -> impl Iterator<Item = &mut Application> {
        self.applications.values_mut()
    }

    /// Deletes an application with its credentials.
    pub fn delete_application(&mut self, id: Uuid) {
        self.applications.remove(&id);
    }

    /// Identities of a scope.
    pub fn identities(&self, scope: &Scope, page: &PageRequest) -> Page<Value> {
        page.cut(
            self.identities
                .iter()
                .filter(|(_, identity)| scope.contains(&identity.id))
                .map(|(key, identity)| (key, identity.resource())),
        )
    }

    /// Subscriptions that hold identities.
    pub fn subscriptions(&self) -> BTreeMap<String, Uuid> {
        self.identities
            .values()
            .map(|identity| (identity.id.subscription.clone(), identity.tenant_id))
            .collect()
    }

    /// Deletes an identity with its credentials; false if there was none.
    pub fn delete_identity(&mut self, id: &IdentityId) -> Result<bool, ArmError> {
        self.check_locks(&id.to_string())?;
        Ok(self.identities.remove(&id.key()).is_some())
    }

    /// A credential.
    pub fn credential(&self, id: &IdentityId, name: &str) -> Result<Value, ArmError> {
        let identity = self.parent(id)?;
        let credential = identity
            .credentials
            .get(&name.to_ascii_lowercase())
            .ok_or_else(|| ArmError::credential_not_found(name))?;
        Ok(identity.credential_resource(credential))
    }

    /// Credentials of an identity.
    pub fn credentials(
        &self,
        id: &IdentityId,
        page: &PageRequest,
    ) -> Result<Page<Value>, ArmError> {
        let identity = self.parent(id)?;
        Ok(page.cut(
            identity
                .credentials
                .iter()
                .map(|(key, credential)| (key, identity.credential_resource(credential))),
        ))
    }

    /// Creates or replaces a credential; the write is in flight until `now + busy`.
    pub fn put_credential(
        &mut self,
        id: &IdentityId,
        name: &str,
        trust: Trust,
        busy: Duration,
        now: Instant,
    ) -> Result<(Written, Value), ArmError> {
        let identity = self
            .identities
            .get_mut(&id.key())
            .ok_or_else(ArmError::parent_not_found)?;
        let key = name.to_ascii_lowercase();
        validation::admission(identity, &key, &trust)?;
        begin_write(identity, busy, now)?;
        let old = identity.credentials.remove(&key);
        let written = if old.is_some() {
            Written::Updated
        } else {
            Written::Created
        };
        let credential = match old {
            Some(old) if old.trust == trust => old,
            Some(old) => Credential {
                trust,
                changed: Some(now),
                ..old
            },
            None => Credential {
                name: name.to_owned(),
                trust,
                changed: Some(now),
            },
        };
        let resource = identity.credential_resource(&credential);
        identity.credentials.insert(key, credential);
        Ok((written, resource))
    }

    /// Deletes a credential; false if there was none.
    pub fn delete_credential(
        &mut self,
        id: &IdentityId,
        name: &str,
        busy: Duration,
        now: Instant,
    ) -> Result<bool, ArmError> {
        self.check_locks(&format!("{id}/federatedIdentityCredentials/{name}"))?;
        let identity = self
            .identities
            .get_mut(&id.key())
            .ok_or_else(ArmError::parent_not_found)?;
        begin_write(identity, busy, now)?;
        Ok(identity
            .credentials
            .remove(&name.to_ascii_lowercase())
            .is_some())
    }

    /// Adds a delete lock on a scope, which covers everything below it.
    pub fn lock(&mut self, scope: &str) {
        self.delete_locks
            .insert(scope.trim_end_matches('/').to_ascii_lowercase());
    }

    /// Removes all delete locks.
    pub fn unlock(&mut self) {
        self.delete_locks.clear();
    }

    /// Everything, for people to look at.
    pub fn snapshot(&self) -> Value {
        let identities: Vec<Value> = self
            .identities
            .values()
            .map(|identity| {
                let mut resource = identity.resource();
                resource["federatedIdentityCredentials"] = identity
                    .credentials
                    .values()
                    .map(|credential| {
                        let Trust { issuer, subject, audiences } = &credential.trust;
                        json!({ "name": credential.name, "issuer": issuer, "subject": subject, "audiences": audiences })
                    })
                    .collect();
                resource
            })
            .collect();
        json!({ "identities": identities, "deleteLocks": self.delete_locks })
    }

    /// The identity that credentials belong to.
    fn parent(&self, id: &IdentityId) -> Result<&Identity, ArmError> {
        self.identities
            .get(&id.key())
            .ok_or_else(ArmError::parent_not_found)
    }

    fn check_locks(&self, resource: &str) -> Result<(), ArmError> {
        let lower = resource.to_ascii_lowercase();
        let covering = self.delete_locks.iter().find(|scope| {
            lower
                .strip_prefix(scope.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        covering.map_or(Ok(()), |lock| Err(ArmError::scope_locked(resource, lock)))
    }
}

/// Azure takes the writes of one identity's credentials only one after another.
fn begin_write(identity: &mut Identity, busy: Duration, now: Instant) -> Result<(), ArmError> {
    if identity.busy_until.is_some_and(|until| now < until) {
        return Err(ArmError::concurrent_write(&identity.id));
    }
    identity.busy_until = Some(now + busy);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_BUSY: Duration = Duration::ZERO;

    fn id(name: &str) -> IdentityId {
        IdentityId {
            subscription: "s".into(),
            group: "G".into(),
            name: name.into(),
        }
    }

    fn trust(issuer: &str, subject: &str) -> Trust {
        Trust {
            issuer: issuer.into(),
            subject: subject.into(),
            audiences: vec!["a".into()],
        }
    }

    fn store() -> Store {
        let mut store = Store::default();
        for name in ["one", "two"] {
            store.insert(Identity::new(id(name), "westeurope".into(), Uuid::nil()));
        }
        store
    }

    fn put(
        store: &mut Store,
        identity: &str,
        name: &str,
        trust: Trust,
    ) -> Result<Written, ArmError> {
        store
            .put_credential(&id(identity), name, trust, NOT_BUSY, Instant::now())
            .map(|(written, _)| written)
    }

    #[test]
    fn a_name_is_one_credential_in_any_casing() {
        let mut store = store();
        assert_eq!(
            put(&mut store, "one", "Fic", trust("i", "s")),
            Ok(Written::Created)
        );
        assert_eq!(
            put(&mut store, "ONE", "FIC", trust("i", "t")),
            Ok(Written::Updated)
        );
        let stored = store.credential(&id("One"), "fic").unwrap();
        assert_eq!(stored["name"], "Fic");
        assert_eq!(stored["properties"]["subject"], "t");
        assert_eq!(
            stored["id"],
            "/subscriptions/s/resourcegroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one/federatedIdentityCredentials/Fic"
        );
    }

    #[test]
    fn a_tuple_is_unique_within_an_identity_only() {
        let mut store = store();
        put(&mut store, "one", "fic", trust("i", "s")).unwrap();
        let refused = put(&mut store, "one", "other", trust("i", "s")).unwrap_err();
        assert!(
            refused
                .message
                .starts_with("Issuer and subject combination already exists")
        );
        assert!(put(&mut store, "one", "fic", trust("i", "s")).is_ok());
        assert!(put(&mut store, "one", "other", trust("i", "S")).is_ok());
        assert!(put(&mut store, "two", "fic", trust("i", "s")).is_ok());
    }

    #[test]
    fn the_21st_credential_is_refused() {
        let mut store = store();
        for n in 0..20 {
            let subject = n.to_string();
            put(&mut store, "one", &format!("fic-{n}"), trust("i", &subject)).unwrap();
        }
        let refused = put(&mut store, "one", "fic-20", trust("i", "20")).unwrap_err();
        assert_eq!(refused.code, "FederatedIdentityCredentialLimitExceeded");
        assert_eq!(
            put(&mut store, "one", "fic-0", trust("i", "x")),
            Ok(Written::Updated)
        );
    }

    #[test]
    fn a_write_in_flight_refuses_others_on_the_same_identity() {
        let (mut store, start, busy) = (store(), Instant::now(), Duration::from_secs(2));
        store
            .put_credential(&id("one"), "fic", trust("i", "s"), busy, start)
            .unwrap();

        let during = start + Duration::from_millis(1999);
        let put = store.put_credential(&id("one"), "other", trust("i", "t"), busy, during);
        let code = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity";
        assert_eq!(put.unwrap_err().code, code);
        let delete = store.delete_credential(&id("one"), "fic", busy, during);
        assert_eq!(delete.unwrap_err().code, code);
        assert!(
            store
                .put_credential(&id("two"), "fic", trust("i", "s"), busy, during)
                .is_ok()
        );

        assert_eq!(
            store.delete_credential(&id("one"), "fic", busy, start + busy),
            Ok(true)
        );
    }

    #[test]
    fn a_refused_write_is_never_in_flight() {
        let (mut store, busy) = (store(), Duration::from_secs(2));
        put(&mut store, "one", "fic", trust("i", "s")).unwrap();
        let now = Instant::now();
        assert!(
            store
                .put_credential(&id("one"), "other", trust("i", "s"), busy, now)
                .is_err()
        );
        assert!(
            store
                .put_credential(&id("one"), "other", trust("i", "t"), busy, now)
                .is_ok()
        );
    }

    #[test]
    fn a_lock_covers_what_lies_below_it() {
        let resource = id("one").to_string();
        for (scope, locked) in [
            (resource.to_uppercase(), true),
            ("/subscriptions/s/resourceGroups/g/".to_owned(), true),
            (format!("{resource}/federatedIdentityCredentials/fic"), true),
            (format!("{resource}/federatedIdentityCredentials/fi"), false),
            (id("two").to_string(), false),
        ] {
            let mut store = store();
            put(&mut store, "one", "fic", trust("i", "s")).unwrap();
            store.lock(&scope);
            let deleted = store.delete_credential(&id("one"), "fic", NOT_BUSY, Instant::now());
            assert_eq!(
                deleted.err().map(|error| error.code),
                locked.then(|| "ScopeLocked".to_owned()),
                "{scope}"
            );
            store.unlock();
            assert_eq!(store.delete_identity(&id("one")), Ok(true));
        }
    }

    #[test]
    fn the_token_endpoint_learns_of_changes_late() {
        let (mut store, start, delay) = (store(), Instant::now(), Duration::from_secs(60));
        store
            .put_credential(&id("one"), "fic", trust("i", "s"), NOT_BUSY, start)
            .unwrap();
        let known = |store: &Store, at| {
            store
                .identity(&id("one"))
                .unwrap()
                .propagated_trusts(delay, at)
                .len()
        };
        assert_eq!(known(&store, start + Duration::from_secs(59)), 0);
        assert_eq!(known(&store, start + delay), 1);
        // The same again is no change.
        store
            .put_credential(&id("one"), "fic", trust("i", "s"), NOT_BUSY, start + delay)
            .unwrap();
        assert_eq!(known(&store, start + delay), 1);
        store
            .put_credential(&id("one"), "fic", trust("i", "t"), NOT_BUSY, start + delay)
            .unwrap();
        assert_eq!(known(&store, start + delay), 0);
    }

    #[test]
    fn credentials_need_their_identity() {
        let mut store = store();
        let gone = id("gone");
        let page = PageRequest::new(None, None, std::num::NonZeroUsize::MIN).unwrap();
        let errors = [
            put(&mut store, "gone", "fic", trust("i", "s")).unwrap_err(),
            store.credential(&gone, "fic").unwrap_err(),
            store.credentials(&gone, &page).unwrap_err(),
            store
                .delete_credential(&gone, "fic", NOT_BUSY, Instant::now())
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code, "ParentResourceNotFound");
        }
        assert_eq!(store.identity(&gone).unwrap_err().code, "ResourceNotFound");
        assert_eq!(
            store.credential(&id("one"), "fic").unwrap_err().code,
            "NotFound"
        );
    }
}
