//! The Azure emulator as a child process, and its administration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use reqwest::{Client, Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::binaries::workspace_binary;
use crate::control_plane::START_LIMIT;
use crate::http;
use crate::identities::TENANT_ID;
use crate::outputs;
use crate::pki::Authority;
use crate::process::Process;
use crate::reaper::Reaper;

pub struct Emulator {
    http: Client,
    url: String,
    ca: PathBuf,
    _process: Process,
}

/// How many requests the emulator has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub total: u64,
    pub writes: u64,
    pub by_operation: BTreeMap<String, u64>,
}

impl Counts {
    /// For example of `credential.put`.
    #[must_use]
    pub fn of(&self, operation: &str) -> u64 {
        self.by_operation
            .get(operation)
            .copied()
            .unwrap_or_default()
    }
}

/// A request that the emulator answered.
#[derive(Clone, Debug, Deserialize)]
pub struct AzureRequest {
    pub n: u64,
    pub time: Value,
    /// Its User-Agent.
    pub client: String,
    pub method: String,
    pub path: String,
    pub operation: Option<String>,
    pub status: u16,
}

/// What Entra answers to a token exchange. Not `Debug`: it holds a token.
#[derive(Deserialize)]
pub struct TokenAnswer {
    pub token_type: String,
    pub expires_in: u64,
    pub access_token: String,
}

impl AzureRequest {
    /// Whether the operator sent it.
    #[must_use]
    pub fn is_operators(&self) -> bool {
        self.client.starts_with("airflow-wi-operator")
    }
}

impl Emulator {
    pub(crate) async fn start(
        reaper: &Arc<Reaper>,
        authority: &Authority,
        seed: &Value,
        extra_args: &[String],
    ) -> Result<Self> {
        let binary = workspace_binary("azure-emulator", "AZURE_EMULATOR_BIN")?;
        let serving = authority.serving("azure-emulator")?;
        let seed_file = reaper.scratch().join("azure-seed.json");
        fs::write(&seed_file, serde_json::to_vec_pretty(seed)?)?;

        let mut command = reaper.command(binary)?;
        command
            .args(["--listen", "127.0.0.1:0"])
            .arg("--tls-cert")
            .arg(&serving.public)
            .arg("--tls-key")
            .arg(&serving.private)
            .arg("--issuer-ca")
            .arg(authority.certificate())
            .arg("--seed")
            .arg(&seed_file)
            .args(extra_args)
            .env("NO_PROXY", "127.0.0.1");
        if outputs::outlives(reaper.scratch(), "azure-emulator.log")? {
            command.env("RUST_LOG", "issued=trace").env("NO_COLOR", "1");
        }
        let mut process = Process::start(reaper, "azure-emulator", command)?;

        let log = process.log_path().to_owned();
        let url = process
            .wait_for(START_LIMIT, || async { announced_url(&log) })
            .await?;
        let ca = authority.certificate().to_owned();
        Ok(Self {
            http: http::client(&ca)?,
            url,
            ca,
            _process: process,
        })
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority that signed its certificate.
    #[must_use]
    pub fn ca_path(&self) -> &Path {
        &self.ca
    }

    #[must_use]
    pub fn tenant_id(&self) -> &'static str {
        TENANT_ID
    }

    pub async fn counts(&self) -> Result<Counts> {
        self.admin(Method::GET, "counts", None).await
    }

    /// Those after the one with the number `since`.
    pub async fn requests(&self, since: u64) -> Result<Vec<AzureRequest>> {
        #[derive(Deserialize)]
        struct Requests {
            requests: Vec<AzureRequest>,
        }
        let answer: Requests = self
            .admin(Method::GET, &format!("requests?since={since}"), None)
            .await?;
        Ok(answer.requests)
    }

    pub async fn forget_requests(&self) -> Result<()> {
        self.change(Method::DELETE, "requests", None).await
    }

    /// `{throttle, latencyMs, writeWindowMs, propagationMs, pageSize}`, each optional.
    pub async fn config(&self, config: &Value) -> Result<()> {
        self.change(Method::PUT, "config", Some(config)).await
    }

    /// `{operation, pathContains?, times?, status, code, message, retryAfter?, action}`.
    pub async fn fault(&self, fault: &Value) -> Result<()> {
        self.change(Method::POST, "faults", Some(fault)).await
    }

    pub async fn clear_faults(&self) -> Result<()> {
        self.change(Method::DELETE, "faults", None).await
    }

    pub async fn lock(&self, lock: &Value) -> Result<()> {
        self.change(Method::PUT, "locks", Some(lock)).await
    }

    pub async fn clear_locks(&self) -> Result<()> {
        self.change(Method::DELETE, "locks", None).await
    }

    /// Ends the life of all access tokens of a client, as their time would.
    pub async fn expire_tokens(&self, client_id: &str) -> Result<()> {
        self.change(Method::DELETE, &format!("tokens?client={client_id}"), None)
            .await
    }

    pub async fn state(&self) -> Result<Value> {
        self.admin(Method::GET, "state", None).await
    }

    /// Exchanges a `ServiceAccount` token for one of Azure, as azure-identity does in a pod.
    pub async fn exchange(
        &self,
        client_id: &str,
        assertion: &str,
        scope: &str,
    ) -> Result<TokenAnswer> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", scope),
        ];
        let url = format!("{}/{TENANT_ID}/oauth2/v2.0/token", self.url);
        let answer = self.http.post(url).form(&form).send().await?;
        Ok(checked(answer).await?.json().await?)
    }

    pub(crate) fn http(&self) -> &Client {
        &self.http
    }

    async fn admin<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        Ok(self.send(method, path, body).await?.json().await?)
    }

    async fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        self.send(method, path, body).await?;
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let mut request = self
            .http
            .request(method, format!("{}/admin/{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        checked(request.send().await?).await
    }
}

/// The answer, or an error with all that it says.
pub(crate) async fn checked(answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let url = answer.url().clone();
    bail!(
        "{url} answered {status}: {}",
        answer.text().await.unwrap_or_default()
    )
}

fn announced_url(log: &Path) -> Option<String> {
    let log = fs::read_to_string(log).ok()?;
    let line = log
        .split_inclusive('\n')
        .find_map(|line| line.strip_prefix("listening on "))?;
    line.strip_suffix('\n').map(str::to_owned)
}
