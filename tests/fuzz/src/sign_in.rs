//! Answers to a sign-in: of Entra, when a ServiceAccount's token is exchanged, and of a node's
//! metadata service, where the operator has its own token from.

use std::sync::Arc;

use airflow_workload_identity::azure::{
    AccountToken, AzureClient, AzureError, AzureErrorKind, CredentialKind,
};
use async_trait::async_trait;
use azure_core::http::{
    AsyncRawResponse, HttpClient, Request, StatusCode, Transport, headers::Headers,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    answers::{Script, Server, client, cloud, run},
    given,
};

/// The account's token; Entra may repeat it, and we do not.
const ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.of-an-account.signature";
/// Statuses after which azure_identity does not ask the metadata service again, a second later.
const AT_ONCE: [u16; 4] = [200, 400, 401, 403];

/// No answer makes a client panic or ask for ever; a token shows nowhere, however malformed the
/// answer that holds it; and Entra's refusals keep their numbers.
pub fn check(input: &[u8]) {
    let script = Script::read(input);
    if script.call == "metadata" {
        return metadata(script);
    }
    let answer = script.answers[0].clone();
    let server = script.server();
    let error = exchange(server.clone()).err();
    assert_eq!(server.asked().len(), 1);
    let Some(error) = error else {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let token = body["access_token"].as_str();
        assert!(answer.is_success() && !token.unwrap_or_default().is_empty());
        return;
    };
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains(ASSERTION), "{shown}");
    }
    if answer.is_success() {
        repeats_nothing(&error, b"exchange");
    } else if let Some(codes) = refusal(&answer.body) {
        assert_eq!(error.status, Some(answer.status));
        assert_eq!(error.code, Some(codes));
        assert_eq!(error.kind, kind(answer.status), "{error:?}");
    }
}

fn exchange(server: Arc<Server>) -> Result<(), AzureError> {
    let token = AccountToken::new(ASSERTION.to_owned());
    let (tenant, ours) = (Uuid::from_u128(1), Uuid::from_u128(2));
    run(client(server).exchange(tenant, ours, token))
}

/// The operator signs in, and reads an identity: twice, so that it also meets the token it has.
fn metadata(mut script: Script) {
    for answer in &mut script.answers {
        if !AT_ONCE.contains(&answer.status) {
            answer.status = 200;
        }
    }
    let is_one_success = script.answers.len() == 1 && script.answers[0].is_success();
    let server = script.server();
    let first = sign_in(server.clone());
    assert!(server.asked().len() <= 2);
    if let Err(error) = first
        && is_one_success
    {
        repeats_nothing(&error, b"metadata");
    }
}

fn sign_in(server: Arc<Server>) -> Result<(), AzureError> {
    let transport = Transport::new(Arc::new(Node(server)));
    let cloud = cloud();
    run(async {
        let credential = CredentialKind::ManagedIdentity
            .build(&cloud, &transport)
            .unwrap();
        let client = AzureClient::new(&cloud, None, &transport, &credential);
        let id = given::id("airflow");
        let first = client.identity(&id).await;
        let again = client.identity(&id).await;
        first.and(again).map(drop)
    })
}

/// A node: its metadata service answers as the input says, and all else is well.
#[derive(Debug)]
struct Node(Arc<Server>);

#[async_trait]
impl HttpClient for Node {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        if request.url().host_str() == Some("169.254.169.254") {
            return self.0.execute_request(request).await;
        }
        let identity =
            json!({ "properties": { "clientId": given::CLIENT, "tenantId": given::TENANT } });
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            identity.to_string(),
        ))
    }
}

/// Whoever answers so gave a token: nothing of what it said may be told.
fn repeats_nothing(error: &AzureError, call: &[u8]) {
    let unreadable = Script::read(&[call, b"\n200\nnull"].concat()).server();
    let expected = if call == b"metadata" {
        sign_in(unreadable)
    } else {
        exchange(unreadable)
    };
    assert_eq!(Some(error), expected.as_ref().err());
}

/// What azure_identity reads of a refusal; one that says the same thing twice is none.
#[derive(Deserialize)]
struct Refusal {
    error_codes: Vec<i32>,
    #[serde(rename = "error_description")]
    _description: String,
}

/// The numbers of an answer as Entra documents it, joined.
fn refusal(body: &[u8]) -> Option<String> {
    let Refusal { error_codes, .. } = serde_json::from_slice(body).ok()?;
    let codes: Vec<String> = error_codes.iter().map(i32::to_string).collect();
    (!codes.is_empty()).then(|| codes.join(","))
}

fn kind(status: u16) -> AzureErrorKind {
    match status {
        429 => AzureErrorKind::Throttled,
        400..=499 => AzureErrorKind::Unauthenticated,
        _ => AzureErrorKind::Unavailable,
    }
}
