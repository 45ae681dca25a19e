//! Errors of Azure Resource Manager: `CloudError {error: {code, message}}`.
//!
//! Codes and messages are those that Microsoft documents or that users have
//! reported; where only the message is known, the code is `BadRequest`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::resource_id::IdentityId;

/// An error answer of ARM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmError {
    /// HTTP status.
    pub status: StatusCode,
    /// Machine-readable code.
    pub code: String,
    /// Text for people.
    pub message: String,
    /// Seconds to wait before the next try.
    pub retry_after: Option<u64>,
}

impl ArmError {
    /// An error without `Retry-After`.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400 `BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The body of a request is not the JSON that the operation takes.
    pub fn invalid_content(reason: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{reason}'."),
        )
    }

    /// No such identity.
    pub fn identity_not_found(id: &IdentityId) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!(
                "The Resource 'Microsoft.ManagedIdentity/userAssignedIdentities/{}' under resource group '{}' was not found.",
                id.name, id.group
            ),
        )
    }

    /// An operation on credentials of an identity that does not exist.
    pub fn parent_not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ParentResourceNotFound",
            "The parent user-assigned identity doesn't exist.",
        )
    }

    /// No such credential.
    pub fn credential_not_found(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("The federated identity credential '{name}' was not found."),
        )
    }

    /// Another write of a credential of the same identity is in flight
    /// (text: Azure/bicep-registry-modules#1447).
    pub fn concurrent_write(id: &IdentityId) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
            format!(
                "Too many Federated Identity Credentials are written concurrently for the managed identity '{id}'. \
                 Concurrent Federated Identity Credentials writes under the same managed identity are not supported."
            ),
        )
    }

    /// A delete lock covers the resource (Azure/azure-cli#28242).
    pub fn scope_locked(resource: &str, lock: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "ScopeLocked",
            format!(
                "The scope '{resource}' cannot perform delete operation because following scope(s) are locked: '{lock}'. \
                 Please remove the lock and try again."
            ),
        )
    }

    /// Beyond a request limit.
    pub fn too_many_requests(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                "The request is being throttled because the limit of this operation for the resource has been reached.",
            )
        }
    }
}

impl IntoResponse for ArmError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
