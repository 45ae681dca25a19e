//! The `awi` binary: the operator, and the commands around it.

use airflow_workload_identity::cli::Cli;
use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // One TLS provider for Kubernetes and Azure.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cli::parse().execute().await
}
