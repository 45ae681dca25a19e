//! Whose ServiceAccounts an object speaks for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kubernetes takes an empty selector for one that matches everything.
const SELECTS_SOMETHING: &str =
    "size(self.?matchLabels.orValue({})) + size(self.?matchExpressions.orValue([])) > 0";

/// Where Airflow's ServiceAccounts are found. Left out: the operator recognises the one Airflow
/// of the namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.helmRelease), has(self.stackableCluster), has(self.workloadSelector)].filter(given, given).size() <= 1")
        .message("set at most one of helmRelease, stackableCluster and workloadSelector"),
    validation = Rule::new("size(self.components) > 0 || size(self.serviceAccounts) > 0 || has(self.serviceAccountSelector)")
        .message("components may be empty only if serviceAccounts or serviceAccountSelector say whose accounts are meant")
)]
pub struct Airflow {
    /// The Helm release of Airflow in this namespace (`helm list -n <namespace>`): of the official
    /// chart, Astronomer's, the user community's or Bitnami's. Its ServiceAccounts are found
    /// through the running workloads and the accounts' own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 53))]
    pub helm_release: Option<String>,

    /// The AirflowCluster of the Stackable operator in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stackable_cluster: Option<String>,

    /// For any other installation: selects Deployments and StatefulSets of this namespace by
    /// their labels. The accounts of their pods are meant, whatever their component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(SELECTS_SOMETHING)
        .message("must select by at least one label: an empty selector would take every workload of the namespace"))]
    pub workload_selector: Option<LabelSelector>,

    /// The components of the release or cluster whose ServiceAccounts get the identity.
    // Atomic: server-side apply would merge what is applied with the default that was there.
    #[serde(default = "default_components")]
    #[schemars(length(max = 6))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = Rule::new("self.all(a, self.exists_one(b, a == b))")
        .message("must name each component once"))]
    pub components: Vec<Component>,

    /// More ServiceAccounts of this namespace, by name: for example that of
    /// KubernetesPodOperator's pods. They may not exist yet: the operator federates them at once
    /// and annotates them when they appear. If no release, cluster or selector is given, these are
    /// the only ones.
    #[serde(default)]
    #[schemars(
        length(max = 20),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,

    /// More ServiceAccounts of this namespace, by their labels; never the account `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(SELECTS_SOMETHING)
        .message("must select by at least one label: an empty selector would take every account of the namespace"))]
    pub service_account_selector: Option<LabelSelector>,
}

impl Default for Airflow {
    fn default() -> Self {
        Self {
            helm_release: None,
            stackable_cluster: None,
            workload_selector: None,
            components: default_components(),
            service_accounts: Vec::new(),
            service_account_selector: None,
        }
    }
}

impl Airflow {
    /// Whether the operator has to find out by itself which Airflow is meant.
    #[must_use]
    pub fn is_left_open(&self) -> bool {
        self.helm_release.is_none()
            && self.stackable_cluster.is_none()
            && self.workload_selector.is_none()
            && self.service_accounts.is_empty()
            && self.service_account_selector.is_none()
    }
}

/// A component of Airflow, by the name that its Helm charts put into the `component` label.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Airflow 3: the API server; it reads remote logs from Azure.
    ApiServer,
    /// Parses the DAGs.
    DagProcessor,
    /// Schedules; with the LocalExecutor it runs the tasks, too.
    Scheduler,
    /// Runs deferred tasks.
    Triggerer,
    /// Airflow 2: the web server; it reads remote logs from Azure.
    Webserver,
    /// Runs the tasks: Celery workers and the pods of the KubernetesExecutor.
    Worker,
}

impl Component {
    /// All components.
    pub const ALL: [Self; 6] = [
        Self::ApiServer,
        Self::DagProcessor,
        Self::Scheduler,
        Self::Triggerer,
        Self::Webserver,
        Self::Worker,
    ];

    /// The value of the `component` label, for example `dag-processor`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::DagProcessor => "dag-processor",
            Self::Scheduler => "scheduler",
            Self::Triggerer => "triggerer",
            Self::Webserver => "webserver",
            Self::Worker => "worker",
        }
    }
}

fn default_components() -> Vec<Component> {
    vec![
        Component::Scheduler,
        Component::Triggerer,
        Component::Worker,
    ]
}
