//! The distributions of Airflow, by the labels that they put on workloads and ServiceAccounts.

use std::{collections::BTreeMap, fmt};

use crate::api::{AirflowStatus, Component};

type Labels = BTreeMap<String, String>;

/// One Airflow in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Install {
    /// How the spec names such an install.
    pub selector: InstallSelector,
    /// The name of the Helm release or of the cluster.
    pub name: String,
}

impl Install {
    /// As the status says it.
    #[must_use]
    pub fn to_status(&self) -> AirflowStatus {
        let name = Some(self.name.clone());
        match self.selector {
            InstallSelector::HelmRelease => AirflowStatus {
                helm_release: name,
                ..AirflowStatus::default()
            },
            InstallSelector::StackableCluster => AirflowStatus {
                stackable_cluster: name,
                ..AirflowStatus::default()
            },
        }
    }

    /// What a status says; none if it says nothing.
    #[must_use]
    pub fn from_status(status: &AirflowStatus) -> Option<Self> {
        let of = |selector, name: &Option<String>| {
            let name = name.clone()?;
            Some(Self { selector, name })
        };
        of(InstallSelector::HelmRelease, &status.helm_release)
            .or_else(|| of(InstallSelector::StackableCluster, &status.stackable_cluster))
    }
}

/// As a line of `spec.airflow`.
impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.selector {
            InstallSelector::HelmRelease => "helmRelease",
            InstallSelector::StackableCluster => "stackableCluster",
        };
        write!(f, "{field}: {}", self.name)
    }
}

/// The field of `spec.airflow` that names an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstallSelector {
    /// `helmRelease`.
    HelmRelease,
    /// `stackableCluster`.
    StackableCluster,
}

/// What an object of an install is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A component that may need Azure; one of several, if the label does not tell which.
    Component(&'static [Component]),
    /// Everything that it runs: some distributions have one account for all components.
    Whole,
    /// Something else: statsd, Redis, a job.
    Other,
}

/// A distribution: how its objects are recognised.
struct Distribution {
    selector: InstallSelector,
    /// A label that all its objects have, and what its value is.
    mark: (&'static str, Mark),
    /// The label with the install's name.
    install: &'static str,
    /// The label with the component's name.
    component: &'static str,
    /// Names that differ from those of the official chart.
    renamed: &'static [(&'static str, &'static [Component])],
}

enum Mark {
    Is(&'static str),
    /// `airflow-<version>`: other charts have names like `airflow-exporter`.
    IsVersionOfAirflow,
}

/// What serves the user interface: the web server of Airflow 2, the API server of Airflow 3. Some
/// distributions kept one label for both.
const WEB: &[Component] = &[Component::ApiServer, Component::Webserver];

/// The first that matches wins: the official chart's `chart` label looks like the community's.
const DISTRIBUTIONS: [Distribution; 4] = [
    // Official, and Astronomer's fork of it. <https://github.com/apache/airflow/tree/main/chart>
    Distribution {
        selector: InstallSelector::HelmRelease,
        mark: ("tier", Mark::Is("airflow")),
        install: "release",
        component: "component",
        renamed: &[],
    },
    // <https://github.com/airflow-helm/charts/tree/main/charts/airflow>
    Distribution {
        selector: InstallSelector::HelmRelease,
        mark: ("chart", Mark::IsVersionOfAirflow),
        install: "release",
        component: "component",
        renamed: &[("web", &[Component::Webserver])],
    },
    // <https://github.com/bitnami/charts/tree/main/bitnami/airflow>
    Distribution {
        selector: InstallSelector::HelmRelease,
        mark: ("helm.sh/chart", Mark::IsVersionOfAirflow),
        install: "app.kubernetes.io/instance",
        component: "app.kubernetes.io/component",
        renamed: &[("web", WEB)],
    },
    // <https://docs.stackable.tech/home/stable/airflow/>
    Distribution {
        selector: InstallSelector::StackableCluster,
        mark: (
            "app.kubernetes.io/managed-by",
            Mark::Is("airflow.stackable.tech_airflowcluster"),
        ),
        install: "app.kubernetes.io/instance",
        component: "app.kubernetes.io/component",
        renamed: &[
            ("dagprocessor", &[Component::DagProcessor]),
            ("webserver", WEB),
        ],
    },
];

/// The install that an object with these labels belongs to, and its part there.
pub(super) fn recognise(labels: &Labels) -> Option<(Install, Part)> {
    DISTRIBUTIONS.iter().find_map(|distribution| {
        let (key, mark) = &distribution.mark;
        let value = labels.get(*key)?;
        let matches = match mark {
            Mark::Is(whole) => value == whole,
            Mark::IsVersionOfAirflow => value
                .strip_prefix("airflow-")
                .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())),
        };
        let name = labels.get(distribution.install).filter(|_| matches)?;
        let install = Install {
            selector: distribution.selector,
            name: name.clone(),
        };
        let part = match labels.get(distribution.component) {
            None => Part::Whole,
            Some(value) => {
                let renamed = distribution.renamed.iter().find(|(name, _)| name == value);
                renamed
                    .map(|(_, components)| *components)
                    .or_else(|| component(value))
                    .map_or(Part::Other, Part::Component)
            }
        };
        Some((install, part))
    })
}

/// The component that a label names.
pub(super) fn component(value: &str) -> Option<&'static [Component]> {
    Component::ALL
        .chunks(1)
        .find(|component| component[0].as_str() == value)
}
