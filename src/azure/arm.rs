//! Azure Resource Manager: user-assigned identities and their federated identity credentials.
//! No Rust crate of Microsoft's covers them.
//! <https://learn.microsoft.com/rest/api/managedidentity/federated-identity-credentials>

use std::sync::Arc;

use azure_core::{
    credentials::TokenCredential,
    http::{Method, Request, Transport, Url, headers::CONTENT_TYPE},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    AzureError, AzureIdentity, Cloud, CredentialProperties,
    calls::{Calls, Operation},
    permission::Permission,
    rest::{Rest, no_body, parse},
};
use crate::model::{CredentialName, FederatedCredential, ResourceId};

/// The oldest stable version that all current tools use.
const API_VERSION: &str = "2024-11-30";
/// <https://learn.microsoft.com/rest/api/authorization/permissions/list-for-resource>
const PERMISSIONS_VERSION: &str = "2022-04-01";
/// <https://learn.microsoft.com/azure/role-based-access-control/permissions/identity>
const WRITE_CREDENTIAL: &str =
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write";

/// A client for one cloud and one principal.
#[derive(Clone, Debug)]
pub(super) struct ArmClient(Rest);

impl ArmClient {
    /// A client that signs in with `credential`.
    pub fn new(
        cloud: &Cloud,
        transport: &Transport,
        credential: Arc<dyn TokenCredential>,
        calls: Calls,
    ) -> Self {
        let scope = cloud.scope();
        Self(Rest::new(
            &cloud.endpoint,
            scope,
            cloud,
            transport,
            credential,
            calls,
        ))
    }

    pub async fn identity(&self, id: &ResourceId) -> Result<AzureIdentity, AzureError> {
        let answer: IdentityBody = self
            .0
            .read(Operation::ReadIdentity, self.url(id.as_str()))
            .await?;
        Ok(AzureIdentity {
            client_id: answer.properties.client_id,
            tenant_id: Some(answer.properties.tenant_id),
        })
    }

    pub async fn credentials(
        &self,
        id: &ResourceId,
    ) -> Result<Vec<FederatedCredential>, AzureError> {
        let url = self.url(&format!("{id}/federatedIdentityCredentials"));
        let all: Vec<CredentialBody> = self.0.list(Operation::ListCredentials, url).await?;
        Ok(all.into_iter().map(FederatedCredential::from).collect())
    }

    pub async fn put_credential(
        &self,
        id: &ResourceId,
        name: &CredentialName,
        properties: &CredentialProperties,
    ) -> Result<FederatedCredential, AzureError> {
        let mut request = Request::new(self.credential_url(id, name.as_str()), Method::Put);
        request.insert_header(CONTENT_TYPE, "application/json");
        let body = serde_json::json!({ "properties": properties });
        request.set_body(body.to_string());
        let body = self.0.send(Operation::PutCredential, request).await?;
        parse::<CredentialBody>(&body).map(FederatedCredential::from)
    }

    pub async fn delete_credential(&self, id: &ResourceId, name: &str) -> Result<(), AzureError> {
        let request = Request::new(self.credential_url(id, name), Method::Delete);
        let answer = self.0.send(Operation::DeleteCredential, request).await?;
        no_body(&answer)
    }

    /// Whether this principal may write the credentials of an identity.
    pub async fn may_write(&self, id: &ResourceId) -> Result<bool, AzureError> {
        let path = format!("{id}/providers/Microsoft.Authorization/permissions");
        let url = self.versioned(&path, PERMISSIONS_VERSION);
        let permissions: Vec<Permission> = self.0.list(Operation::ListPermissions, url).await?;
        Ok(permissions
            .iter()
            .any(|permission| permission.allows(WRITE_CREDENTIAL)))
    }

    fn url(&self, path: &str) -> Url {
        self.versioned(path, API_VERSION)
    }

    fn versioned(&self, path: &str, version: &str) -> Url {
        let mut url = self.0.url(path);
        url.query_pairs_mut().append_pair("api-version", version);
        url
    }

    fn credential_url(&self, id: &ResourceId, name: &str) -> Url {
        self.url(&format!("{id}/federatedIdentityCredentials/{name}"))
    }
}

#[derive(Deserialize)]
struct IdentityBody {
    properties: IdentityProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityProperties {
    client_id: Uuid,
    tenant_id: Uuid,
}

#[derive(Deserialize)]
struct CredentialBody {
    name: String,
    properties: CredentialProperties,
}

impl From<CredentialBody> for FederatedCredential {
    fn from(body: CredentialBody) -> Self {
        body.properties.named(body.name, None)
    }
}
