//! Azure Resource Manager: user-assigned identities and their federated identity credentials.
//! No Rust crate of Microsoft's covers them, so this is the REST API on `azure_core`'s pipeline.
//! <https://learn.microsoft.com/rest/api/managedidentity/federated-identity-credentials>

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::TokenCredential,
    error::ErrorResponse,
    http::{
        ClientMethodOptions, Method, Pipeline, PipelineSendOptions, Request, StatusCode, Transport,
        Url, UserAgentOptions,
        headers::{CONTENT_TYPE, HeaderName},
        policies::{Policy, auth::BearerTokenAuthorizationPolicy},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{ArmError, ArmErrorKind, Cloud, credential};
use crate::model::{CredentialName, FederatedCredential, ResourceId};

/// The oldest stable version that all current tools use.
const API_VERSION: &str = "2024-11-30";
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");
/// No answer of Azure's stops the work on an identity for longer than this, in seconds.
const LONGEST_WAIT: u64 = 300;
/// Azure allows 20 credentials; a list of more pages than this never ends.
const MAX_PAGES: usize = 50;

/// A client for one cloud and one principal.
#[derive(Clone, Debug)]
pub struct ArmClient {
    endpoint: Url,
    pipeline: Pipeline,
}

/// What Azure says of a user-assigned managed identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// Its client ID.
    pub client_id: Uuid,
    /// The tenant it lives in.
    pub tenant_id: Uuid,
}

impl ArmClient {
    /// A client that signs in with `credential`.
    #[must_use]
    pub fn new(cloud: &Cloud, transport: &Transport, credential: Arc<dyn TokenCredential>) -> Self {
        let auth: Arc<dyn Policy> = Arc::new(BearerTokenAuthorizationPolicy::new(
            credential,
            [cloud.scope()],
        ));
        let mut options = credential::options(cloud, transport);
        options.user_agent = UserAgentOptions {
            // At most 24 characters, or azure_core panics.
            application_id: Some("airflow-wi-operator".into()),
        };
        Self {
            endpoint: cloud.endpoint.clone(),
            pipeline: Pipeline::new(
                option_env!("CARGO_PKG_NAME"),
                option_env!("CARGO_PKG_VERSION"),
                options,
                Vec::new(),
                vec![auth],
                None,
            ),
        }
    }

    /// Reads an identity.
    ///
    /// # Errors
    /// See [`ArmErrorKind`].
    pub async fn identity(&self, id: &ResourceId) -> Result<ManagedIdentity, ArmError> {
        let answer: IdentityBody = self.read(self.url(id.as_str())).await?;
        Ok(ManagedIdentity {
            client_id: answer.properties.client_id,
            tenant_id: answer.properties.tenant_id,
        })
    }

    /// Lists all federated identity credentials of an identity, whoever wrote them.
    ///
    /// # Errors
    /// See [`ArmErrorKind`].
    pub async fn credentials(&self, id: &ResourceId) -> Result<Vec<FederatedCredential>, ArmError> {
        let mut url = self.url(&format!("{id}/federatedIdentityCredentials"));
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page = self.read(url).await?;
            all.extend(page.value.into_iter().map(FederatedCredential::from));
            match page.next_link.filter(|link| !link.is_empty()) {
                Some(link) => url = self.same_host(&link)?,
                None => return Ok(all),
            }
        }
        Err(ArmError::new(
            ArmErrorKind::Unexpected,
            format!("the list of credentials of {id} does not end"),
        ))
    }

    /// Creates or replaces a credential.
    ///
    /// # Errors
    /// See [`ArmErrorKind`].
    pub async fn put_credential(
        &self,
        id: &ResourceId,
        name: &CredentialName,
        properties: &CredentialProperties,
    ) -> Result<FederatedCredential, ArmError> {
        let mut request = Request::new(self.credential_url(id, name.as_str()), Method::Put);
        request.insert_header(CONTENT_TYPE, "application/json");
        let body = serde_json::json!({ "properties": properties });
        request.set_body(body.to_string());
        let (_, body) = self.send(request).await?;
        parse::<CredentialBody>(&body).map(FederatedCredential::from)
    }

    /// Deletes a credential; one that does not exist is no error.
    ///
    /// # Errors
    /// See [`ArmErrorKind`].
    pub async fn delete_credential(&self, id: &ResourceId, name: &str) -> Result<(), ArmError> {
        self.send(Request::new(self.credential_url(id, name), Method::Delete))
            .await
            .map(drop)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION);
        url
    }

    fn credential_url(&self, id: &ResourceId, name: &str) -> Url {
        self.url(&format!("{id}/federatedIdentityCredentials/{name}"))
    }

    /// A `nextLink` is followed as it stands, but a token never goes to another host.
    fn same_host(&self, link: &str) -> Result<Url, ArmError> {
        Url::parse(link)
            .ok()
            .filter(|url| url.origin() == self.endpoint.origin())
            .ok_or_else(|| {
                ArmError::new(
                    ArmErrorKind::Unexpected,
                    format!(
                        "the next page of a list is not at {}; not followed",
                        self.endpoint
                    ),
                )
            })
    }

    async fn read<T: DeserializeOwned>(&self, url: Url) -> Result<T, ArmError> {
        let (_, body) = self.send(Request::new(url, Method::Get)).await?;
        parse(&body)
    }

    async fn send(&self, mut request: Request) -> Result<(StatusCode, Vec<u8>), ArmError> {
        let options = PipelineSendOptions {
            skip_checks: true,
            ..PipelineSendOptions::default()
        };
        let context = ClientMethodOptions::default().context;
        let response = self
            .pipeline
            .send(&context, &mut request, Some(options))
            .await?;
        let status = response.status();
        let body = response.body().as_ref();
        if status.is_success() {
            return Ok((status, body.to_vec()));
        }
        let detail = serde_json::from_slice::<ErrorResponse>(body)
            .ok()
            .and_then(|response| response.error);
        let (code, message) = detail.map(|d| (d.code, d.message)).unwrap_or_default();
        let code = code.unwrap_or_default();
        let message = message.unwrap_or_else(|| status.canonical_reason().into_owned());
        Err(ArmError {
            kind: ArmErrorKind::of_response(u16::from(status), &code, &message),
            status: Some(u16::from(status)),
            code: Some(code),
            message,
            retry_after: response
                .headers()
                .get_optional_str(&RETRY_AFTER)
                .and_then(|value| value.parse().ok())
                .map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_WAIT))),
        })
    }
}

/// What a credential trusts; the body of a PUT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialProperties {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// The subject, byte for byte. Azure's preview of flexible credentials leaves it out.
    #[serde(default)]
    pub subject: String,
    /// Exactly one audience.
    pub audiences: Vec<String>,
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Vec<CredentialBody>,
    next_link: Option<String>,
}

impl From<CredentialBody> for FederatedCredential {
    fn from(body: CredentialBody) -> Self {
        let CredentialProperties {
            issuer,
            subject,
            audiences,
        } = body.properties;
        Self {
            name: body.name,
            issuer,
            subject,
            audiences,
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ArmError> {
    serde_json::from_slice(body).map_err(|error| {
        ArmError::new(
            ArmErrorKind::Unavailable,
            format!("Azure's answer cannot be read: {error}"),
        )
    })
}
