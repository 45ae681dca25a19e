//! Faults that a test asks for: what a correct emulator would never answer on its own.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde::{Deserialize, Deserializer};

use crate::arm_error::ArmError;
use crate::oauth_error::OAuthError;

/// A fault, and the requests it applies to.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Operation, or `*` for all.
    operation: String,
    /// Part of the path, in any casing.
    path_contains: Option<String>,
    /// Requests to spoil; none for all until faults are cleared.
    times: Option<NonZeroU32>,
    #[serde(default)]
    action: Action,
    #[serde(default = "internal_error", deserialize_with = "final_status")]
    status: StatusCode,
    #[serde(default = "internal_error_code")]
    code: String,
    #[serde(default)]
    message: String,
    retry_after: Option<u64>,
}

/// What happens to a request instead of being carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// An error is answered.
    #[default]
    Respond,
    /// Nothing is answered, ever.
    Hang,
    /// The connection is dropped without an answer.
    Reset,
    /// Success is answered, with something that is not JSON.
    Garbage,
}

fn internal_error() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn internal_error_code() -> String {
    "InternalServerError".to_owned()
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(deserializer)?;
    StatusCode::from_u16(number)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| serde::de::Error::custom(format!("not a final HTTP status: {number}")))
}

/// Faults in the order in which they were asked for.
#[derive(Default)]
pub struct Faults {
    pending: Vec<Fault>,
}

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.pending.push(fault);
    }

    /// Removes all faults.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// The first fault for a request, which is used up by one.
    pub fn take(&mut self, operation: &str, path: &str) -> Option<Fault> {
        let path = path.to_ascii_lowercase();
        let index = self.pending.iter().position(|fault| {
            let here = fault
                .path_contains
                .as_ref()
                .is_none_or(|part| path.contains(&part.to_ascii_lowercase()));
            here && (fault.operation == "*" || fault.operation == operation)
        })?;
        let Some(times) = self.pending[index].times else {
            return Some(self.pending[index].clone());
        };
        match NonZeroU32::new(times.get() - 1) {
            None => Some(self.pending.remove(index)),
            left => {
                self.pending[index].times = left;
                Some(self.pending[index].clone())
            }
        }
    }
}

impl Fault {
    /// Whether the request gets no answer at all.
    pub fn silent(&self) -> bool {
        matches!(self.action, Action::Hang | Action::Reset)
    }

    /// Spoils a request: the token endpoint answers in the shape of OAuth, everything else in ARM's.
    pub async fn answer(self, is_token: bool) -> Response {
        match self.action {
            Action::Respond if is_token => OAuthError {
                status: self.status,
                error: self.code,
                description: self.message,
                retry_after: self.retry_after,
            }
            .into_response(),
            Action::Respond => ArmError {
                status: self.status,
                code: self.code,
                message: self.message,
                retry_after: self.retry_after,
            }
            .into_response(),
            Action::Hang => std::future::pending().await,
            // hyper drops the connection when a body fails before anything was sent.
            Action::Reset => Response::new(Body::from_stream(stream::once(async {
                Err::<Vec<u8>, _>(std::io::Error::other("a fault drops the connection"))
            }))),
            Action::Garbage => {
                let html = "<html><body>Service unavailable";
                ([(header::CONTENT_TYPE, "application/json")], html).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(asked: impl IntoIterator<Item = Value>) -> Faults {
        Faults {
            pending: asked
                .into_iter()
                .map(|fault| serde_json::from_value(fault).unwrap())
                .collect(),
        }
    }

    #[test]
    fn a_fault_spoils_as_many_requests_as_asked() {
        let mut faults = faults([
            json!({ "operation": "credential.put", "times": 2, "code": "First" }),
            json!({ "operation": "*", "code": "Second" }),
        ]);
        let mut code = |operation| faults.take(operation, "/").map(|fault| fault.code);
        assert_eq!(code("credential.get").as_deref(), Some("Second"));
        for expected in ["First", "First", "Second", "Second"] {
            assert_eq!(code("credential.put").as_deref(), Some(expected));
        }
        faults.clear();
        assert!(faults.take("credential.put", "/").is_none());
    }

    #[test]
    fn a_fault_can_be_limited_to_a_path() {
        let mut faults = faults([json!({ "operation": "*", "pathContains": "/Identity-A" })]);
        assert!(faults.take("credential.put", "/x/identity-a/y").is_some());
        assert!(faults.take("credential.put", "/x/identity-b/y").is_none());
    }

    #[test]
    fn mistakes_are_errors() {
        for fault in [
            json!({}),
            json!({ "operation": "*", "times": 0 }),
            json!({ "operation": "*", "status": 100 }),
            json!({ "operation": "*", "status": 7 }),
            json!({ "operation": "*", "action": "explode" }),
            json!({ "operation": "*", "retryafter": 7 }),
        ] {
            assert!(
                serde_json::from_value::<Fault>(fault.clone()).is_err(),
                "{fault}"
            );
        }
    }
}
