//! Signing keys of token issuers, from `OpenID` Connect discovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::oauth_error::OAuthError;

/// An issuer is asked at most once in this time, whatever its tokens say.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// An issuer that does not answer must not hold up a token request for long.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Known {
    keys: Option<JwkSet>,
    asked: Option<Instant>,
    failure: Option<String>,
}

/// Keys by issuer. Each issuer has its own lock, so that a slow one delays only its own tokens.
pub struct Issuers {
    http: reqwest::Client,
    known: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuers {
    /// `authorities` are trusted besides the system's.
    pub fn new(authorities: Vec<reqwest::Certificate>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            known: Mutex::default(),
        })
    }

    /// A signing key. The issuer is asked when the key is not known. Callers
    /// pass only issuers that a federated credential trusts.
    pub async fn key(&self, issuer: &str, key_id: &str) -> Result<Jwk, OAuthError> {
        let known = Arc::clone(
            self.known
                .lock()
                .await
                .entry(issuer.to_owned())
                .or_default(),
        );
        let mut known = known.lock().await;
        let find = |known: &Known| {
            known
                .keys
                .as_ref()
                .and_then(|keys| keys.find(key_id).cloned())
        };

        if let Some(key) = find(&known) {
            return Ok(key);
        }
        if known
            .asked
            .is_none_or(|asked| asked.elapsed() >= REFRESH_INTERVAL)
        {
            match self.fetch(issuer).await {
                Ok(keys) => (known.keys, known.failure) = (Some(keys), None),
                // Keys read before stay in use, as they would in a cache.
                Err(error) => known.failure = Some(format!("{error:#}")),
            }
            known.asked = Some(Instant::now());
        }
        if let Some(key) = find(&known) {
            return Ok(key);
        }
        Err(known.failure.as_ref().map_or_else(
            || {
                OAuthError::assertion(
                    7_000_272,
                    &format!("The signing key '{key_id}' of the assertion is not among the keys of the issuer '{issuer}'."),
                )
            },
            |failure| {
                OAuthError::assertion(
                    50166,
                    &format!("The request to the external OIDC endpoint of '{issuer}' failed: {failure}."),
                )
            },
        ))
    }

    async fn fetch(&self, issuer: &str) -> anyhow::Result<JwkSet> {
        let discovery: Discovery = self.get(&discovery_url(issuer)).await?;
        anyhow::ensure!(
            discovery.issuer == issuer,
            "the discovery document names the issuer '{}'",
            discovery.issuer
        );
        self.get(&discovery.jwks_uri).await
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        let response = self.http.get(url).send().await?.error_for_status()?;
        response
            .json()
            .await
            .with_context(|| format!("unexpected answer from {url}"))
    }
}

/// `OpenID` Connect Discovery §4: a trailing slash of the issuer is removed before the path is added.
fn discovery_url(issuer: &str) -> String {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{base}/.well-known/openid-configuration")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertion::tests::Signer;
    use axum::routing::get;
    use axum::{Json, Router};
    use axum_server::tls_rustls::RustlsConfig;
    use serde_json::json;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Mutex as StdMutex;

    /// An issuer on loopback, whose keys can be changed.
    struct Issuer {
        url: String,
        keys: Arc<StdMutex<Vec<Jwk>>>,
        asked: Arc<StdMutex<u32>>,
        authority: reqwest::Certificate,
    }

    async fn issuer(claimed: impl Fn(SocketAddr) -> String, keys: Vec<Jwk>) -> Issuer {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (keys, asked) = (Arc::new(StdMutex::new(keys)), Arc::new(StdMutex::new(0)));
        let document =
            json!({ "issuer": claimed(address), "jwks_uri": format!("https://{address}/keys") });
        let answered = (keys.clone(), asked.clone());
        let app = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || Json(document.clone())),
            )
            .route(
                "/keys",
                get(async move || {
                    *answered.1.lock().unwrap() += 1;
                    Json(json!({ "keys": *answered.0.lock().unwrap() }))
                }),
            );
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (der, key) = (pair.cert.der().to_vec(), pair.signing_key.serialize_der());
        let authority = reqwest::Certificate::from_der(&der).unwrap();
        let config = RustlsConfig::from_der(vec![der], key).await.unwrap();
        let server = axum_server::from_tcp_rustls(listener, config).unwrap();
        tokio::spawn(server.serve(app.into_make_service()));
        Issuer {
            url: format!("https://{address}/"),
            keys,
            asked,
            authority,
        }
    }

    #[tokio::test]
    async fn keys_are_fetched_once_and_again_for_an_unknown_key() {
        let (first, second) = (Signer::new("1").jwk, Signer::new("2").jwk);
        let issuer = issuer(|address| format!("https://{address}/"), vec![first.clone()]).await;
        let issuers = Issuers::new(vec![issuer.authority.clone()]).unwrap();

        assert_eq!(issuers.key(&issuer.url, "1").await, Ok(first.clone()));
        assert_eq!(issuers.key(&issuer.url, "1").await, Ok(first));
        *issuer.keys.lock().unwrap() = vec![second.clone()];
        // Within the interval the issuer is not asked again.
        let unknown = issuers.key(&issuer.url, "2").await.unwrap_err();
        assert_eq!(unknown.number(), Some(7_000_272));
        assert_eq!(*issuer.asked.lock().unwrap(), 1);
        tokio::time::sleep(REFRESH_INTERVAL).await;
        assert_eq!(issuers.key(&issuer.url, "2").await, Ok(second));
        assert_eq!(*issuer.asked.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn documents_that_cannot_be_used_are_an_error() {
        let signer = Signer::new("1");
        // Without the trailing slash it is another issuer.
        let other = issuer(
            |address| format!("https://{address}"),
            vec![signer.jwk.clone()],
        )
        .await;
        let issuers = Issuers::new(vec![other.authority.clone()]).unwrap();
        let untrusting = Issuers::new(Vec::new()).unwrap();
        for (issuers, url) in [
            (&issuers, other.url.as_str()),
            (&untrusting, other.url.as_str()),
            (&issuers, "https://127.0.0.1:1"),
            (&issuers, "not a url"),
        ] {
            let error = issuers.key(url, "1").await.unwrap_err();
            assert_eq!(error.number(), Some(50166), "{url}: {}", error.description);
        }
    }

    #[tokio::test]
    async fn an_issuer_without_tls_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let jwk = Signer::new("1").jwk;
        let document = json!({ "issuer": url, "jwks_uri": url, "keys": [jwk] });
        let app = Router::new().fallback(async move || Json(document.clone()));
        tokio::spawn(axum::serve(listener, app).into_future());

        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let error = Issuers::new(Vec::new()).unwrap().key(&url, "1").await;
        assert_eq!(error.unwrap_err().number(), Some(50166));
    }

    #[test]
    fn slashes_are_not_doubled() {
        let expected = "https://i/a/.well-known/openid-configuration";
        assert_eq!(discovery_url("https://i/a/"), expected);
        assert_eq!(discovery_url("https://i/a"), expected);
    }
}
