//! HTTP clients for the lab's own servers.

use std::fs;
use std::path::Path;

use anyhow::Result;
use reqwest::{Certificate, Client};

/// Trusts the lab's authority only. It keeps no connection open: tests share the lab, but each has a runtime
/// of its own, and a connection would die with the runtime that made it.
pub(crate) fn client(ca: &Path) -> Result<Client> {
    Ok(Client::builder()
        .tls_certs_only([Certificate::from_pem(&fs::read(ca)?)?])
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?)
}
