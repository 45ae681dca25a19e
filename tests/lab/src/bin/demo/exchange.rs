//! The proof: the worker's token is worth a token of Azure.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lab::Lab;
use lab::identities::{AIRFLOW, EXCHANGE_AUDIENCE};
use serde::Deserialize;

use crate::screen::Screen;

const SCOPE: &str = "https://storage.azure.com/.default";

/// Does what azure-identity does in a worker's pod. The tokens themselves are not shown.
pub(crate) async fn show(screen: &Screen, lab: &Lab) -> Result<()> {
    let assertion = lab
        .mint_token("airflow", "airflow-worker", EXCHANGE_AUDIENCE)
        .await?;
    let claims = claims(&assertion)?;
    let token = lab
        .emulator()
        .exchange(AIRFLOW.client_id, &assertion, SCOPE)
        .await?;
    screen.answer(
        "Does a worker get into Azure? (as azure-identity asks, in its pod)",
        "curl $AZURE_AUTHORITY_HOST/$AZURE_TENANT_ID/oauth2/v2.0/token -d client_assertion@$AZURE_FEDERATED_TOKEN_FILE …",
        &format!(
            "presented  iss {}\n           sub {}\n           aud {}\nreceived   a {} token for {}, valid for {} minutes",
            claims.iss,
            claims.sub,
            claims.aud.join(", "),
            token.token_type,
            SCOPE.trim_end_matches("/.default"),
            token.expires_in / 60
        ),
    );
    Ok(())
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
}

fn claims(token: &str) -> Result<Claims> {
    let payload = token.split('.').nth(1).context("not a JWT")?;
    Ok(serde_json::from_slice(
        &BASE64_URL_SAFE_NO_PAD.decode(payload)?,
    )?)
}
