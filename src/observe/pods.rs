//! The running pods of the accounts, by what their specs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, Pod as KubernetesPod, PodSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt;

use crate::api::{
    CLIENT_ID_VARIABLE, CONNECTIONS_ANNOTATIONS, TOKEN_FILE_VARIABLE, USE_LABEL,
    connections_annotation,
};

/// A pod that runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The value of the label that the Azure webhook goes by.
    pub label: Option<String>,
    /// The connections that it started with, if the admission policy said so.
    pub connections: Option<String>,
    /// Its main container, in which Airflow runs.
    pub container: PodContainer,
    /// Whether the Azure webhook was told to leave that container out.
    pub is_skipped: bool,
    /// What made it, if that can be restarted.
    pub owner: Option<PodOwner>,
    /// The uid of the controller in its metadata; whoever makes a pod can write anything there.
    pub owner_uid: Option<String>,
}

/// A container, as far as it tells what it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodContainer {
    /// Its name.
    pub name: String,
    /// The audience of the token that the variable of the webhook leads to.
    pub audience: Option<String>,
    /// The client ID in its environment.
    pub client_id: Option<String>,
    /// The Secrets that it takes variables from.
    pub secrets: BTreeSet<String>,
}

/// What makes pods and can be restarted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodOwner {
    /// The Deployment of this name.
    Deployment(String),
    /// The StatefulSet of this name.
    StatefulSet(String),
    /// The DaemonSet of this name. None is Airflow's own, and none is watched.
    DaemonSet(String),
}

/// As kubectl takes it: `deployment/scheduler`.
impl fmt::Display for PodOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment(name) => write!(f, "deployment/{name}"),
            Self::StatefulSet(name) => write!(f, "statefulset/{name}"),
            Self::DaemonSet(name) => write!(f, "daemonset/{name}"),
        }
    }
}

/// A workload as far as a restart concerns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restartable {
    /// Keeps the restart from another one of that name.
    pub uid: String,
    /// The account that its pods run under.
    pub account: String,
    /// For which change the object restarted it last.
    pub restarted_for: Option<String>,
}

/// Names the main container of a pod; else it is the first. Sidecars that a mesh puts before it set it.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-default-container>
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
/// Names containers that the Azure webhook leaves out, between semicolons.
/// <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>
const SKIP_ANNOTATION: &str = "azure.workload.identity/skip-containers";

impl Restartable {
    /// Whether it may have made this pod of the account: of what a pod says of its owner, the API
    /// server checks nothing. A StatefulSet makes its pods itself; a Deployment by ReplicaSets, which
    /// are not looked at.
    #[must_use]
    pub fn made(&self, owner: &PodOwner, pod: &Pod, account: &str) -> bool {
        let is_it = match owner {
            PodOwner::Deployment(_) => true,
            PodOwner::StatefulSet(_) | PodOwner::DaemonSet(_) => {
                pod.owner_uid.as_ref() == Some(&self.uid)
            }
        };
        is_it && self.account == account
    }
}

/// What is kept of every pod that has not ended.
#[derive(Clone, Debug)]
pub struct WatchedPod {
    /// The ServiceAccount that it runs under.
    pub account: String,
    /// Whether it is on its way out.
    pub is_ending: bool,
    pod: Pod,
    /// What the admission policy said of the connections that it started with, by annotation.
    connections: BTreeMap<String, String>,
}

/// Those that have not ended, as a field selector.
pub const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

impl From<&KubernetesPod> for WatchedPod {
    fn from(pod: &KubernetesPod) -> Self {
        let spec = pod.spec.as_ref();
        let connections = pod.annotations().iter();
        Self {
            account: spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_default(),
            is_ending: pod.metadata.deletion_timestamp.is_some(),
            pod: Pod::of(pod),
            connections: connections
                .filter(|(key, _)| key.starts_with(CONNECTIONS_ANNOTATIONS))
                .map(|(key, checksum)| (key.clone(), checksum.clone()))
                .collect(),
        }
    }
}

