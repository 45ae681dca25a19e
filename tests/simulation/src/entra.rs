//! Entra's token endpoint. It takes the tokens of this cluster at their word; of credentials it knows
//! what Azure had a while ago.

use std::collections::HashMap;

use azure_emulator::app::App;
use azure_emulator::assertion::Assertion;
use azure_emulator::gateway::now;
use azure_emulator::oauth_error::OAuthError;
use serde_json::{Value, json};

/// The end of its path.
pub const PATH: &str = "/oauth2/v2.0/token";

/// Gives a token for a ServiceAccount's: not a secret one, it tells whom it lets in.
///
/// # Errors
/// No credential lets that account in.
pub fn exchange(app: &App, request: &http::Request<Vec<u8>>) -> Result<Value, OAuthError> {
    let form: HashMap<_, _> = form_urlencoded::parse(request.body()).collect();
    let field = |name: &str| form.get(name).map(AsRef::as_ref).unwrap_or_default();
    let tenant = request.uri().path().trim_start_matches('/').split('/');
    let tenant = tenant.map(str::parse).next().and_then(Result::ok);
    let client = field("client_id").parse().ok();
    let delay = app.settings().propagation();
    let known = tenant.zip(client);
    let known = known.and_then(|(tenant, client)| app.store().client(tenant, client, delay, now()));
    let (_, trusts) = known.ok_or_else(|| {
        OAuthError::request("unauthorized_client", 700_016, "There is no such client.")
    })?;
    let assertion = Assertion::read(field("client_assertion"))?;
    assertion.admitted_by(&assertion.trusted_by(trusts)?)?;
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": 3600,
        "access_token": format!("{} for {}", field("client_id"), assertion.subject),
    }))
}

/// The client that a token lets in, and the subject that became it.
pub fn admitted(token: &str) -> Option<(String, String)> {
    let (client, subject) = token.split_once(" for ")?;
    Some((client.to_owned(), subject.to_owned()))
}
