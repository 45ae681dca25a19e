//! What is watched, and which objects an event concerns.

use std::time::Duration;

use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, PodSpec, PodTemplateSpec, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates, reflector,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    api::{
        AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, AzureIdentityGrant,
        CLIENT_ID_ANNOTATION, MANAGED_BY_LABEL, OPERATOR, TENANT_ID_ANNOTATION,
    },
    observe::{EXECUTOR_SELECTORS, POD_TEMPLATES, Stores, Workload},
};

/// Our kind; an object that does not parse does not stop the watch.
pub(super) type Object = DeserializeGuard<AirflowWorkloadIdentity>;
pub(super) type Refs = Vec<ObjectRef<Object>>;
type Events<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// All watches: the stores that they fill, and the streams that fill them when polled.
pub(super) struct Watches {
    pub stores: Stores,
    pub objects: Events<Object>,
    pub grants: Events<DeserializeGuard<AzureIdentityGrant>>,
    pub namespaces: Events<PartialObjectMeta<Namespace>>,
    pub accounts: Events<PartialObjectMeta<ServiceAccount>>,
    pub secrets: Events<PartialObjectMeta<Secret>>,
    pub deployments: Events<Deployment>,
    pub stateful_sets: Events<StatefulSet>,
    pub configs: Events<ConfigMap>,
}

impl Watches {
    pub fn new(client: &Client) -> Self {
        let everything = watcher::Config::default().any_semantic();
        let ours = everything
            .clone()
            .labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));

        // What was written and what is granted is not read from an API server that lags behind.
        let latest = watcher::Config::default();
        let (objects, object_events) = watch::<Object>(client, latest.clone(), |_| ());
        let (grants, grant_events) = watch(client, latest, |_| ());
        let (namespaces, namespace_events) = watch(client, everything.clone(), trim_metadata);
        let (accounts, account_events) = watch(client, everything.clone(), trim_account);
        let (secrets, secret_events) = watch(client, ours, |_| ());
        let (deployments, deployment_events) =
            watch(client, everything.clone(), |deployment: &mut Deployment| {
                deployment.status = None;
                trim(
                    &mut deployment.metadata,
                    deployment.spec.as_mut().map(|spec| &mut spec.template),
                );
            });
        let (stateful_sets, stateful_set_events) =
            watch(client, everything.clone(), |set: &mut StatefulSet| {
                set.status = None;
                trim(
                    &mut set.metadata,
                    set.spec.as_mut().map(|spec| &mut spec.template),
                );
            });
        let executors = EXECUTOR_SELECTORS
            .map(|selector| watch(client, everything.clone().labels(selector), trim_config));
        let (configs, config_events): (Vec<_>, Vec<_>) = executors.into_iter().unzip();
        // Not for our own status writes; but a generation-only predicate would swallow "the
        // finalizer was added". The other kinds have no generation that tells of a deletion.
        let spec = predicates::generation
            .combine(predicates::finalizers)
            .combine(predicates::annotations);
        Self {
            stores: Stores {
                objects,
                grants,
                namespaces,
                accounts,
                secrets,
                deployments,
                stateful_sets,
                configs,
            },
            objects: object_events
                .predicate_filter(spec, PredicateConfig::default())
                .boxed(),
            grants: grant_events,
            namespaces: namespace_events,
            accounts: account_events,
            secrets: secret_events,
            deployments: deployment_events,
            stateful_sets: stateful_set_events,
            configs: stream::select_all(config_events).boxed(),
        }
    }
}

/// How soon a broken watch tries again: sooner than kube's default, which lets up to a minute
/// pass after an outage; there are only a handful of watches.
fn backoff() -> watcher::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(8))
        .without_max_times()
        .with_jitter()
        .into()
}

/// A store, and the stream of all objects that came, changed or went. A watch that breaks is
/// resumed here; its error goes no further, because one error makes the controller hold back all
/// of its triggers for up to a minute.
fn watch<K>(
    client: &Client,
    config: watcher::Config,
    trim: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, Events<K>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), config)
        .backoff(backoff())
        .modify(move |object| trim(object))
        .reflect(writer)
        .touched_objects()
        .inspect_err(report)
        .filter(|event| future::ready(event.is_ok()));
    (store, events.boxed())
}

