//! `awi run`: everything that the operator is made of, put together in one place.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::builder::FalseyValueParser;
use futures::FutureExt;
use kube::{Client, Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use uuid::Uuid;

use crate::{
    api::OPERATOR,
    azure::{
        self, AzureClient, Cloud, CloudName, CredentialKind, Identities, InvalidCloud, Overrides,
    },
    controller::{self, Settings},
    leader::{self, Candidate},
    mandate::Mandate,
    metrics,
    model::Issuer,
    observe::IssuerSource,
};

/// Each flag can be given as an environment variable, too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The issuer of the cluster's ServiceAccount tokens, byte for byte. Left out: asked of the
    /// API server.
    #[arg(long, env = "AWI_ISSUER", value_name = "URL")]
    issuer: Option<Issuer>,

    /// The Azure cloud.
    #[arg(long, env = "AWI_CLOUD", value_enum, default_value = "public")]
    cloud: CloudName,

    /// Azure Resource Manager's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_ENDPOINT", value_name = "URL")]
    azure_endpoint: Option<String>,

    /// Entra's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_AUTHORITY", value_name = "URL")]
    azure_authority: Option<String>,

    /// The audience of Azure Resource Manager tokens, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_AUDIENCE", value_name = "URL")]
    azure_audience: Option<String>,

    /// The audience of ServiceAccount tokens that go to Azure, if not the cloud's. It must be
    /// the audience that the Azure workload identity webhook was started with.
    #[arg(long, env = "AWI_FEDERATION_AUDIENCE", value_name = "URI")]
    federation_audience: Option<String>,

    /// Serve Entra applications, too (`spec.identity.application`). The operator needs the Microsoft
    /// Graph permission Application.ReadWrite.OwnedBy for it.
    #[arg(long, env = "AWI_ENTRA_APPLICATIONS", value_parser = FalseyValueParser::new())]
    entra_applications: bool,

    /// Microsoft Graph's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_GRAPH_ENDPOINT", value_name = "URL")]
    azure_graph_endpoint: Option<String>,

    /// How the operator signs in to Azure.
    #[arg(long, env = "AWI_AZURE_CREDENTIAL", value_enum, default_value = "auto")]
    azure_credential: CredentialKind,

    /// PEM file of certificates that are trusted for Azure beside the system's.
    #[arg(long, env = "AWI_EXTRA_CA", value_name = "FILE")]
    extra_ca: Option<PathBuf>,

    /// Longest time that a request to Azure may take.
    #[arg(long, env = "AWI_AZURE_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    azure_timeout: Duration,

    /// The operator's own namespace, where it remembers the issuers that the cluster has had. Left
    /// out: that of the operator's pod.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,

    /// Only one of several replicas works: the one that holds the Lease `airflow-workload-identity` in
    /// the operator's own namespace.
    #[arg(long, env = "AWI_LEADER_ELECTION", value_parser = FalseyValueParser::new())]
    leader_election: bool,

    /// How often a converged object is compared with Azure again.
    #[arg(long, env = "AWI_RESYNC", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    resync: Duration,

    /// Where metrics are served, at `/metrics`. Left out: nowhere.
    #[arg(long, env = "AWI_METRICS_ADDRESS", value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,

    /// How log lines look.
    #[arg(long, env = "AWI_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    start_logging(args.log_format);
    let cloud = Cloud::new(
        args.cloud,
        Overrides {
            endpoint: args.azure_endpoint,
            authority: args.azure_authority,
            audience: args.azure_audience,
            federation_audience: args.federation_audience,
            graph: args.azure_graph_endpoint,
        },
    )?;
    let graph = if args.entra_applications {
        let endpoint = cloud.graph.as_ref();
        Some(endpoint.ok_or(InvalidCloud::Missing("--azure-graph-endpoint"))?)
    } else {
        None
    };
    let transport = azure::transport(args.extra_ca.as_deref(), args.azure_timeout)?;
    let credential = args.azure_credential.build(&cloud, &transport)?;
    let azure = AzureClient::new(&cloud, graph, &transport, &credential);
    let mandate = Arc::new(if args.leader_election {
        Mandate::elected()
    } else {
        Mandate::unlimited()
    });
    let identities = Arc::new(Identities::new(azure, mandate.clone()));

    let mut config = Config::infer()
        .await
        .context("no Kubernetes cluster: run in a pod with a ServiceAccount, or set KUBECONFIG")?;
    // The controller tries again by itself; a client that does, too, holds a pass for minutes.
    config.default_retry = false;
    let own = args.namespace.filter(|namespace| !namespace.is_empty());
    let namespace = own.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;

    let stop = stop_signal()?.boxed().shared();
    if let Some(address) = args.metrics_address {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot serve metrics at --metrics-address {address}"))?;
        tracing::info!(address = %listener.local_addr()?, "metrics");
        // What was not listed for two rounds is of no object any longer.
        let serve = metrics::serve(listener, identities.clone(), args.resync * 2);
        tokio::spawn(serve);
    }
    tracing::info!(endpoint = %cloud.endpoint, resync = ?args.resync, "started");
    let settings = Settings {
        resync: args.resync,
        audience: cloud.federation_audience,
        issuer: IssuerSource::new(args.issuer),
        namespace,
    };
    let mut candidate = args.leader_election.then(|| {
        let pod = std::env::var("POD_NAME").unwrap_or_else(|_| OPERATOR.into());
        let me = format!("{pod}_{}", Uuid::new_v4());
        Candidate::new(client.clone(), &settings.namespace, me, mandate.clone())
    });
    if let Some(candidate) = &mut candidate {
        tokio::select! {
            () = candidate.win() => {}
            () = stop.clone() => return Ok(()),
        }
    }
    let work = controller::run(client, identities, mandate, settings, stop);
    match &mut candidate {
        None => work.await,
        Some(candidate) => {
            let is_done = tokio::select! {
                () = work => true,
                () = candidate.hold() => false,
            };
            // Another replica works now; this one begins anew, knowing nothing.
            anyhow::ensure!(is_done, "lost the Lease {}", leader::NAME);
            candidate.resign().await;
        }
    }
    tracing::info!("stopped");
    Ok(())
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

/// kube logs every failed request as an error; what is worth saying the operator says itself.
const QUIET: &str = "info,kube_client=off,kube_runtime=off";

fn start_logging(format: LogFormat) {
    use tracing_subscriber::{EnvFilter, fmt};
    // `RUST_LOG=` is how a manifest leaves it out; it is not a wish for silence.
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let asked = Some(asked.as_str()).filter(|directives| !directives.trim().is_empty());
    let filter = asked
        .and_then(|directives| EnvFilter::try_new(directives).ok())
        .unwrap_or_else(|| EnvFilter::new(QUIET));
    let subscriber = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

/// A number and a unit: `500ms`, `30s`, `5m`, `1h`. Zero is refused: it would be a hot loop.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "use a number and a unit, for example 30s or 5m")?;
    Duration::try_from(parsed)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(100))
        .ok_or_else(|| "must be at least 100ms".to_owned())
}
