//! What both need: a client that signs in with a token of no meaning, and answers.

use std::{sync::Arc, time::Duration};

use airflow_workload_identity::{
    azure::{ArmClient, Cloud, CloudName, Overrides},
    model::ResourceId,
};
use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, HttpClient, StatusCode, Transport,
        headers::{HeaderName, HeaderValue, Headers},
    },
    time::OffsetDateTime,
};
use serde_json::Value;

pub const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";

pub fn id() -> ResourceId {
    ID.parse().unwrap()
}

#[derive(Debug)]
struct Token;

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(36000);
        Ok(AccessToken::new("a token".to_owned(), expires))
    }
}

/// A client of a server.
pub fn client(server: Arc<dyn HttpClient>) -> ArmClient {
    let cloud = Cloud::new(CloudName::Public, Overrides::default()).unwrap();
    ArmClient::new(&cloud, &Transport::new(server), Arc::new(Token))
}

/// An answer, and the seconds that it asks to wait.
pub fn answer(status: u16, retry_after: Option<&'static str>, body: &Value) -> AsyncRawResponse {
    let mut headers = Headers::new();
    if let Some(seconds) = retry_after {
        headers.insert(
            HeaderName::from_static("retry-after"),
            HeaderValue::from_static(seconds),
        );
    }
    AsyncRawResponse::from_bytes(StatusCode::from(status), headers, body.to_string())
}
