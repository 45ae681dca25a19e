//! The loop around observe → plan → apply → status: what triggers a pass, and when the next one
//! comes.

mod events;
mod reconcile;
mod retry;
mod watches;

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, channel::mpsc};
use kube::{
    Client, ResourceExt,
    runtime::{
        controller::{Config, Controller},
        events::{Recorder, Reporter},
    },
};

use crate::{
    api::OPERATOR,
    apply::Sinks,
    azure::ArmClient,
    azure::Identities,
    observe::{IssuerSource, Sources},
};
use reconcile::Context;
use watches::Watches;

/// What the loop needs to know.
pub struct Settings {
    /// How often a converged object is looked at again.
    pub resync: Duration,
    /// The audience of federated credentials.
    pub audience: String,
    /// Who signs the cluster's ServiceAccount tokens.
    pub issuer: IssuerSource,
}

/// Runs until `stop` resolves, then lets the passes under way finish.
pub async fn run(
    client: Client,
    arm: ArmClient,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let watches = Watches::new(&client);
    let stores = watches.stores.clone();
    let identities = Arc::new(Identities::new(arm));
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
            audience: settings.audience,
        },
        Sinks {
            client: client.clone(),
            identities,
        },
        Recorder::new(client, reporter),
        settings.resync,
        wake,
    );

    let on = |stores: &crate::observe::Stores| stores.clone();
    let (s1, s2, s3, s4, s5, s6) = (
        on(&stores),
        on(&stores),
        on(&stores),
        on(&stores),
        on(&stores),
        on(&stores),
    );
    Controller::for_stream(watches.objects, stores.objects.clone())
        .with_config(Config::default().debounce(Duration::from_millis(50)))
        .watches_stream(watches.grants, move |_| watches::all(&s1))
        .watches_stream(watches.namespaces, move |ns| {
            watches::in_namespace(&s2, &ns.name_any())
        })
        .watches_stream(watches.accounts, move |account| {
            watches::of_account(&s3, &account)
        })
        .watches_stream(watches.secrets, move |secret| {
            watches::of_secret(&s4, &secret)
        })
        .watches_stream(watches.deployments, move |workload| {
            watches::of_workload(&s5, &workload)
        })
        .watches_stream(watches.stateful_sets, move |workload| {
            watches::of_workload(&s6, &workload)
        })
        .reconcile_on(woken)
        .graceful_shutdown_on(stop)
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
