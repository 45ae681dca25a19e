//! A user-assigned identity and its federated credentials.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bearer::Caller;
use crate::resource_id::IdentityId;

/// What a federated credential trusts: the tokens of one issuer for one subject and audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// URL of the token issuer.
    pub issuer: String,
    /// Subject of the token.
    pub subject: String,
    /// Audiences of the token; Azure accepts exactly one.
    pub audiences: Vec<String>,
}

/// A federated identity credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name, in the casing of its creation.
    pub name: String,
    /// Properties.
    pub trust: Trust,
    /// Last change of the properties; none if the credential was there from the start.
    pub changed: Option<Instant>,
}

impl Credential {
    /// Whether the token endpoint has heard of its last change.
    pub fn is_known(&self, delay: Duration, now: Instant) -> bool {
        self.changed
            .is_none_or(|changed| now.saturating_duration_since(changed) >= delay)
    }
}

/// A user-assigned managed identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Id, in the casing of its creation.
    pub id: IdentityId,
    /// Azure region.
    pub location: String,
    /// Resource tags.
    pub tags: BTreeMap<String, String>,
    /// Entra tenant.
    pub tenant_id: Uuid,
    /// Client id, which a token request names.
    pub client_id: Uuid,
    /// Object id of the service principal.
    pub principal_id: Uuid,
    /// Federated credentials by lower-case name.
    pub credentials: BTreeMap<String, Credential>,
    /// End of the write of a credential that is in flight.
    pub busy_until: Option<Instant>,
}

impl Identity {
    /// A new identity with random client and principal ids.
    pub fn new(id: IdentityId, location: String, tenant_id: Uuid) -> Self {
        Self {
            id,
            location,
            tags: BTreeMap::new(),
            tenant_id,
            client_id: Uuid::new_v4(),
            principal_id: Uuid::new_v4(),
            credentials: BTreeMap::new(),
            busy_until: None,
        }
    }

    /// What the token endpoint trusts: it reads a cache that learns of changes with a delay.
    pub fn propagated_trusts(&self, delay: Duration, now: Instant) -> Vec<Trust> {
        self.credentials
            .values()
            .filter(|credential| credential.is_known(delay, now))
            .map(|credential| credential.trust.clone())
            .collect()
    }

    /// Its service principal.
    pub fn caller(&self) -> Caller {
        Caller {
            tenant: self.tenant_id,
            client: self.client_id,
            principal: self.principal_id,
        }
    }

    /// The ARM resource.
    pub fn resource(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "name": self.id.name,
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
            "location": self.location,
            "tags": self.tags,
            "properties": {
                "tenantId": self.tenant_id,
                "principalId": self.principal_id,
                "clientId": self.client_id,
            },
        })
    }

    /// The ARM resource of one of its credentials.
    pub fn credential_resource(&self, credential: &Credential) -> Value {
        json!({
            "id": format!("{}/federatedIdentityCredentials/{}", self.id, credential.name),
            "name": credential.name,
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials",
            "properties": credential.trust,
        })
    }
}
