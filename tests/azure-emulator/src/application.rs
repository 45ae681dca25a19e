//! An Entra application (app registration) and its federated credentials.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arm_error::ArmError;
use crate::bearer::Caller;
use crate::identity::{Credential, Trust};
use crate::validation;

/// An application.
#[derive(Clone, Debug)]
pub struct Application {
    /// Object id.
    pub id: Uuid,
    /// Application (client) id.
    pub app_id: Uuid,
    /// Name for people.
    pub display_name: String,
    /// Who its service principal is.
    pub caller: Caller,
    /// Federated credentials by name.
    credentials: BTreeMap<String, ApplicationCredential>,
}

#[derive(Clone, Debug)]
struct ApplicationCredential {
    id: Uuid,
    description: Option<String>,
    credential: Credential,
}

/// What a request says of a credential; what it leaves out stays.
#[derive(Default, serde::Deserialize)]
pub struct Change {
    issuer: Option<String>,
    subject: Option<String>,
    audiences: Option<Vec<String>>,
    description: Option<String>,
}

/// How a path names a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKey {
    /// `…/federatedIdentityCredentials/{id}`, which may also be the name.
    Id(String),
    /// `…/federatedIdentityCredentials(name='{name}')`
    Name(String),
}

impl Application {
    /// A new application with random ids.
    pub fn new(display_name: String, tenant: Uuid) -> Self {
        let app_id = Uuid::new_v4();
        Self {
            id: Uuid::new_v4(),
            app_id,
            display_name,
            caller: Caller {
                tenant,
                client: app_id,
                principal: Uuid::new_v4(),
            },
            credentials: BTreeMap::new(),
        }
    }

    /// What the token endpoint trusts.
    pub fn propagated_trusts(&self, delay: Duration, now: Instant) -> Vec<Trust> {
        let credentials = self.credentials.values().map(|entry| &entry.credential);
        credentials
            .filter(|credential| credential.is_known(delay, now))
            .map(|credential| credential.trust.clone())
            .collect()
    }

    /// The Graph resource.
    pub fn resource(&self) -> Value {
        json!({ "id": self.id, "appId": self.app_id, "displayName": self.display_name })
    }

    /// All credentials.
    pub fn credentials(&self) -> Vec<Value> {
        self.credentials.values().map(resource).collect()
    }

    /// One credential.
    pub fn credential(&self, key: &CredentialKey) -> Result<Value, ArmError> {
        self.find(key).map(resource)
    }

    /// Creates a credential.
    pub fn create(&mut self, name: &str, change: Change, now: Instant) -> Result<Value, ArmError> {
        if self.credentials.contains_key(name) {
            return Err(ArmError::new(
                StatusCode::CONFLICT,
                "Request_MultipleObjectsWithSameKeyValue",
                format!("FederatedIdentityCredential with name {name} already exists."),
            ));
        }
        validation::name(name)?;
        let trust = validation::trust(change.issuer, change.subject, change.audiences)?;
        self.admit(name, &trust)?;
        if self.credentials.len() >= validation::MAX_CREDENTIALS {
            // Microsoft documents the limit only: status, code and text are invented.
            return Err(ArmError::new(
                StatusCode::BAD_REQUEST,
                "FederatedIdentityCredentialLimitExceeded",
                "The application already has the maximum of 20 federated identity credentials.",
            ));
        }
        let entry = ApplicationCredential {
            id: Uuid::new_v4(),
            description: change.description,
            credential: Credential {
                name: name.to_owned(),
                trust,
                changed: Some(now),
            },
        };
        let created = resource(&entry);
        self.credentials.insert(name.to_owned(), entry);
        Ok(created)
    }

    /// Changes a credential.
    pub fn update(
        &mut self,
        key: &CredentialKey,
        change: Change,
        now: Instant,
    ) -> Result<(), ArmError> {
        let mut entry = self.find(key)?.clone();
        let old = entry.credential.trust;
        let trust = validation::trust(
            change.issuer.or(Some(old.issuer)),
            change.subject.or(Some(old.subject)),
            change.audiences.or(Some(old.audiences)),
        )?;
        self.admit(&entry.credential.name, &trust)?;
        entry.credential.trust = trust;
        entry.credential.changed = Some(now);
        entry.description = change.description.or(entry.description);
        self.credentials
            .insert(entry.credential.name.clone(), entry);
        Ok(())
    }

    /// Deletes a credential.
    pub fn delete(&mut self, key: &CredentialKey) -> Result<(), ArmError> {
        let name = self.find(key)?.credential.name.clone();
        self.credentials.remove(&name);
        Ok(())
    }

    fn find(&self, key: &CredentialKey) -> Result<&ApplicationCredential, ArmError> {
        let found = match key {
            CredentialKey::Name(name) => self.credentials.get(name),
            CredentialKey::Id(id) => self
                .credentials
                .values()
                .find(|entry| entry.id.to_string() == *id || entry.credential.name == *id),
        };
        found.ok_or_else(not_found)
    }

    fn admit(&self, name: &str, trust: &Trust) -> Result<(), ArmError> {
        let taken = self.credentials.values().any(|entry| {
            let other = &entry.credential;
            other.name != name
                && other.trust.issuer == trust.issuer
                && other.trust.subject == trust.subject
        });
        if taken {
            return Err(ArmError::new(
                StatusCode::BAD_REQUEST,
                "InvalidFederatedIdentityCredentialValue",
                "The combination of issuer and subject must be unique on the app.",
            ));
        }
        Ok(())
    }
}

/// No such application or credential.
pub fn not_found() -> ArmError {
    ArmError::new(
        StatusCode::NOT_FOUND,
        "Request_ResourceNotFound",
        "Resource does not exist or one of its queried reference-property objects are not present.",
    )
}

fn resource(entry: &ApplicationCredential) -> Value {
    let Credential { name, trust, .. } = &entry.credential;
    json!({
        "id": entry.id,
        "name": name,
        "issuer": trust.issuer,
        "subject": trust.subject,
        "audiences": trust.audiences,
        "description": entry.description,
    })
}
