//! What runs Airflow's pods, as far as it tells the account of the pods.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PodTemplateSpec},
};
use kube::{ResourceExt, api::ObjectMeta};

use super::distribution::{Install, Part, recognise};
use crate::api::{Component, RESTART_ANNOTATIONS};

/// Kubernetes' own account for pods that name none.
pub(super) const DEFAULT_ACCOUNT: &str = "default";

/// Labels of the `ConfigMap`s that hold the pods of the KubernetesExecutor, as label selectors: of
/// the official chart and Astronomer's, of the community's, of Bitnami's and Stackable's.
pub const EXECUTOR_SELECTORS: [&str; 3] = [
    "tier=airflow,component=config",
    "app=airflow,chart,release",
    "app.kubernetes.io/name=airflow",
];

/// The keys of the pod template in them.
pub const POD_TEMPLATES: [&str; 3] = [
    "pod_template_file.yaml",
    "pod_template.yaml",
    "airflow_executor_pod_template.yaml",
];

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The account of its pods.
    pub account: String,
    /// Where it belongs, if it is an Airflow's.
    pub(super) part: Option<(Install, Part)>,
}

/// What is kept of every workload.
#[derive(Clone, Debug)]
pub struct WatchedWorkload {
    /// Its uid.
    pub uid: String,
    /// Who runs in it.
    pub workload: Workload,
    /// For what it was restarted, by annotation.
    pub restarts: BTreeMap<String, String>,
}

impl WatchedWorkload {
    fn new(workload: Workload, metadata: &ObjectMeta, template: Option<&PodTemplateSpec>) -> Self {
        let annotations = template.and_then(|t| t.metadata.as_ref()?.annotations.as_ref());
        let ours = |key: &&String| key.starts_with(RESTART_ANNOTATIONS);
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            workload,
            restarts: annotations
                .into_iter()
                .flatten()
                .filter(|(key, _)| ours(key))
                .map(|(key, change)| (key.clone(), change.clone()))
                .collect(),
        }
    }
}

impl From<&Deployment> for WatchedWorkload {
    fn from(deployment: &Deployment) -> Self {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        Self::new(deployment.into(), &deployment.metadata, template)
    }
}

impl From<&StatefulSet> for WatchedWorkload {
    fn from(set: &StatefulSet) -> Self {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        Self::new(set.into(), &set.metadata, template)
    }
}

/// What is kept of a `ConfigMap` that may hold the pods of a KubernetesExecutor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// It holds no template.
    None,
    /// The pods in it.
    Of(Workload),
    /// It cannot be read; the `ConfigMap` has these labels.
    Unreadable(BTreeMap<String, String>),
}

impl From<&ConfigMap> for Template {
    fn from(config: &ConfigMap) -> Self {
        match Workload::of_executor(config) {
            None => Self::None,
            Some(Ok(workload)) => Self::Of(workload),
            Some(Err(_)) => Self::Unreadable(config.labels().clone()),
        }
    }
}

impl Workload {
    fn new(labels: &BTreeMap<String, String>, account: Option<&str>) -> Self {
        Self {
            labels: labels.clone(),
            part: recognise(labels),
            account: account
                .filter(|name| !name.is_empty())
                .unwrap_or(DEFAULT_ACCOUNT)
                .to_owned(),
        }
    }
}

impl From<&Deployment> for Workload {
    fn from(deployment: &Deployment) -> Self {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        Self::new(deployment.labels(), account(template))
    }
}

impl From<&StatefulSet> for Workload {
    fn from(set: &StatefulSet) -> Self {
        let template = set.spec.as_ref().map(|spec| &spec.template);
        Self::new(set.labels(), account(template))
    }
}

impl Workload {
    /// Whether its pods can run at all: a pod template in a `ConfigMap` may hold any text for their
    /// account.
    #[must_use]
    pub fn names_an_account(&self) -> bool {
        is_account_name(&self.account)
    }

    /// The workers of the KubernetesExecutor, which no workload runs: the scheduler makes them from
    /// the template in this `ConfigMap`, whatever its labels. None if it holds no template.
    ///
    /// # Errors
    /// The template cannot be read as a pod.
    #[must_use]
    pub fn of_executor(config: &ConfigMap) -> Option<Result<Self, String>> {
        let data = config.data.as_ref()?;
        let template = POD_TEMPLATES.iter().find_map(|key| data.get(*key))?;
        let pod: PodTemplateSpec = match serde_saphyr::from_str(template) {
            Ok(pod) => pod,
            Err(error) => return Some(Err(error.to_string())),
        };
        let labels = pod.metadata.as_ref().and_then(|meta| meta.labels.clone());
        // The API server takes the old name of the field, too.
        let account = pod.spec.as_ref().and_then(|spec| {
            let name = spec.service_account_name.as_deref();
            name.or(spec.service_account.as_deref())
        });
        let workers = Part::Component(&[Component::Worker]);
        Some(Ok(Self {
            part: recognise(config.labels()).map(|(install, _)| (install, workers)),
            ..Self::new(&labels.unwrap_or_default(), account)
        }))
    }
}

/// Whether a ServiceAccount can have this name.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>
#[must_use]
pub fn is_account_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ends = |c: char| c != '-';
        label.chars().all(inner) && label.starts_with(ends) && label.ends_with(ends)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn account(template: Option<&PodTemplateSpec>) -> Option<&str> {
    let spec = template.and_then(|template| template.spec.as_ref())?;
    spec.service_account_name.as_deref()
}
