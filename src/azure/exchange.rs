//! Entra's token endpoint, as Airflow's pods use it: a ServiceAccount's token for one of an identity.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential>

use std::fmt;

use azure_core::{
    credentials::TokenCredential,
    http::{ClientMethodOptions, Transport},
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
};
use uuid::Uuid;

use super::{
    AzureError, Cloud,
    calls::{Calls, Operation},
    credential,
};

/// Longest answer of Entra's that is repeated, in characters; what it adds helps nobody.
const WORDS: usize = 300;

/// A ServiceAccount's token. It shows in no output.
#[derive(Clone)]
pub struct AccountToken(String);

impl AccountToken {
    /// The token as the API server gave it.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for AccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountToken")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for AccountToken {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.clone())
    }
}

/// Entra in one cloud.
#[derive(Clone, Debug)]
pub(super) struct EntraClient {
    cloud: Cloud,
    transport: Transport,
    calls: Calls,
}

impl EntraClient {
    pub fn new(cloud: &Cloud, transport: &Transport, calls: Calls) -> Self {
        Self {
            cloud: cloud.clone(),
            transport: transport.clone(),
            calls,
        }
    }

    /// A credential for each exchange: one that lives on keeps the tokens that it got.
    pub async fn exchange(
        &self,
        tenant: Uuid,
        client: Uuid,
        token: AccountToken,
    ) -> Result<(), AzureError> {
        let options = ClientAssertionCredentialOptions {
            client_options: credential::sign_in_options(&self.cloud, &self.transport),
        };
        let (tenant, client) = (tenant.to_string(), client.to_string());
        let exchange = async {
            let assertion = token.clone();
            let credential =
                ClientAssertionCredential::new(tenant, client, assertion, Some(options))?;
            credential.get_token(&[&self.cloud.scope()], None).await?;
            Ok((200, ()))
        };
        let exchanged = self.calls.measure(Operation::ExchangeToken, exchange).await;
        exchanged.map_err(|error| AzureError {
            message: words(&error.message, &token),
            ..error
        })
    }
}

/// What Entra says, without what differs from answer to answer, and without the token if it should
/// ever repeat that.
fn words(message: &str, token: &AccountToken) -> String {
    let message = message.replace(&token.0, "<token>");
    let from = message.find("AADSTS").unwrap_or_default();
    let said = message[from..].split("Trace ID:").next();
    let said: Vec<&str> = said.unwrap_or_default().split_whitespace().collect();
    let said = said.join(" ");
    match said.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_entra_says_is_repeated_without_what_changes_and_without_the_token() {
        let token = AccountToken::new("header.claims.signature".into());
        let long = format!("AADSTS1: {}", "é".repeat(400));
        let table = [
            (
                "ClientAssertionCredential authentication failed. AADSTS700213: No match for 'a'.\r\n Trace ID: 1 Timestamp: 2",
                "AADSTS700213: No match for 'a'.",
            ),
            (
                "error sending request: connection refused",
                "error sending request: connection refused",
            ),
            (
                "AADSTS50027: header.claims.signature is no token",
                "AADSTS50027: <token> is no token",
            ),
        ];
        for (message, expected) in table {
            assert_eq!(words(message, &token), expected);
        }
        assert_eq!(words(&long, &token).chars().count(), WORDS + 1);
        assert!(!format!("{token:?}").contains("claims"));
    }
}
