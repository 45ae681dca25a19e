//! Both of Azure's APIs that keep federated identity credentials, and Entra, which takes them, behind
//! one set of calls.

use std::sync::Arc;

use azure_core::{credentials::TokenCredential, http::Transport};
use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{
    AccountToken, AzureError, AzureErrorKind, Cloud, arm::ArmClient, calls::Calls,
    exchange::EntraClient, graph::GraphClient,
};
use crate::model::{CredentialName, FederatedCredential, IdentityId, ResourceId};

/// A client for one cloud and one principal.
#[derive(Clone, Debug)]
pub struct AzureClient {
    arm: ArmClient,
    /// Only if the operator may touch applications.
    graph: Option<GraphClient>,
    entra: EntraClient,
    calls: Calls,
}

/// What Azure says of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AzureIdentity {
    /// Its client ID.
    pub client_id: Uuid,
    /// The tenant it lives in; none if Azure does not tell, as of an application.
    pub tenant_id: Option<Uuid>,
}

/// What a credential trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialProperties {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// The subject, byte for byte. The preview of flexible credentials has none.
    #[serde(default, deserialize_with = "or_empty")]
    pub subject: String,
    /// Exactly one audience.
    pub audiences: Vec<String>,
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl CredentialProperties {
    pub(super) fn named(self, name: String, is_marked: Option<bool>) -> FederatedCredential {
        FederatedCredential {
            name,
            issuer: self.issuer,
            subject: self.subject,
            audiences: self.audiences,
            is_marked,
        }
    }
}

impl AzureClient {
    /// A client that signs in with `credential`; for Entra applications, too, if the endpoint of
    /// Microsoft Graph is given.
    #[must_use]
    pub fn new(
        cloud: &Cloud,
        graph: Option<&Url>,
        transport: &Transport,
        credential: &Arc<dyn TokenCredential>,
    ) -> Self {
        let calls = Calls::default();
        Self {
            arm: ArmClient::new(cloud, transport, credential.clone(), calls.clone()),
            graph: graph.map(|endpoint| {
                GraphClient::new(
                    endpoint,
                    cloud,
                    transport,
                    credential.clone(),
                    calls.clone(),
                )
            }),
            entra: EntraClient::new(cloud, transport, calls.clone()),
            calls,
        }
    }

    /// What it asked of Azure so far.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Reads an identity.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn identity(&self, id: &IdentityId) -> Result<AzureIdentity, AzureError> {
        match id {
            IdentityId::Managed(id) => self.arm.identity(id).await,
            IdentityId::Application(id) => self.graph()?.application(*id).await,
        }
    }

    /// Lists all federated identity credentials of an identity, whoever wrote them.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn credentials(
        &self,
        id: &IdentityId,
    ) -> Result<Vec<FederatedCredential>, AzureError> {
        match id {
            IdentityId::Managed(id) => self.arm.credentials(id).await,
            IdentityId::Application(id) => self.graph()?.credentials(*id).await,
        }
    }

    /// Creates or replaces a credential.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn put_credential(
        &self,
        id: &IdentityId,
        name: &CredentialName,
        properties: &CredentialProperties,
    ) -> Result<FederatedCredential, AzureError> {
        match id {
            IdentityId::Managed(id) => self.arm.put_credential(id, name, properties).await,
            IdentityId::Application(id) => {
                let graph = self.graph()?;
                graph.upsert_credential(*id, name, properties).await
            }
        }
    }

    /// Deletes a credential.
    ///
    /// # Errors
    /// See [`AzureErrorKind`]; Resource Manager takes one that does not exist for deleted.
    pub async fn delete_credential(&self, id: &IdentityId, name: &str) -> Result<(), AzureError> {
        match id {
            IdentityId::Managed(id) => self.arm.delete_credential(id, name).await,
            IdentityId::Application(id) => self.graph()?.delete_credential(*id, name).await,
        }
    }

    /// Whether the principal may write a managed identity's credentials.
    ///
    /// # Errors
    /// See [`AzureErrorKind`].
    pub async fn may_write(&self, id: &ResourceId) -> Result<bool, AzureError> {
        self.arm.may_write(id).await
    }

    /// Exchanges a ServiceAccount's token for one of the identity with this client ID, which is thrown
    /// away.
    ///
    /// # Errors
    /// Entra refuses ([`AzureErrorKind::Unauthenticated`], with its number as the code), or does not
    /// answer.
    pub async fn exchange(
        &self,
        tenant: Uuid,
        client: Uuid,
        token: AccountToken,
    ) -> Result<(), AzureError> {
        self.entra.exchange(tenant, client, token).await
    }

    fn graph(&self) -> Result<&GraphClient, AzureError> {
        self.graph.as_ref().ok_or_else(|| {
            let message = "the operator was started without --entra-applications";
            AzureError::new(AzureErrorKind::ApplicationsOff, message)
        })
    }
}
