//! What the commands share that only look: the cluster and Azure, as whoever calls them sees both.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

use super::azure::AzureArgs;
use crate::{
    api::OPERATOR,
    azure::Identities,
    controller::{Scope, WatchErrors, Watches},
    issuers::{self, IssuerHistory},
    mandate::Mandate,
    model::Issuer,
    observe::{IssuerSource, Sources, Stores},
    problem::{Problem, headline},
};

/// One look: what was asked just now is not asked again.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);

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
    /// The issuers that the operator remembers.
    pub history: Result<BTreeSet<Issuer>, Problem>,
    source: Arc<IssuerSource>,
    remembered: Arc<IssuerHistory>,
    pub audience: String,
}

impl LookArgs {
    /// Connects to the cluster; nothing is asked of Azure yet.
    pub(super) async fn connect(self) -> anyhow::Result<Look> {
        let (cloud, azure) = self.azure.connect()?;
        // Nobody elects this one, so it cannot write.
        let identities = Arc::new(Identities::new(azure, Arc::new(Mandate::elected())));
        let mut config = config(self.context).await?;
        config.default_retry = false;
        let namespace = self.namespace.unwrap_or(config.default_namespace.clone());
        let client = Client::try_from(config)?;

        let source = Arc::new(IssuerSource::new(self.issuer));
        let issuer = source.get(&client, MAX_AGE).await;
        let remembered = IssuerHistory::new(client.clone(), &self.operator_namespace);
        let history = remembered.all().await;
        let remembered = match &history {
            Ok(_) => remembered,
            // The operator knows at least the one that it writes for.
            Err(_) => IssuerHistory::assumed(
                client.clone(),
                &self.operator_namespace,
                issuer.iter().cloned().collect(),
            ),
        };
        Ok(Look {
            operator_namespace: self.operator_namespace,
            audience: cloud.federation_audience,
            remembered: Arc::new(remembered),
            client,
            namespace,
            identities,
            history,
            source,
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
        let why = match &self.history {
            Err(problem) => headline(&problem.message).to_owned(),
            Ok(issuers) if issuers.is_empty() && stores.wrote_credentials() => {
                format!("there is no ConfigMap {}.", issuers::NAME)
            }
            Ok(_) => return None,
        };
        Some(format!(
            "Which issuers the cluster had before is not known, and so not which of their credentials the operator would delete. In namespace {} (another one: --operator-namespace): {why}",
            self.operator_namespace,
        ))
    }
}
