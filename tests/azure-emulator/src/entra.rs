//! Entra's token endpoint, for workload identity federation.

use std::collections::HashMap;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::assertion::Assertion;
use crate::bearer;
use crate::gateway::now;
use crate::oauth_error::OAuthError;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Exchanges a client assertion for an access token.
pub async fn exchange(
    app: &App,
    tenant: &str,
    form: &HashMap<String, String>,
) -> Result<Response, OAuthError> {
    let field = |name: &str| {
        form.get(name).map(String::as_str).ok_or_else(|| {
            OAuthError::request(
                "invalid_request",
                900_144,
                &format!("The request body must contain the following parameter: '{name}'."),
            )
        })
    };
    if field("grant_type")? != "client_credentials" {
        return Err(OAuthError::request(
            "unsupported_grant_type",
            70003,
            "The app requested an unsupported grant type.",
        ));
    }
    let audience = audience(field("scope")?)?;
    let client = field("client_id")?;
    let (caller, trusts) = {
        // The settings' lock is released before the store's is taken.
        let delay = app.settings().propagation();
        let store = app.store();
        parse(tenant)
            .zip(parse(client))
            .and_then(|(tenant, client)| store.client(tenant, client, delay, now()))
            .ok_or_else(|| {
                OAuthError::request(
                    "unauthorized_client",
                    700_016,
                    &format!("Application with identifier '{client}' was not found in the directory '{tenant}'."),
                )
            })?
    };
    if form
        .get("client_assertion_type")
        .is_none_or(|kind| kind != JWT_BEARER)
    {
        return Err(OAuthError::assertion(
            7_000_216,
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type; only a JWT assertion is supported here.",
        ));
    }

    let assertion = Assertion::read(field("client_assertion")?)?;
    // Before its issuer is asked: a stranger's token must not make Entra fetch anything.
    let trusts = assertion.trusted_by(trusts)?;
    let key = app
        .issuers
        .key(&assertion.issuer, &assertion.key_id)
        .await?;
    assertion.verify(&key)?;
    assertion.admitted_by(&trusts)?;

    let access_token = app.tokens().issue(caller, audience, now());
    tracing::trace!(target: "issued", access_token);
    let seconds = bearer::LIFETIME.as_secs();
    Ok(Json(json!({
        "token_type": "Bearer",
        "expires_in": seconds,
        "ext_expires_in": seconds,
        "access_token": access_token,
    }))
    .into_response())
}

/// Identifiers are compared without regard to case.
fn parse(uuid: &str) -> Option<Uuid> {
    uuid.parse().ok()
}

/// Resource that a scope `<resource>/.default` is for; clients may add `OpenID` scopes.
fn audience(scope: &str) -> Result<&str, OAuthError> {
    scope
        .split(' ')
        .find_map(|scope| scope.strip_suffix("/.default"))
        .ok_or_else(|| {
            OAuthError::request(
                "invalid_scope",
                1_002_012,
                &format!("The provided value for scope '{scope}' is not valid: client credential flows need a scope with '/.default'."),
            )
        })
}

/// The tenant's `OpenID` configuration: MSAL reads the endpoints from it.
pub fn openid_configuration(own_url: &str, tenant: &str) -> Value {
    json!({
        "issuer": format!("{own_url}/{tenant}/v2.0"),
        "authorization_endpoint": format!("{own_url}/{tenant}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{own_url}/{tenant}/oauth2/v2.0/token"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_a_resource() {
        for (scope, expected) in [
            (
                "https://management.azure.com/.default",
                Some("https://management.azure.com"),
            ),
            (
                "https://management.core.windows.net//.default",
                Some("https://management.core.windows.net/"),
            ),
            ("openid https://a/.default", Some("https://a")),
            ("https://management.azure.com", None),
            ("", None),
        ] {
            assert_eq!(audience(scope).ok(), expected, "{scope}");
        }
    }
}