fn report(error: &watcher::Error) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let is_not_found = matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_not_found()
    );
    if is_not_found {
        text.push_str(". Are the CRDs installed? kubectl apply -f crds/");
    }
    tracing::warn!("a watch broke and is resumed: {text}");
}

/// Objects that a grant may concern: it may name their namespace now, or have named it before.
pub(super) fn all(stores: &Stores) -> Refs {
    stores.matching(|_| true)
}

pub(super) fn of_workload<K>(stores: &Stores, workload: &K) -> Refs
where
    K: ResourceExt,
    Workload: for<'a> From<&'a K>,
{
    let namespace = workload.namespace();
    let workload = Workload::from(workload);
    stores.matching(|object| object.namespace() == namespace && workload.concerns(object))
}

pub(super) fn of_config(stores: &Stores, config: &ConfigMap) -> Refs {
    in_namespace(stores, &config.namespace().unwrap_or_default())
}

pub(super) fn of_namespace(stores: &Stores, namespace: &PartialObjectMeta<Namespace>) -> Refs {
    in_namespace(stores, &namespace.name_any())
}

fn in_namespace(stores: &Stores, namespace: &str) -> Refs {
    stores.matching(|object| object.namespace().as_deref() == Some(namespace))
}

/// Objects that find the account now, or that had it before.
pub(super) fn of_account(stores: &Stores, account: &PartialObjectMeta<ServiceAccount>) -> Refs {
    let namespace = account.namespace().unwrap_or_default();
    let name = account.name_any();
    stores.matching(|object| {
        let had = |status: &AirflowWorkloadIdentityStatus| {
            status
                .service_accounts
                .iter()
                .any(|before| before.name == name)
        };
        object.namespace().as_deref() == Some(&namespace)
            && (object.status.as_ref().is_some_and(had)
                || stores
                    .discover(&namespace, object)
                    .accounts
                    .iter()
                    .any(|found| found.name == name))
    })
}

pub(super) fn of_secret(stores: &Stores, secret: &PartialObjectMeta<Secret>) -> Refs {
    let owners = secret.owner_references();
    stores.matching(|object| {
        owners
            .iter()
            .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
    })
}

fn trim_metadata<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().annotations = None;
}

/// Keeps the pod template of the KubernetesExecutor.
fn trim_config(config: &mut ConfigMap) {
    trim_metadata(config);
    config.binary_data = None;
    if let Some(data) = &mut config.data {
        data.retain(|key, _| POD_TEMPLATES.contains(&key.as_str()));
    }
}

/// Keeps what says who owns our two annotations.
fn trim_account(account: &mut PartialObjectMeta<ServiceAccount>) {
    let ours = |key: &str| key == CLIENT_ID_ANNOTATION || key == TENANT_ID_ANNOTATION;
    let metadata = account.meta_mut();
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| ours(key));
    }
    if let Some(entries) = &mut metadata.managed_fields {
        entries.retain(|entry| {
            let fields = entry
                .fields_v1
                .as_ref()
                .map(|f| &f.0["f:metadata"]["f:annotations"]);
            fields
                .and_then(|fields| fields.as_object())
                .is_some_and(|fields| {
                    fields
                        .keys()
                        .any(|key| key.strip_prefix("f:").is_some_and(ours))
                })
        });
    }
}

/// Keeps a workload's labels and the account of its pods.
fn trim(metadata: &mut kube::api::ObjectMeta, template: Option<&mut PodTemplateSpec>) {
    metadata.managed_fields = None;
    metadata.annotations = None;
    if let Some(template) = template {
        let account = template
            .spec
            .take()
            .and_then(|spec| spec.service_account_name);
        *template = PodTemplateSpec {
            spec: Some(PodSpec {
                service_account_name: account,
                ..PodSpec::default()
            }),
            metadata: None,
        };
    }
}
