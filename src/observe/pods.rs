//! The running pods of the accounts, by what their specs say. They are not watched, and not kept: a
//! page of them is read, and of each pod only this is.

use std::{collections::BTreeMap, fmt};

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod as KubernetesPod, PodSpec};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::Account;
use crate::{
    api::{CLIENT_ID_VARIABLE, TOKEN_FILE_VARIABLE, USE_LABEL, connections_annotation},
    problem::{Problem, bounded},
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
    /// Its containers that run Airflow.
    pub containers: Vec<PodContainer>,
    /// What made it, if that can be restarted.
    pub owner: Option<PodOwner>,
}

/// A container, as far as it tells what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    /// Its name.
    pub name: String,
    /// The audience of the token that the variable of the webhook leads to.
    pub audience: Option<String>,
    /// The client ID in its environment.
    pub client_id: Option<String>,
    /// The Secrets that it takes all variables from.
    pub secrets: Vec<String>,
}

/// What makes pods and can be restarted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodOwner {
    /// The Deployment of this name.
    Deployment(String),
    /// The StatefulSet of this name.
    StatefulSet(String),
}

impl PodOwner {
    /// The kind, and the name.
    #[must_use]
    pub fn kind_and_name(&self) -> (&'static str, &str) {
        match self {
            Self::Deployment(name) => ("Deployment", name),
            Self::StatefulSet(name) => ("StatefulSet", name),
        }
    }
}

/// As kubectl takes it: `deployment/scheduler`.
impl fmt::Display for PodOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment(name) => write!(f, "deployment/{name}"),
            Self::StatefulSet(name) => write!(f, "statefulset/{name}"),
        }
    }
}

/// A workload as far as a restart concerns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restartable {
    /// Keeps the restart from another one of that name.
    pub uid: String,
    /// For which change the object restarted it last.
    pub restarted_for: Option<String>,
}

/// Most pods in one answer of the API server.
const PAGE: u32 = 100;

/// The pods of each of these accounts that have not ended; those that are being deleted are on their
/// way out.
pub(super) async fn observe(
    client: &Client,
    namespace: &str,
    object: &str,
    accounts: &[Account],
) -> Result<BTreeMap<String, Vec<Pod>>, Problem> {
    let api: Api<KubernetesPod> = Api::namespaced(client.clone(), namespace);
    let lists = accounts
        .iter()
        .map(|account| of_account(&api, object, &account.name));
    let pods = try_join_all(lists).await?;
    let names = accounts.iter().map(|account| account.name.clone());
    Ok(names.zip(pods).collect())
}

async fn of_account(
    api: &Api<KubernetesPod>,
    object: &str,
    account: &str,
) -> Result<Vec<Pod>, Problem> {
    let selected =
        format!("spec.serviceAccountName={account},status.phase!=Succeeded,status.phase!=Failed");
    let mut params = ListParams::default().fields(&selected).limit(PAGE);
    let mut pods = Vec::new();
    loop {
        let page = bounded(api.list(&params)).await.map_err(|error| {
            Problem::cluster(
                &format!("cannot list the pods of account {account}"),
                &error,
            )
        })?;
        let alive = page
            .items
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.extend(alive.map(|pod| Pod::of(pod, object)));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(pods);
        }
    }
}

impl Pod {
    /// What `pod` says to `object`.
    #[must_use]
    pub fn of(pod: &KubernetesPod, object: &str) -> Self {
        Self {
            name: pod.name_any(),
            created: pod
                .creation_timestamp()
                .map_or(Timestamp::MIN, |time| time.0),
            label: pod.labels().get(USE_LABEL).cloned(),
            connections: pod
                .annotations()
                .get(&connections_annotation(object))
                .cloned(),
            containers: pod.spec.as_ref().map(containers).unwrap_or_default(),
            owner: owner(pod),
        }
    }
}

/// Those that run Airflow: what is beside it in a pod, such as git-sync, has an image of its own. The
/// admission policy goes by the same rule.
pub fn airflow_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let image = spec
        .containers
        .first()
        .and_then(|first| first.image.as_ref());
    spec.containers
        .iter()
        .filter(move |container| container.image.as_ref() == image)
}

fn containers(spec: &PodSpec) -> Vec<PodContainer> {
    airflow_containers(spec)
        .map(|container| PodContainer {
            name: container.name.clone(),
            audience: audience(spec, container),
            client_id: variable(container, CLIENT_ID_VARIABLE).map(str::to_owned),
            secrets: container
                .env_from
                .iter()
                .flatten()
                .filter_map(|source| source.secret_ref.as_ref())
                .map(|secret| secret.name.clone())
                .collect(),
        })
        .collect()
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
    let mut owners = pod.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.labels().get("pod-template-hash")?;
            let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            Some(PodOwner::Deployment(name.to_owned()))
        }
        "StatefulSet" => Some(PodOwner::StatefulSet(owner.name.clone())),
        _ => None,
    }
}
