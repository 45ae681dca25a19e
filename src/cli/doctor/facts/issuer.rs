//! The issuer's documents, as anybody can read them, and the API server's own keys.

use std::collections::BTreeSet;

use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};

use super::super::{
    finding::{Read, Unread},
    issuer::{Fetch, Issued},
};
use crate::{
    cli::look::Look,
    problem::{ClusterError, bounded, chain},
};

/// `known` is what the operator goes by.
pub(in crate::cli::doctor) async fn issuer(look: &Look, known: Option<String>) -> Issued {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let nobody = || Fetch::Refused("There is no issuer".into());
    let document: Result<Document, Fetch> = match &look.issuer {
        Ok(issuer) => {
            let base = issuer.as_str().trim_end_matches('/');
            fetch(
                &look.http,
                &format!("{base}/.well-known/openid-configuration"),
            )
            .await
        }
        Err(_) => Err(nobody()),
    };
    let keys = match &document {
        Ok(document) if document.jwks_uri.starts_with("https://") => {
            fetch(&look.http, &document.jwks_uri).await.map(Keys::ids)
        }
        Ok(document) => Err(Fetch::Refused(format!(
            "jwks_uri is no https URL: {}",
            document.jwks_uri
        ))),
        Err(_) => Err(nobody()),
    };
    Issued {
        issuer: look.issuer.clone(),
        known,
        is_private_cloud: look.is_private_cloud,
        document: document.map(|document| document.issuer),
        keys,
        own_keys: own_keys(&look.client).await,
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7517#section-5>
#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
}

impl Keys {
    fn ids(self) -> BTreeSet<String> {
        self.keys.into_iter().map(|key| key.kid).collect()
    }
}

async fn own_keys(client: &Client) -> Read<BTreeSet<String>> {
    const PATH: &str = "/openid/v1/jwks";
    let unread = |error| Unread::new("the API server's keys", &format!("get {PATH}"), &error);
    let request = http::Request::get(PATH)
        .body(Vec::new())
        .map_err(|error| unread(ClusterError::Api(kube::Error::HttpError(error))))?;
    let keys: Keys = bounded(client.request(request)).await.map_err(unread)?;
    Ok(keys.ids())
}

/// A JSON document of somebody else's.
async fn fetch<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<T, Fetch> {
    const LIMIT: usize = 1024 * 1024;
    let silent = |error: reqwest::Error| Fetch::NoAnswer(chain(&error));
    let mut answer = client.get(url).send().await.map_err(silent)?;
    if !answer.status().is_success() {
        return Err(Fetch::Refused(format!("{url} answers {}", answer.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        body.extend_from_slice(&chunk);
        if body.len() > LIMIT {
            return Err(Fetch::Refused(format!("{url} does not end")));
        }
    }
    serde_json::from_slice(&body).map_err(|error| Fetch::Refused(format!("{url}: {error}")))
}
