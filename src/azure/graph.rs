//! Microsoft Graph: Entra applications and their federated identity credentials.
//! <https://learn.microsoft.com/graph/api/resources/federatedidentitycredential>

use std::sync::Arc;

use azure_core::{
    credentials::TokenCredential,
    http::{
        Method, Request, Transport, Url,
        headers::{CONTENT_TYPE, HeaderName},
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    AzureError, AzureIdentity, Cloud, CredentialProperties,
    calls::{Calls, Operation},
    rest::{Rest, no_body, parse},
};
use crate::model::{CredentialName, FederatedCredential};

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The description by which the operator knows its own work.
const MARK: &str = "Managed by airflow-workload-identity";

/// A client for one cloud and one principal.
#[derive(Clone, Debug)]
pub(super) struct GraphClient(Rest);

impl GraphClient {
    /// A client that signs in with `credential` at the Graph `endpoint` of the cloud.
    pub fn new(
        endpoint: &Url,
        cloud: &Cloud,
        transport: &Transport,
        credential: Arc<dyn TokenCredential>,
        calls: Calls,
    ) -> Self {
        let scope = format!("{}/.default", endpoint.as_str().trim_end_matches('/'));
        Self(Rest::new(
            endpoint, scope, cloud, transport, credential, calls,
        ))
    }

    /// Whether it exists; Graph does not tell its tenant.
    pub async fn application(&self, id: Uuid) -> Result<AzureIdentity, AzureError> {
        let mut url = self.0.url(&path(id));
        url.query_pairs_mut().append_pair("$select", "appId");
        let found: ApplicationBody = self.0.read(Operation::ReadIdentity, url).await?;
        Ok(AzureIdentity {
            client_id: found.app_id,
            tenant_id: None,
        })
    }

    pub async fn credentials(&self, id: Uuid) -> Result<Vec<FederatedCredential>, AzureError> {
        let url = format!("{}/federatedIdentityCredentials", path(id));
        let all: Vec<CredentialBody> = self
            .0
            .list(Operation::ListCredentials, self.0.url(&url))
            .await?;
        Ok(all.into_iter().map(FederatedCredential::from).collect())
    }

    /// <https://learn.microsoft.com/graph/api/federatedidentitycredential-upsert>
    pub async fn upsert_credential(
        &self,
        id: Uuid,
        name: &CredentialName,
        properties: &CredentialProperties,
    ) -> Result<FederatedCredential, AzureError> {
        let mut request = Request::new(self.credential_url(id, name.as_str()), Method::Patch);
        request.insert_header(CONTENT_TYPE, "application/json");
        request.insert_header(PREFER, "create-if-missing");
        let body = CredentialBody {
            name: name.to_string(),
            description: Some(MARK.into()),
            properties: properties.clone(),
        };
        request.set_body(serde_json::json!(body).to_string());
        let answer = self.0.send(Operation::PutCredential, request).await?;
        // An update is answered without a body. One that is not a credential is not Graph's, and proves nothing.
        if !answer.is_empty() {
            parse::<CredentialBody>(&answer)?;
        }
        Ok(body.into())
    }

    pub async fn delete_credential(&self, id: Uuid, name: &str) -> Result<(), AzureError> {
        let request = Request::new(self.credential_url(id, name), Method::Delete);
        let answer = self.0.send(Operation::DeleteCredential, request).await?;
        no_body(&answer)
    }

    fn credential_url(&self, id: Uuid, name: &str) -> Url {
        let application = path(id);
        self.0.url(&format!(
            "{application}/federatedIdentityCredentials(name='{name}')"
        ))
    }
}

fn path(id: Uuid) -> String {
    format!("/v1.0/applications(appId='{id}')")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApplicationBody {
    app_id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct CredentialBody {
    name: String,
    description: Option<String>,
    #[serde(flatten)]
    properties: CredentialProperties,
}

impl From<CredentialBody> for FederatedCredential {
    fn from(body: CredentialBody) -> Self {
        let is_marked = body.description.as_deref() == Some(MARK);
        body.properties.named(body.name, Some(is_marked))
    }
}
