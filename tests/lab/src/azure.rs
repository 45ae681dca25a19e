//! Azure as someone with `az` uses it: behind the operator's back.

use anyhow::Result;
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::emulator::{Emulator, checked};
use crate::identities::EXCHANGE_AUDIENCE;

const API_VERSION: &str = "2024-11-30";

pub struct Azure<'lab> {
    emulator: &'lab Emulator,
    token: String,
}

/// A federated identity credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub name: String,
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
}

impl<'lab> Azure<'lab> {
    pub(crate) fn new(emulator: &'lab Emulator, token: String) -> Self {
        Self { emulator, token }
    }

    pub async fn put_credential(
        &self,
        identity: &str,
        name: &str,
        issuer: &str,
        subject: &str,
    ) -> Result<()> {
        let body = json!({
            "properties": {"issuer": issuer, "subject": subject, "audiences": [EXCHANGE_AUDIENCE]}
        });
        self.send(
            self.request(Method::PUT, &credential(identity, name))
                .json(&body),
        )
        .await?;
        Ok(())
    }

    pub async fn delete_credential(&self, identity: &str, name: &str) -> Result<()> {
        self.send(self.request(Method::DELETE, &credential(identity, name)))
            .await?;
        Ok(())
    }

    /// All of an identity, from however many pages.
    pub async fn list_credentials(&self, identity: &str) -> Result<Vec<Credential>> {
        let mut credentials = Vec::new();
        let mut request = self.request(
            Method::GET,
            &format!("{identity}/federatedIdentityCredentials"),
        );
        loop {
            let page: Page = self.send(request).await?.json().await?;
            credentials.extend(page.value.into_iter().map(Credential::from));
            let Some(next) = page.next_link else {
                return Ok(credentials);
            };
            request = self.emulator.http().get(next);
        }
    }

    /// Makes a managed identity, and returns what Azure says about it.
    pub async fn put_identity(&self, identity: &str) -> Result<Value> {
        let request = self
            .request(Method::PUT, identity)
            .json(&json!({"location": "westeurope"}));
        Ok(self.send(request).await?.json().await?)
    }

    pub async fn delete_identity(&self, identity: &str) -> Result<()> {
        self.send(self.request(Method::DELETE, identity)).await?;
        Ok(())
    }

    /// Asks Microsoft Graph, below `/v1.0/`; null if it answers without a body.
    pub async fn graph(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}/v1.0/{path}", self.emulator.url().trim_end_matches('/'));
        let mut request = self.emulator.http().request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = self.send(request).await?.bytes().await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}?api-version={API_VERSION}", self.emulator.url());
        self.emulator.http().request(method, url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        checked(request.bearer_auth(&self.token).send().await?).await
    }
}

fn credential(identity: &str, name: &str) -> String {
    format!("{identity}/federatedIdentityCredentials/{name}")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Vec<Item>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    issuer: String,
    subject: String,
    audiences: Vec<String>,
}

impl From<Item> for Credential {
    fn from(Item { name, properties }: Item) -> Self {
        let Properties {
            issuer,
            subject,
            audiences,
        } = properties;
        Self {
            name,
            issuer,
            subject,
            audiences,
        }
    }
}
