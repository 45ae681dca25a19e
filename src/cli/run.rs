//! `awi run`: the operator as a process: its flags, signals and ports.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::builder::FalseyValueParser;
use kube::Config;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use uuid::Uuid;

use super::{
    azure::AzureArgs,
    duration,
    telemetry::{self, LogFormat},
};
use crate::{
    api::OPERATOR,
    client::client,
    controller::Scope,
    model::Issuer,
    operator::{Operator, Settings},
    serve,
};

/// Each flag can be given as an environment variable, too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The issuer of the cluster's ServiceAccount tokens, byte for byte. Left out: asked of the
    /// API server.
    #[arg(long, env = "AWI_ISSUER", value_name = "URL")]
    issuer: Option<Issuer>,

    #[command(flatten)]
    azure: AzureArgs,

    /// The operator's own namespace, where it remembers the issuers that the cluster has had. Left
    /// out: that of the operator's pod.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Look after the objects of this namespace only; can be given several times. Left out: after
    /// those of all namespaces.
    #[arg(
        long = "watch-namespace",
        env = "AWI_WATCH_NAMESPACES",
        value_name = "NAME",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,

    /// Only one of several replicas works: the one that holds the Lease `airflow-workload-identity` in
    /// the operator's own namespace.
    #[arg(long, env = "AWI_LEADER_ELECTION", value_parser = FalseyValueParser::new())]
    leader_election: bool,

    /// Try for each ServiceAccount whether Entra takes its token, and report it as the condition
    /// ExchangeVerified. The operator needs the right to create serviceaccounts/token for it.
    #[arg(long, env = "AWI_VERIFY_EXCHANGE", value_parser = FalseyValueParser::new())]
    verify_exchange: bool,

    /// How often a converged object is compared with Azure again.
    #[arg(long, env = "AWI_RESYNC", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    resync: Duration,

    /// Where `/metrics`, `/livez` and `/readyz` are served. Left out: nowhere.
    #[arg(long, env = "AWI_HTTP_ADDRESS", value_name = "IP:PORT")]
    http_address: Option<SocketAddr>,

    /// How log lines look.
    #[arg(long, env = "AWI_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,

    /// OpenTelemetry collector that gets traces, by OTLP over HTTP. Left out: none does.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let collector = args.otlp_endpoint.as_deref().filter(|url| !url.is_empty());
    let traces = telemetry::start(args.log_format, collector)?;
    let result = operate(args).await;
    traces.flush().await;
    result
}

async fn operate(args: Args) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("awi");
    let (cloud, azure) = args.azure.connect()?;
    let config = Config::infer()
        .await
        .context("no Kubernetes cluster: run in a pod with a ServiceAccount, or set KUBECONFIG")?;
    let own = args.namespace.filter(|namespace| !namespace.is_empty());
    let operator = Operator::new(
        Settings {
            namespace: own.unwrap_or_else(|| config.default_namespace.clone()),
            scopes: scopes(args.watch_namespaces),
            issuer: args.issuer,
            audience: cloud.federation_audience,
            verify_exchange: args.verify_exchange,
            resync: args.resync,
            candidate: args.leader_election.then(|| {
                let pod = std::env::var("POD_NAME").unwrap_or_else(|_| OPERATOR.into());
                format!("{pod}_{}", Uuid::new_v4())
            }),
        },
        client(config)?,
        azure,
        &mut registry,
    );
    let stop = stop_signal()?;
    if let Some(address) = args.http_address {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot serve at --http-address {address}"))?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        let health = operator.health().clone();
        tokio::spawn(serve::serve(listener, registry, health));
    }
    tracing::info!(endpoint = %cloud.endpoint, resync = ?args.resync, "started");
    operator.run(stop).await
}

/// The namespaces that are watched: all, unless some are named.
fn scopes(namespaces: Vec<String>) -> Vec<Scope> {
    let named: BTreeSet<String> = namespaces.into_iter().filter(|n| !n.is_empty()).collect();
    if named.is_empty() {
        vec![Scope::Cluster]
    } else {
        named.into_iter().map(Scope::Namespace).collect()
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + Sync + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