impl WatchedPod {
    /// What it says to `object`.
    pub(super) fn seen_by(&self, object: &str) -> Pod {
        Pod {
            connections: self
                .connections
                .get(&connections_annotation(object))
                .cloned(),
            ..self.pod.clone()
        }
    }
}

impl Pod {
    fn of(pod: &KubernetesPod) -> Self {
        let annotation = |key: &str| pod.annotations().get(key).map(String::as_str);
        let container = pod.spec.as_ref().zip(main_container(pod));
        let container = container.map(|(spec, container)| described(spec, container));
        let container = container.unwrap_or_default();
        let skipped = annotation(SKIP_ANNOTATION).unwrap_or_default();
        Self {
            name: pod.name_any(),
            created: pod
                .creation_timestamp()
                .map_or(Timestamp::MIN, |time| time.0),
            label: pod.labels().get(USE_LABEL).cloned(),
            connections: None,
            is_skipped: skipped.split(';').any(|name| name.trim() == container.name),
            container,
            owner: owner(pod),
            owner_uid: controller(pod).map(|owner| owner.uid.clone()),
        }
    }
}

/// The container in which Airflow runs.
#[must_use]
pub fn main_container(pod: &KubernetesPod) -> Option<&Container> {
    let containers = pod.spec.as_ref()?.containers.as_slice();
    let main = pod.annotations().get(DEFAULT_CONTAINER_ANNOTATION);
    let named = containers.iter().find(|c| Some(&c.name) == main);
    named.or_else(|| containers.first())
}

fn described(spec: &PodSpec, container: &Container) -> PodContainer {
    let all = container.env_from.iter().flatten();
    let all = all.filter_map(|source| Some(source.secret_ref.as_ref()?.name.clone()));
    let variables = container.env.iter().flatten();
    let single = variables.filter_map(|variable| {
        let source = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some(source.name.clone())
    });
    PodContainer {
        name: container.name.clone(),
        audience: audience(spec, container),
        client_id: variable(container, CLIENT_ID_VARIABLE).map(str::to_owned),
        secrets: all.chain(single).collect(),
    }
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let variables = container.env.iter().flatten();
    let mut named = variables.filter(|variable| variable.name == name);
    named.next_back()?.value.as_deref()
}

/// The audience of the projected token that the variable points into. The webhook's path is its own
/// affair: it was another one before version 1.6.
fn audience(spec: &PodSpec, container: &Container) -> Option<String> {
    let file = variable(container, TOKEN_FILE_VARIABLE)?;
    let mounts = container.volume_mounts.iter().flatten();
    let mut mounted = mounts.filter_map(|mount| {
        let rest = file.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
        Some((&mount.name, rest.strip_prefix('/')?))
    });
    mounted.find_map(|(volume, path)| {
        let volumes = spec.volumes.iter().flatten();
        let projected = volumes
            .filter(|candidate| candidate.name == *volume)
            .find_map(|volume| volume.projected.as_ref())?;
        let sources = projected.sources.iter().flatten();
        let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
        tokens.find(|token| token.path == path)?.audience.clone()
    })
}

/// A ReplicaSet's name is that of its Deployment and the hash in the pod's label.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label>
fn owner(pod: &KubernetesPod) -> Option<PodOwner> {
    let owner = controller(pod)?;
    // Others have kinds of the same names.
    if owner.api_version != "apps/v1" {
        return None;
    }
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.labels().get("pod-template-hash")?;
            let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some(PodOwner::Deployment(name.to_owned()))
        }
        "StatefulSet" => Some(PodOwner::StatefulSet(owner.name.clone())),
        "DaemonSet" => Some(PodOwner::DaemonSet(owner.name.clone())),
        _ => None,
    }
}

fn controller(pod: &KubernetesPod) -> Option<&OwnerReference> {
    let mut owners = pod.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true))
}
