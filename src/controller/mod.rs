//! The loop around observe → plan → apply → status: what triggers a pass, and when the next one
//! comes.

mod events;
mod reconcile;
mod retry;
mod watches;

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, channel::mpsc};
use kube::{
    Client,
    runtime::{
        controller::{Config, Controller},
        events::{Recorder, Reporter},
    },
};

use crate::{
    api::OPERATOR,
    apply::Sinks,
    azure::Identities,
    issuers::IssuerHistory,
    mandate::Mandate,
    observe::{IssuerSource, Sources, Stores},
};
use reconcile::Context;
use watches::{Refs, Watches};

/// What the loop needs to know.
pub struct Settings {
    /// How often a converged object is looked at again.
    pub resync: Duration,
    /// The audience of federated credentials.
    pub audience: String,
    /// Who signs the cluster's ServiceAccount tokens.
    pub issuer: IssuerSource,
    /// The operator's own namespace.
    pub namespace: String,
}

/// Runs until `stop` resolves, then lets the passes under way finish.
pub async fn run(
    client: Client,
    identities: Arc<Identities>,
    mandate: Arc<Mandate>,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let watches = Watches::new(&client);
    let stores = watches.stores.clone();
    let history = Arc::new(IssuerHistory::new(client.clone(), &settings.namespace));
    let (wake, woken) = mpsc::unbounded();
    let reporter = Reporter {
        controller: OPERATOR.into(),
        instance: std::env::var("POD_NAME").ok(),
    };
    let context = Context::new(
        Sources {
            client: client.clone(),
            stores: stores.clone(),
            identities: identities.clone(),
            issuer: settings.issuer,
            history: history.clone(),
            audience: settings.audience,
        },
        Sinks {
            client: client.clone(),
            stores: stores.clone(),
            identities,
            history,
            mandate: mandate.clone(),
        },
        Recorder::new(client, reporter),
        settings.resync,
        wake,
    );

    Controller::for_stream(watches.objects, stores.objects.clone())
        .with_config(Config::default().debounce(Duration::from_millis(50)))
        .watches_stream(watches.grants, on(&stores, |s, _| watches::all(s)))
        .watches_stream(watches.namespaces, on(&stores, watches::of_namespace))
        .watches_stream(watches.accounts, on(&stores, watches::of_account))
        .watches_stream(watches.secrets, on(&stores, watches::of_secret))
        .watches_stream(watches.deployments, on(&stores, watches::of_workload))
        .watches_stream(watches.stateful_sets, on(&stores, watches::of_workload))
        .watches_stream(watches.configs, on(&stores, watches::of_config))
        .reconcile_on(woken)
        .graceful_shutdown_on(async move {
            stop.await;
            mandate.stop();
        })
        .run(
            reconcile::reconcile,
            reconcile::never_fails,
            Arc::new(context),
        )
        .for_each(|result| async {
            // Passes have no errors, and watches report their own.
            if let Err(error) = result {
                tracing::debug!("{error}");
            }
        })
        .await;
}

/// The mapper of one watch: which objects an event of it concerns.
fn on<K: 'static>(
    stores: &Stores,
    map: fn(&Stores, &K) -> Refs,
) -> impl Fn(K) -> Refs + Send + 'static {
    let stores = stores.clone();
    move |event| map(&stores, &event)
}
