//! The `awi` binary: the operator, and the commands around it.

use std::process::ExitCode;

use airflow_workload_identity::cli::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // One TLS provider for Kubernetes and Azure.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cli::from_arguments().execute().await
}
