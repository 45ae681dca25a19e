//! Answers to a sign-in, looked at before `azure_identity` reads them. It panics when a token lives too
//! long for its calendar, takes a refusal whose words have a quote or a line break for no answer, and no token for one.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#error-response-1>

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::{
    Error,
    error::ErrorKind,
    http::{
        AsyncRawResponse, Context, Request, StatusCode,
        policies::{Policy, PolicyResult},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The part of a pipeline that signs in.
#[derive(Debug)]
pub(super) struct TokenAnswers;

#[async_trait]
impl Policy for TokenAnswers {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let answer = next[0].send(context, request, &next[1..]).await?;
        let (status, headers, body) = answer.deconstruct();
        let body = body.collect().await?;
        if status.is_success() {
            check(&body)?;
        } else if let Some(refusal) = refusal(status, &body) {
            return Err(refusal);
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}

/// Whether there is a token, with an end that can be reckoned with: Entra tells in how many seconds
/// that is, a node when. What is wrong beside is found when the answer is read.
fn check(body: &[u8]) -> azure_core::Result<()> {
    let answer: Map<String, Value> = serde_json::from_slice(body)?;
    let token = answer.get("access_token").and_then(Value::as_str);
    if token.is_none_or(str::is_empty) {
        return Err(unreadable("there is no token"));
    }
    let is_odd = |time: &Value| {
        let seconds = time.as_i64().or_else(|| time.as_str()?.parse().ok());
        seconds.is_some_and(|seconds| u32::try_from(seconds).is_err())
    };
    let mut ends = ["expires_in", "expires_on"]
        .into_iter()
        .filter_map(|end| answer.get(end));
    if ends.any(is_odd) {
        return Err(unreadable("its end is out of range"));
    }
    Ok(())
}

fn unreadable(why: &'static str) -> Error {
    Error::with_message(ErrorKind::DataConversion, why)
}

#[derive(Deserialize)]
struct Refusal {
    error_codes: Vec<i32>,
    error_description: String,
}

/// Entra's no; others have no numbers.
fn refusal(status: StatusCode, body: &[u8]) -> Option<Error> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let codes: Vec<String> = refusal
        .error_codes
        .iter()
        .map(ToString::to_string)
        .collect();
    let kind = ErrorKind::HttpResponse {
        status,
        error_code: Some(codes.join(",")).filter(|codes| !codes.is_empty()),
        raw_response: None,
    };
    Some(Error::with_message(kind, refusal.error_description))
}
