//! Errors of Entra's token endpoint.
//!
//! Numbers and meanings: Microsoft's "Microsoft Entra authentication and
//! authorization error codes". The wording is this emulator's own.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

/// An error answer of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    /// HTTP status.
    pub status: StatusCode,
    /// OAuth's error code.
    pub error: String,
    /// Text with Entra's own code in front, as `AADSTS700016: …`.
    pub description: String,
    /// Seconds to wait before the next try.
    pub retry_after: Option<u64>,
}

impl OAuthError {
    /// Something is wrong with the client assertion.
    pub fn assertion(number: u32, text: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", number, text)
    }

    /// Something else is wrong with the request.
    pub fn request(error: &str, number: u32, text: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, number, text)
    }

    fn new(status: StatusCode, error: &str, number: u32, text: &str) -> Self {
        Self {
            status,
            error: error.to_owned(),
            description: format!("AADSTS{number}: {text}"),
            retry_after: None,
        }
    }

    /// Entra's number of the error, if the description has one.
    pub fn number(&self) -> Option<u32> {
        let (_, rest) = self.description.split_once("AADSTS")?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let number = self.number();
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let timestamp = Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "{} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
                self.description
            ),
            "error_codes": number.into_iter().collect::<Vec<_>>(),
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": number.map(|n| format!("https://login.microsoftonline.com/error?code={n}")),
        });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
