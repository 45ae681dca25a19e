//! What is watched, in which scope.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::de::DeserializeOwned;

use super::patience::Patience;
use crate::{
    api::AzureIdentityGrant,
    client::WATCH,
    health::Health,
    observe::{EXECUTOR_SELECTORS, Guarded, Objects, RUNNING, Stores, Stub, Watched},
    problem::chain,
};

type Events<K> = BoxStream<'static, K>;

/// Objects of one answer to a LIST: each is in memory three times while it is read, as text and in two forms.
const PAGE: u32 = 100;

/// What one controller looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// One namespace; and of the kinds that have none, no more than it takes.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Watches that broke and were resumed, by kind.
#[derive(Clone, Debug, Default)]
pub struct WatchErrors(Family<ByKind, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: String,
}

impl WatchErrors {
    /// Makes them part of what is measured.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watch_errors",
            "Watches that broke and were resumed",
            self.0.clone(),
        );
    }
}

/// What was said last of each watch that stays broken, by its name: each news once.
#[derive(Clone, Debug, Default)]
struct Broken(Arc<Mutex<BTreeMap<String, String>>>);

impl Broken {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All watches of one scope: the stores that they fill, and the streams that fill them when polled.
pub struct Watches {
    /// What they fill.
    pub stores: Stores,
    /// What the controller of this scope is called.
    pub(super) controller: String,
    /// What has to be listed before the stores are filled.
    pub(super) names: Vec<String>,
    broken: Broken,
    pub(super) objects: Events<Stub>,
    pub(super) grants: Events<Guarded<AzureIdentityGrant>>,
    pub(super) namespaces: Events<PartialObjectMeta<Namespace>>,
    pub(super) accounts: Events<PartialObjectMeta<ServiceAccount>>,
    pub(super) secrets: Events<PartialObjectMeta<Secret>>,
    pub(super) deployments: Events<Deployment>,
    pub(super) stateful_sets: Events<StatefulSet>,
    pub(super) configs: Events<ConfigMap>,
    pub(super) pods: Events<Pod>,
}

impl Watches {
    /// The watches of a scope. Nothing is asked for before [`run`](super::run) polls them.
    #[must_use]
    pub fn new(client: &Client, scope: &Scope, health: &Arc<Health>, errors: &WatchErrors) -> Self {
        // Not from an API server that lags behind: what it does not know yet would be taken for gone.
        let everything = watcher::Config::default().timeout(WATCH).page_size(PAGE);
        let running = everything.clone().fields(RUNNING);
        let named = match scope {
            Scope::Cluster => everything.clone(),
            // The only one that a role can grant by name.
            Scope::Namespace(name) => everything.clone().fields(&format!("metadata.name={name}")),
        };

        let mut all = Builder {
            scope,
            health,
            errors,
            names: Vec::new(),
            broken: Broken::default(),
        };
        let controller = all.name("controller", None);
        let grants = Api::all(client.clone());
        let namespaces = Api::all(client.clone());
        let (objects, keep) = Objects::watched();
        let object_events = all.watch(scope.api(client), everything.clone(), keep);
        let (grants, grant_events) = all.keep(grants, everything.clone(), Clone::clone);
        let labels = |namespace: &PartialObjectMeta<Namespace>| namespace.labels().clone();
        let (namespaces, namespace_events) = all.keep(namespaces, named, labels);
        let (accounts, account_events) = all.keep(
            scope.api(client),
            everything.clone(),
            |kept: &PartialObjectMeta<ServiceAccount>| kept.into(),
        );
        let (secrets, secret_events) = all.keep(
            scope.api(client),
            everything.clone(),
            |kept: &PartialObjectMeta<Secret>| kept.into(),
        );
        let (deployments, deployment_events) = all.keep(
            scope.api(client),
            everything.clone(),
            |kept: &Deployment| kept.into(),
        );
        let (stateful_sets, stateful_set_events) = all.keep(
            scope.api(client),
            everything.clone(),
            |kept: &StatefulSet| kept.into(),
        );
        let (pods, pod_events) = all.keep(scope.api(client), running, |kept: &Pod| kept.into());
        let executors = EXECUTOR_SELECTORS.map(|selector| {
            let labelled = everything.clone().labels(selector);
            all.keep(scope.api(client), labelled, |kept: &ConfigMap| kept.into())
        });
        let (configs, config_events): (Vec<_>, Vec<_>) = executors.into_iter().unzip();
        // Not for our own status writes; but a generation-only predicate would swallow "the
        // finalizer was added". The other kinds have no generation that tells of a deletion.
        let spec = predicates::generation
            .combine(predicates::finalizers)
            .combine(predicates::annotations);
        Self {
            controller,
            names: all.names,
            broken: all.broken,
            stores: Stores {
                objects,
                grants: grants.into(),
                namespaces,
                accounts,
                secrets,
                deployments,
                stateful_sets,
                configs,
                pods,
            },
            objects: object_events
                .map(Ok)
                .predicate_filter(spec, PredicateConfig::default())
                .filter_map(|object| future::ready(object.ok()))
                .map(|object| Objects::stub(&object))
                .boxed(),
            grants: grant_events,
            namespaces: namespace_events,
            accounts: account_events,
            secrets: secret_events,
            deployments: deployment_events,
            stateful_sets: stateful_set_events,
            configs: stream::select_all(config_events).boxed(),
            pods: pod_events,
        }
    }

