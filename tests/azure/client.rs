//! What all need: a client that signs in with a token of no meaning, and answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use airflow_workload_identity::{
    azure::{AzureClient, Cloud, CloudName, Overrides},
    model::IdentityId,
};
use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, HttpClient, Request, StatusCode, Transport,
        headers::{HeaderName, HeaderValue, Headers},
    },
    time::OffsetDateTime,
};
use serde_json::Value;

pub const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";

pub fn id() -> IdentityId {
    ID.parse().unwrap()
}

#[derive(Debug)]
pub struct Token;

impl Token {
    pub fn shared() -> Arc<dyn TokenCredential> {
        Arc::new(Self)
    }
}

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
pub fn client(server: Arc<dyn HttpClient>) -> AzureClient {
    let cloud = Cloud::new(CloudName::Public, Overrides::default()).unwrap();
    let transport = Transport::new(server);
    AzureClient::new(&cloud, cloud.graph.as_ref(), &transport, &Token::shared())
}

/// An answer, without a body if it is null, and the seconds that it asks to wait.
pub fn answer(status: u16, retry_after: Option<&'static str>, body: &Value) -> AsyncRawResponse {
    let mut headers = Headers::new();
    if let Some(seconds) = retry_after {
        headers.insert(
            HeaderName::from_static("retry-after"),
            HeaderValue::from_static(seconds),
        );
    }
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    AsyncRawResponse::from_bytes(StatusCode::from(status), headers, body)
}

/// Gives the same answers in turn, the last one for ever, and remembers who was asked.
#[derive(Debug, Default)]
pub struct Server {
    answers: Mutex<VecDeque<(u16, Option<&'static str>, Value)>>,
    asked: Mutex<Vec<Request>>,
}

impl Server {
    pub fn answering(
        answers: impl IntoIterator<Item = (u16, Option<&'static str>, Value)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        })
    }

    /// The URLs.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.asked.lock().unwrap();
        requests
            .iter()
            .map(|asked| asked.url().to_string())
            .collect()
    }

    pub fn last(&self) -> Request {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

#[async_trait]
impl HttpClient for Server {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.asked.lock().unwrap().push(request.clone());
        let mut answers = self.answers.lock().unwrap();
        let (status, retry_after, body) = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers[0].clone()
        };
        Ok(answer(status, retry_after, &body))
    }
}
