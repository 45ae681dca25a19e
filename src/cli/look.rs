//! What the commands share that only look: the cluster and Azure, as whoever calls them sees both.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

use super::azure::AzureArgs;
use crate::{
    api::OPERATOR,
    azure::{Identities, MaxAge},
    client::client,
    controller::{Scope, WatchErrors, Watches},
    issuers::{self, IssuerHistory},
    mandate::Mandate,
    model::Issuer,
    observe::{IssuerSource, Sources, Stores},
    problem::Problem,
};

/// One look: what was asked just now is not asked again.
pub(super) const MAX_AGE: MaxAge = MaxAge::strictly(Duration::from_secs(600));

/// Where to look, and as whom.
#[derive(Debug, clap::Args)]
#[command(mut_arg("azure_credential", |arg| arg
    .default_value("azure-cli")
    .help("How this command signs in to Azure. It needs the role Reader on the identity")))]
pub(super) struct LookArgs {
    /// The context of the kubeconfig ($KUBECONFIG). Left out: the current one.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,

    /// The namespace. Left out: that of the context.
    #[arg(short, long, value_name = "NAME", help_heading = "Cluster")]
    pub(super) namespace: Option<String>,

    /// The issuer of the cluster's ServiceAccount tokens, byte for byte, as the operator knows it.
    /// Left out: asked of the API server, which tells it to cluster administrators.
    #[arg(long, env = "AWI_ISSUER", value_name = "URL", help_heading = "Cluster")]
    issuer: Option<Issuer>,

    /// The operator's own namespace, where it remembers the issuers that the cluster has had.
    #[arg(long, value_name = "NAME", default_value = OPERATOR, help_heading = "Cluster")]
    operator_namespace: String,

    #[command(flatten, next_help_heading = "Azure")]
    azure: AzureArgs,
}

/// What there is to look at.
pub(super) struct Look {
    pub client: Client,
    /// Where to look, if nothing else says so.
    pub namespace: String,
    pub operator_namespace: String,
    pub identities: Arc<Identities>,
    pub issuer: Result<Issuer, Problem>,
    /// The issuers that the cluster is known to have had.
    known: BTreeSet<Issuer>,
    source: Arc<IssuerSource>,
    remembered: Arc<IssuerHistory>,
    pub audience: String,
    /// A client for what Azure reads from others.
    pub http: reqwest::Client,
    /// Whether the cloud is none of Microsoft's.
    pub is_private_cloud: bool,
}

impl LookArgs {
    /// Connects to the cluster; nothing is asked of Azure yet.
    pub(super) async fn connect(self) -> anyhow::Result<Look> {
        let http = self.azure.http_client()?;
        let is_private_cloud = self.azure.is_custom();
        let (cloud, azure) = self.azure.connect()?;
        // Nobody elects this one, so it cannot write.
        let identities = Arc::new(Identities::new(azure, Arc::new(Mandate::elected())));
        let config = config(self.context).await?;
        let namespace = self.namespace.unwrap_or(config.default_namespace.clone());
        let client = client(config)?;

        let source = Arc::new(IssuerSource::new(self.issuer));
        let issuer = source.get(&client, MAX_AGE.wanted).await;
        let current: BTreeSet<Issuer> = issuer.iter().cloned().collect();
        let remembered = IssuerHistory::new(client.clone(), &self.operator_namespace);
        let (remembered, known) = if let Ok(known) = remembered.all().await {
            (remembered, &known | &current)
        } else {
            // The operator knows at least the one that it writes for.
            let (client, namespace) = (client.clone(), &self.operator_namespace);
            let assumed = IssuerHistory::assumed(client, namespace, current.clone());
            (assumed, current)
        };
        Ok(Look {
            operator_namespace: self.operator_namespace,
            audience: cloud.federation_audience,
            remembered: Arc::new(remembered),
            client,
            namespace,
            identities,
            issuer,
            known,
            source,
            http,
            is_private_cloud,
        })
    }
}

async fn config(context: Option<String>) -> anyhow::Result<Config> {
    if context.is_none() {
        return Config::infer()
            .await
            .context("no Kubernetes cluster: set KUBECONFIG, or --context");
    }
    let kubeconfig = Kubeconfig::read().context("cannot read the kubeconfig")?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// A name that is misspelt must not pass for a namespace in which all is well.
pub(super) fn check_namespace(stores: &Stores, namespace: &str) -> anyhow::Result<()> {
    let found = stores.namespaces.get("", namespace);
    ensure!(found.is_some(), "there is no namespace {namespace}");
    Ok(())
}

impl Look {
    /// Lists what the operator would watch in a namespace.
    pub(super) async fn stores(&self, namespace: &str) -> anyhow::Result<Stores> {
        const LIMIT: Duration = Duration::from_secs(30);
        let scope = Scope::Namespace(namespace.to_owned());
        let watches = Watches::new(
            &self.client,
            &scope,
            &Arc::default(),
            &WatchErrors::default(),
        );
        timeout(LIMIT, watches.filled())
            .await
            .with_context(|| format!("the API server did not answer within {LIMIT:?}"))?
            .map_err(|why| {
                anyhow!("cannot list {why}. docs/commands.md has a Role with what it takes.")
            })
    }

    /// Everything that can be read, with what was listed before.
    pub(super) fn sources(&self, stores: Stores) -> Sources {
        Sources {
            client: self.client.clone(),
            stores,
            identities: self.identities.clone(),
            issuer: self.source.clone(),
            // It makes a token; whoever looks writes nothing, and gets none.
            exchanges: None,
            history: self.remembered.clone(),
            audience: self.audience.clone(),
        }
    }

    /// What the operator may know and this command does not.
    pub(super) fn blind_spot(&self, stores: &Stores) -> Option<String> {
        let former = stores.issuer_on_record_beside(&self.known)?;
        Some(format!(
            "The operator wrote credentials for issuer {former}, which is not known to have been this cluster's: ConfigMap {} in namespace {} cannot be read, or does not hold it. If the operator has another namespace, give it with --operator-namespace; or this plan may leave out what becomes of them.",
            issuers::NAME,
            self.operator_namespace,
        ))
    }
}