    /// Fills the stores once, for who looks only once, and lets go of the watches.
    ///
    /// # Errors
    /// The first of them that breaks: which, and why.
    pub async fn filled(self) -> Result<Stores, String> {
        let (stores, broken) = (self.stores, self.broken);
        let mut events = stream::select_all([
            self.objects.map(drop).boxed(),
            self.grants.map(drop).boxed(),
            self.namespaces.map(drop).boxed(),
            self.accounts.map(drop).boxed(),
            self.secrets.map(drop).boxed(),
            self.deployments.map(drop).boxed(),
            self.stateful_sets.map(drop).boxed(),
            self.configs.map(drop).boxed(),
            self.pods.map(drop).boxed(),
        ]);
        {
            let mut ready = pin!(stores.ready());
            poll_fn(|context| {
                while let Poll::Ready(Some(())) = events.poll_next_unpin(context) {}
                match broken.all().first_key_value() {
                    Some((name, why)) => Poll::Ready(Err(format!("{name}: {why}"))),
                    None => ready.as_mut().poll(context).map(Ok),
                }
            })
            .await?;
        }
        Ok(stores)
    }
}

/// What can be watched.
trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// What all watches of a scope share.
struct Builder<'a> {
    scope: &'a Scope,
    health: &'a Arc<Health>,
    errors: &'a WatchErrors,
    names: Vec<String>,
    broken: Broken,
}

impl Builder<'_> {
    /// What is kept of all objects of a kind, and the stream that fills it.
    fn keep<K, T>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        parse: impl Fn(&K) -> T + Send + 'static,
    ) -> (Watched<T>, Events<K>)
    where
        K: Kind,
        T: Send + Sync + 'static,
    {
        let watched = Watched::default();
        let kept = watched.clone();
        let events = self.watch(api, config, move |event| kept.apply(event, &parse));
        (watched, events)
    }

    /// The stream of all objects that came, changed or went, which `keep` is told of before. A watch
    /// that breaks is resumed here; its error goes no further.
    fn watch<K: Kind>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        mut keep: impl FnMut(&watcher::Event<K>) + Send + 'static,
    ) -> Events<K> {
        let kind = K::plural(&()).into_owned();
        let name = self.name(&kind, config.label_selector.as_deref());
        self.names.push(name.clone());
        let (listed, pending) = (self.health.clone(), self.health.clone());
        let listed_name = name.clone();
        let errors = self.errors.0.get_or_create_owned(&ByKind { kind });
        let (well, broken) = (self.broken.clone(), self.broken.clone());

        let events = watcher(api, config)
            .backoff(Patience::default())
            .inspect_ok(move |event| {
                keep(event);
                if matches!(event, watcher::Event::InitDone) {
                    listed.done(&listed_name);
                    well.all().remove(&listed_name);
                }
            })
            .touched_objects()
            .inspect_err(move |error| {
                let text = describe(error);
                pending.explain(&name, &text);
                errors.inc();
                let before = broken.all().insert(name.clone(), text.clone());
                if before.as_ref() != Some(&text) {
                    tracing::warn!("the watch of {name} broke and is resumed: {text}");
                }
            })
            .filter_map(|event| future::ready(event.ok()));
        events.boxed()
    }

    fn name(&self, kind: &str, selector: Option<&str>) -> String {
        let selected = selector.map(|selector| format!(" with {selector}"));
        let there = match self.scope {
            Scope::Cluster => None,
            Scope::Namespace(namespace) => Some(format!(" for namespace {namespace}")),
        };
        let more = |part: Option<String>| part.unwrap_or_default();
        format!("{kind}{}{}", more(selected), more(there))
    }
}

fn describe(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => match status.code {
            404 => {
                "not served; are the CRDs installed? With Helm crds.enabled=true, else kubectl apply --server-side -k crds/".into()
            }
            code => format!("{code} {}", status.message),
        },
        other => chain(other),
    }
}
