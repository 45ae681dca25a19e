//! Every error of Azure Resource Manager, Microsoft Graph and Entra, classified once.
//!
//! Codes and messages: the managed identity REST specification's `CloudError`, and
//! <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations#errors>.

use std::{fmt, time::Duration};

/// What went wrong, as far as it matters for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AzureErrorKind {
    /// Another write to the same identity is in flight.
    ConcurrentWrite,
    /// Another credential of the identity has the same issuer and subject.
    DuplicateSubject,
    /// The identity carries as many credentials as Azure allows.
    LimitReached,
    /// The request itself is wrong.
    Invalid,
    /// The region does not offer federated identity credentials.
    UnsupportedRegion,
    /// The identity, its resource group or its subscription does not exist.
    NotFound,
    /// The operator's principal lacks a role.
    Forbidden,
    /// An Azure Policy refuses it.
    PolicyDenied,
    /// A lock refuses it.
    Locked,
    /// The operator was not started for Entra applications; Azure was not asked.
    ApplicationsOff,
    /// What a write was decided on no longer holds; Azure was not asked.
    Outdated,
    /// Too many requests.
    Throttled,
    /// The identity's subscription belongs to another tenant than the operator's token.
    WrongTenant,
    /// The operator's token is refused, or Entra gives none.
    Unauthenticated,
    /// Azure is out of order or out of reach.
    Unavailable,
    /// An answer that no row knows.
    Unexpected,
}

/// One row: an answer matches when status, code and message do; the first row wins.
struct Row {
    status: u16,
    code: &'static str,
    message: &'static str,
    kind: AzureErrorKind,
}

const fn row(status: u16, code: &'static str, message: &'static str, kind: AzureErrorKind) -> Row {
    Row {
        status,
        code,
        message,
        kind,
    }
}

/// `""` matches any code or message; otherwise the code is compared without case, after a `*` its end only, and the
/// message must contain the text, without case.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(409, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", "", AzureErrorKind::ConcurrentWrite),
    row(409, "Request_MultipleObjectsWithSameKeyValue", "", AzureErrorKind::Outdated),
    row(409, "ScopeLocked", "", AzureErrorKind::Locked),
    row(409, "", "", AzureErrorKind::ConcurrentWrite),
    row(400, "", "issuer and subject combination already exists", AzureErrorKind::DuplicateSubject),
    row(400, "", "issuer and subject must be unique", AzureErrorKind::DuplicateSubject),
    // The code for more than 20 credentials is not documented; the operator counts first.
    row(400, "", "limit", AzureErrorKind::LimitReached),
    row(400, "", "maximum", AzureErrorKind::LimitReached),
    row(400, "InvalidAuthenticationTokenTenant", "", AzureErrorKind::WrongTenant),
    row(401, "InvalidAuthenticationTokenTenant", "", AzureErrorKind::WrongTenant),
    row(400, "", "", AzureErrorKind::Invalid),
    row(401, "", "", AzureErrorKind::Unauthenticated),
    row(403, "RequestDisallowedByPolicy", "", AzureErrorKind::PolicyDenied),
    row(403, "", "", AzureErrorKind::Forbidden),
    // Without such a code it is not Azure's: a proxy's, or of an endpoint that is another's. It proves nothing.
    row(404, "*NotFound", "", AzureErrorKind::NotFound),
    row(405, "", "", AzureErrorKind::UnsupportedRegion),
    row(408, "", "", AzureErrorKind::Unavailable),
    row(429, "", "", AzureErrorKind::Throttled),
];

impl AzureErrorKind {
    /// Classifies an answer of Azure Resource Manager or Microsoft Graph.
    #[must_use]
    pub fn of_response(status: u16, code: &str, message: &str) -> Self {
        let (code, message) = (code.to_ascii_lowercase(), message.to_ascii_lowercase());
        let is_of = |row: &Row| {
            let known = row.code.to_ascii_lowercase();
            match known.strip_prefix('*') {
                Some(end) => code.ends_with(end),
                None => known.is_empty() || known == code,
            }
        };
        TABLE
            .iter()
            .find(|row| row.status == status && is_of(row) && message.contains(row.message))
            .map_or_else(
                || {
                    if status >= 500 {
                        Self::Unavailable
                    } else {
                        Self::Unexpected
                    }
                },
                |row| row.kind,
            )
    }
}

/// A request to Azure that did not succeed. Its text holds no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct AzureError {
    /// What to make of it.
    pub kind: AzureErrorKind,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// ARM's or Entra's error code, for example `AuthorizationFailed`.
    pub code: Option<String>,
    /// What Azure said.
    pub message: String,
    /// How long Azure asks to wait.
    pub retry_after: Option<Duration>,
}

