//! What carries every request to Azure.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use async_trait::async_trait;
use azure_core::{
    Error,
    error::ErrorKind,
    http::{AsyncRawResponse, HttpClient, Method, Request, Transport},
};
use futures::StreamExt;
use tokio::sync::Semaphore;

/// Longest answer of Azure's, in bytes: far beyond what 20 credentials take. What is longer is not
/// Azure's, and would fill the memory.
const LONGEST: usize = 4 << 20;

/// Reads that wait for an answer at a time, as each takes a connection: far more than Azure lets a principal ask in the
/// long run, 25 a second. Not writes: what they were decided on must not grow old in a queue.
/// <https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling>
const READS: usize = 32;

/// How long a connection that nobody uses is kept: each takes some 60 KiB, and a burst opens many.
const IDLE: Duration = Duration::from_secs(5);

/// A transport for Azure's SDK.
///
/// # Errors
/// See [`http_client`].
pub fn transport(extra_ca: Option<&Path>, timeout: Duration) -> anyhow::Result<Transport> {
    let client = http_client(extra_ca, timeout)?;
    Ok(Transport::new(Arc::new(Bounded {
        client,
        reads: Semaphore::new(READS),
    })))
}

/// A client for Azure and for what Azure reads. `extra_ca` is a PEM file of certificates that are
/// trusted beside the system's. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn http_client(extra_ca: Option<&Path>, timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let mut client = reqwest::Client::builder()
        .https_only(false) // IMDS is plain http; bearer tokens go to https only (Cloud::new)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .pool_idle_timeout(IDLE)
        .timeout(timeout);
    if let Some(path) = extra_ca {
        let context = || format!("--extra-ca {}", path.display());
        let pem = std::fs::read(path).with_context(context)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).with_context(context)?;
        anyhow::ensure!(
            !certificates.is_empty(),
            "--extra-ca {}: no PEM certificate in it",
            path.display()
        );
        client = client.tls_certs_merge(certificates);
    }
    Ok(client.build()?)
}

/// Reads no more at a time than there are places for, and no answer beyond the longest.
#[derive(Debug)]
struct Bounded {
    client: reqwest::Client,
    reads: Semaphore,
}

#[async_trait]
impl HttpClient for Bounded {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let place = match request.method() {
            // Never closed, so there is always one in the end.
            Method::Get => self.reads.acquire().await.ok(),
            _ => None,
        };
        let answer = self.client.execute_request(request).await?;
        drop(place);
        let (status, headers, body) = answer.deconstruct();
        let mut left = LONGEST;
        let body = body.map(move |chunk| {
            let chunk = chunk?;
            left = left.checked_sub(chunk.len()).ok_or_else(|| {
                let message = format!("the answer is longer than {LONGEST} bytes");
                Error::with_message(ErrorKind::Io, message)
            })?;
            Ok(chunk)
        });
        Ok(AsyncRawResponse::new(status, headers, Box::pin(body)))
    }
}
