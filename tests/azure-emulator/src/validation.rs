//! What Azure refuses to store as a federated credential.
//!
//! Rules and messages: Microsoft Entra documentation, "Important
//! considerations and restrictions for identity federation".

use axum::http::StatusCode;
use serde::Deserialize;

use crate::arm_error::ArmError;
use crate::identity::{Identity, Trust};

/// Federated credentials that one identity may hold.
pub const MAX_CREDENTIALS: usize = 20;

/// Longest issuer, subject or audience.
const MAX_CHARS: usize = 600;

/// `^[a-zA-Z0-9]{1}[a-zA-Z0-9-_]{2,119}$` of the REST specification.
pub fn name(name: &str) -> Result<(), ArmError> {
    let valid = (3..=120).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if valid {
        return Ok(());
    }
    Err(ArmError::bad_request(format!(
        "Federated Identity Credential name '{name}' is invalid."
    )))
}

/// Reads the body of a PUT. Neither issuer nor subject is looked at beyond
/// its length: Azure stores a wrong one, and refuses the token later.
pub fn body(bytes: &[u8]) -> Result<Trust, ArmError> {
    #[derive(Deserialize)]
    struct Body {
        properties: Option<Properties>,
    }
    #[derive(Default, Deserialize, PartialEq)]
    struct Properties {
        issuer: Option<String>,
        subject: Option<String>,
        audiences: Option<Vec<String>>,
    }

    let body: Body = serde_json::from_slice(bytes).map_err(ArmError::invalid_content)?;
    let properties = body.properties.unwrap_or_default();
    if properties == Properties::default() {
        return Err(ArmError::bad_request(
            "Federated Identity Credential from HTTP body has empty properties",
        ));
    }
    trust(properties.issuer, properties.subject, properties.audiences)
}

/// What a credential trusts, if Azure would store it.
pub fn trust(
    issuer: Option<String>,
    subject: Option<String>,
    audiences: Option<Vec<String>>,
) -> Result<Trust, ArmError> {
    let audiences = audiences.unwrap_or_default();
    let [audience] = audiences.as_slice() else {
        return Err(ArmError::bad_request(
            "Federated identity credentials must have exactly one audience.",
        ));
    };
    text("audience", Some(audience.clone()))?;
    Ok(Trust {
        issuer: text("issuer", issuer)?,
        subject: text("subject", subject)?,
        audiences,
    })
}

fn text(what: &str, value: Option<String>) -> Result<String, ArmError> {
    let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
        ArmError::bad_request(format!("Federated Identity Credential has no {what}."))
    })?;
    if value.chars().count() > MAX_CHARS {
        return Err(ArmError::bad_request(format!(
            "Federated Identity Credential {what} is longer than {MAX_CHARS} characters."
        )));
    }
    Ok(value)
}

/// Whether the identity can take the credential, whose lower-case name is `key`.
pub fn admission(identity: &Identity, key: &str, trust: &Trust) -> Result<(), ArmError> {
    let taken = identity.credentials.iter().any(|(other, credential)| {
        other != key
            && credential.trust.issuer == trust.issuer
            && credential.trust.subject == trust.subject
    });
    if taken {
        return Err(ArmError::bad_request(
            "Issuer and subject combination already exists for this Managed Identity.",
        ));
    }
    if identity.credentials.len() >= MAX_CREDENTIALS && !identity.credentials.contains_key(key) {
        // Microsoft documents the limit only: status, code and text are invented.
        return Err(ArmError::new(
            StatusCode::BAD_REQUEST,
            "FederatedIdentityCredentialLimitExceeded",
            format!(
                "The managed identity already has {MAX_CREDENTIALS} Federated Identity Credentials, which is the most it can have."
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn names() {
        let longest = "a".repeat(120);
        for good in ["abc", "A-b_9", "0--", longest.as_str()] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(121);
        for bad in [
            "",
            "ab",
            "-abc",
            "_abc",
            "a.c",
            "a c",
            "äbc",
            too_long.as_str(),
        ] {
            let error = name(bad).unwrap_err();
            assert_eq!(
                error.message,
                format!("Federated Identity Credential name '{bad}' is invalid.")
            );
        }
    }

    fn properties(issuer: &str, subject: &str, audiences: &[&str]) -> Value {
        json!({ "properties": { "issuer": issuer, "subject": subject, "audiences": audiences } })
    }

    #[test]
    fn bodies() {
        let (longest, too_long) = ("ü".repeat(600), "ü".repeat(601));
        let table = [
            (properties("i", "s", &["a"]), None),
            (properties(&longest, &longest, &[&longest]), None),
            (json!({}), Some("has empty properties")),
            (json!({ "properties": null }), Some("has empty properties")),
            (json!({ "properties": {} }), Some("has empty properties")),
            (
                properties("i", "s", &[]),
                Some("must have exactly one audience"),
            ),
            (
                properties("i", "s", &["a", "b"]),
                Some("must have exactly one audience"),
            ),
            (properties("i", "s", &[""]), Some("has no audience")),
            (properties("", "s", &["a"]), Some("has no issuer")),
            (properties("i", "", &["a"]), Some("has no subject")),
            (
                json!({ "properties": { "subject": "s", "audiences": ["a"] } }),
                Some("has no issuer"),
            ),
            (
                properties(&too_long, "s", &["a"]),
                Some("issuer is longer than 600"),
            ),
            (
                properties("i", &too_long, &["a"]),
                Some("subject is longer than 600"),
            ),
            (
                properties("i", "s", &[&too_long]),
                Some("audience is longer than 600"),
            ),
            (
                json!({ "properties": { "issuer": 7 } }),
                Some("could not be deserialized"),
            ),
            (json!("text"), Some("could not be deserialized")),
        ];
        for (input, expected) in table {
            let message = body(input.to_string().as_bytes()).err().map(|error| {
                assert_eq!(error.status, StatusCode::BAD_REQUEST);
                error.message
            });
            match (message, expected) {
                (None, None) => {}
                (Some(message), Some(part)) if message.contains(part) => {}
                (message, _) => panic!("{input}: {message:?}, expected {expected:?}"),
            }
        }
    }
}
