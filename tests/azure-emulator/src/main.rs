//! The emulator as a process: TLS, signals, and what it starts with. See the crate.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum_server::tls_rustls::RustlsConfig;
use azure_emulator::app::App;
use azure_emulator::issuers::Issuers;
use azure_emulator::settings::Settings;
use azure_emulator::store::Store;
use azure_emulator::{gateway, seed, tls};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// Azure Resource Manager (managed identities) and Entra's token endpoint, for tests.
#[derive(Parser)]
struct Cli {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Server certificate chain (PEM).
    #[arg(long)]
    tls_cert: PathBuf,
    /// Server private key (PEM).
    #[arg(long)]
    tls_key: PathBuf,
    /// Further CA certificates (PEM) trusted when reading an issuer's documents.
    #[arg(long)]
    issuer_ca: Option<PathBuf>,
    /// Identities to start with (JSON).
    #[arg(long)]
    seed: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
                .from_env_lossy(),
        )
        .with_writer(std::io::stderr)
        .init();
    // Err means that a provider is installed already: this is the only install.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    serve(Cli::parse()).await
}

async fn serve(cli: Cli) -> anyhow::Result<()> {
    // One tenant per emulator, unless the seed names others.
    let tenant = Uuid::new_v4();
    let mut store = Store::default();
    if let Some(path) = &cli.seed {
        for identity in seed::read(path, tenant)? {
            store.insert(identity);
        }
    }
    let authorities = cli.issuer_ca.as_deref().map(tls::authorities).transpose()?;
    let issuers = Issuers::new(authorities.unwrap_or_default())?;
    let app = Arc::new(App::new(store, Arc::new(issuers), cli.settings));

    let config = tls::server_config(&cli.tls_cert, &cli.tls_key)?;
    let listener = TcpListener::bind(cli.listen)
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(config))?
        .serve(gateway::router(app).into_make_service_with_connect_info::<SocketAddr>());

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "listening on https://{address}")?;
        stdout.flush()?;
    }
    tokio::select! {
        ended = server => ended.context("the server ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
