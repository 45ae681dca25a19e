//! Everything that the operator is made of, put together in one place.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use kube::Client;
use prometheus_client::registry::Registry;

use crate::{
    azure::{AzureClient, Identities},
    controller::{self, Passes, Scope, Shared, WatchErrors, Watches},
    health::Health,
    issuers::IssuerHistory,
    leader::{self, Candidate},
    mandate::Mandate,
    metrics,
    model::Issuer,
    observe::{Exchanges, IssuerSource},
};

/// What an installation decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace.
    pub namespace: String,
    /// Where it looks after objects.
    pub scopes: Vec<Scope>,
    /// The issuer of the cluster's tokens; none: asked of the API server.
    pub issuer: Option<Issuer>,
    /// The audience of federated credentials.
    pub audience: String,
    /// Whether it tries if Entra takes the accounts' tokens.
    pub verify_exchange: bool,
    /// How often a converged object is looked at again.
    pub resync: Duration,
    /// This replica's name, which no other has; none if there is no other, and no election.
    pub candidate: Option<String>,
}

/// The operator, not yet running.
pub struct Operator {
    shared: Shared,
    scopes: Vec<Watches>,
    candidate: Option<Candidate>,
}

impl Operator {
    /// An operator of one cluster and one Azure. Nothing is asked of either before it runs.
    #[must_use]
    pub fn new(
        settings: Settings,
        client: Client,
        azure: AzureClient,
        registry: &mut Registry,
    ) -> Self {
        azure.calls().register(registry);
        let mandate = Arc::new(if settings.candidate.is_some() {
            Mandate::elected()
        } else {
            Mandate::unlimited()
        });
        let exchanges = settings
            .verify_exchange
            .then(|| Arc::new(Exchanges::new(azure.clone())));
        let identities = Arc::new(Identities::new(azure, mandate.clone()));
        let health = Arc::new(Health::default());
        let passes = Arc::new(Passes::default());
        passes.register(registry);
        let watch_errors = WatchErrors::default();
        watch_errors.register(registry);
        let scopes: Vec<Watches> = settings
            .scopes
            .iter()
            .map(|scope| Watches::new(&client, scope, &health, &watch_errors))
            .collect();
        let measured = metrics::Sources {
            mandate: mandate.clone(),
            stores: scopes
                .iter()
                .map(|watches| watches.stores.clone())
                .collect(),
            identities: identities.clone(),
            // What was not listed for two rounds is of no object any longer.
            max_age: settings.resync * 2,
        };
        measured.register(registry);
        let namespace = &settings.namespace;
        let candidate = settings.candidate.map(|me| {
            let (mandate, health) = (mandate.clone(), health.clone());
            Candidate::new(client.clone(), namespace, me, mandate, health)
        });
        let shared = Shared {
            history: Arc::new(IssuerHistory::new(client.clone(), namespace)),
            client,
            identities,
            mandate,
            issuer: Arc::new(IssuerSource::new(settings.issuer)),
            exchanges,
            passes,
            health,
            audience: settings.audience,
            resync: settings.resync,
        };
        Self {
            shared,
            scopes,
            candidate,
        }
    }

    /// Whether it is ready, and alive.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.shared.health
    }

    /// Works, once it leads, until `stop` resolves; then lets what is under way finish.
    ///
    /// # Errors
    /// Another replica leads now; this one has to begin anew, knowing nothing.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let stop = stop.boxed().shared();
        if let Some(candidate) = &mut self.candidate {
            tokio::select! {
                biased;
                () = candidate.win() => {}
                () = stop.clone() => {
                    // It may have been won just now.
                    candidate.resign().await;
                    return Ok(());
                }
            }
        }
        let mut work = Box::pin(controller::run(&self.shared, self.scopes, stop));
        match &mut self.candidate {
            None => work.await,
            Some(candidate) => {
                let is_done = tokio::select! {
                    biased;
                    () = &mut work => true,
                    () = candidate.hold() => false,
                };
                anyhow::ensure!(is_done, "lost the Lease {}", leader::NAME);
                candidate.resign().await;
            }
        }
        tracing::info!("stopped");
        Ok(())
    }
}