impl AzureError {
    pub(super) fn new(kind: AzureErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: None,
            code: None,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// What Azure, or a proxy on the way, said. One that repeats the request may repeat the token with it.
pub(super) fn without_tokens(text: &str) -> String {
    /// How the header of each JWT begins: `{"` in Base64. <https://www.rfc-editor.org/rfc/rfc7519#section-3.1>
    const BEGIN: &str = "eyJ";
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_of_token(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        kept.push_str(before);
        kept.push_str(if word.contains('.') { "[token]" } else { word });
        rest = after;
    }
    kept + rest
}

impl fmt::Display for AzureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        if let Some(code) = self.code.as_deref().filter(|code| !code.is_empty()) {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<azure_core::Error> for AzureError {
    /// An error below Resource Manager: the connection, or the operator's own sign-in.
    fn from(error: azure_core::Error) -> Self {
        use azure_core::error::ErrorKind;
        let sign_in = matches!(error.kind(), ErrorKind::Credential);
        let mut message = error.to_string();
        let mut rejection = None;
        let mut is_unreadable = false;
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            match cause.downcast_ref().map(azure_core::Error::kind) {
                Some(ErrorKind::HttpResponse {
                    status, error_code, ..
                }) => rejection = Some((u16::from(*status), error_code.clone())),
                Some(ErrorKind::DataConversion) => is_unreadable = true,
                _ => {}
            }
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        if sign_in && is_unreadable {
            // Its text repeats a part of the answer: it may be the token.
            message = "the answer to the sign-in cannot be read".into();
        }
        let (status, code) = rejection.unzip();
        let message = without_tokens(&message);
        let kind = match status {
            // Entra answered, and its answer is no.
            Some(400..=499) if sign_in && status != Some(429) => AzureErrorKind::Unauthenticated,
            Some(429) => AzureErrorKind::Throttled,
            // No answer, or not from Entra: the file of the token, the network, the server.
            _ => AzureErrorKind::Unavailable,
        };
        Self {
            kind,
            status,
            code: code.flatten(),
            message,
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AzureErrorKind::*, *};

    #[test]
    fn a_token_that_is_repeated_to_us_is_not_repeated_by_us() {
        for (said, kept) in [
            ("no", "no"),
            ("eyJ is how it begins", "eyJ is how it begins"),
            (
                "denied: Bearer eyJhbGciOiJub25lIn0.e30.c2ln, again eyJhbGciOiJub25lIn0.e30.",
                "denied: Bearer [token], again [token]",
            ),
            ("xeyJ0.e30.c2lnatur\u{e9}", "x[token]\u{e9}"),
        ] {
            assert_eq!(without_tokens(said), kept);
        }
    }

    #[test]
    #[rustfmt::skip]
    fn every_documented_answer_has_its_class() {
        let table = [
            (409, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", "Too many Federated Identity Credentials are written concurrently for the managed identity '/x'.", ConcurrentWrite),
            (409, "Conflict", "", ConcurrentWrite),
            (409, "Request_MultipleObjectsWithSameKeyValue", "FederatedIdentityCredential with name x already exists.", Outdated),
            (400, "InvalidFederatedIdentityCredentialValue", "The combination of issuer and subject must be unique on the app.", DuplicateSubject),
            (409, "ScopeLocked", "The scope cannot perform delete operation because following scope(s) are locked", Locked),
            (400, "BadRequest", "Issuer and subject combination already exists for this Managed Identity.", DuplicateSubject),
            (400, "BadRequest", "Federated identity credentials must have exactly one audience.", Invalid),
            (400, "BadRequest", "Federated Identity Credential from HTTP body has empty properties", Invalid),
            (400, "BadRequest", "Federated Identity Credential name 'x' is invalid.", Invalid),
            (400, "BadRequest", "Too many credentials: the maximum is 20.", LimitReached),
            (400, "BadRequest", "The limit of 20 was reached.", LimitReached),
            (400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required", Invalid),
            (400, "InvalidAuthenticationTokenTenant", "", WrongTenant),
            (401, "AuthenticationFailed", "", Unauthenticated),
            (401, "ExpiredAuthenticationToken", "", Unauthenticated),
            (401, "InvalidAuthenticationTokenTenant", "", WrongTenant),
            (403, "AuthorizationFailed", "", Forbidden),
            (403, "LinkedAuthorizationFailed", "", Forbidden),
            (403, "RequestDisallowedByPolicy", "", PolicyDenied),
            (404, "ParentResourceNotFound", "The parent user-assigned identity doesn't exist.", NotFound),
            (404, "ResourceNotFound", "", NotFound),
            (404, "NotFound", "", NotFound),
            (404, "Request_ResourceNotFound", "Resource does not exist", NotFound),
            (404, "", "404 page not found", Unexpected),
            (404, "InvalidResourceType", "", Unexpected),
            (405, "", "Support for federated identity credentials not enabled.", UnsupportedRegion),
            (408, "", "", Unavailable),
            (429, "TooManyRequests", "", Throttled),
            (500, "InternalServerError", "", Unavailable),
            (503, "", "", Unavailable),
            (418, "", "", Unexpected),
        ];
        for (status, code, message, kind) in table {
            assert_eq!(
                AzureErrorKind::of_response(status, code, message),
                kind,
                "{status} {code} {message}"
            );
        }
    }
}
