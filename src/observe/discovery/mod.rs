//! Which ServiceAccounts an object speaks for.
//!
//! They are found through the running workloads and the accounts' own labels, never by a
//! formula: the official chart alone has two bases for its names, and users override both.

mod distribution;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

pub use self::{
    distribution::{Install, InstallSelector},
    workload::{EXECUTOR_SELECTORS, Template, WatchedWorkload, Workload, is_account_name},
};
use self::{
    distribution::{Part, component, recognise},
    workload::DEFAULT_ACCOUNT,
};
use super::{Account, WatchedAccount};
use crate::api::{Airflow, AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, Component};

/// Whether an account with these labels belongs to an Airflow.
#[must_use]
pub fn is_of_an_airflow(labels: &BTreeMap<String, String>) -> bool {
    recognise(labels).is_some()
}

/// What was found for an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The Airflows of the namespace.
    pub installs: BTreeSet<Install>,
    /// The one that is meant, if the spec names one, or leaves it open and there is only one.
    pub install: Option<Install>,
    /// The accounts that the spec asks for, by name.
    pub accounts: Vec<Account>,
    /// The names of those that belong to the install; the others were asked for beside it.
    pub of_install: BTreeSet<String>,
    /// The names of those that workloads run under which `spec.airflow.workloadSelector` selects.
    pub of_workloads: BTreeSet<String>,
    /// Set if some of them run under the namespace's `default` account although the spec does
    /// not name it: which components, as far as that is known.
    pub on_default: Option<BTreeSet<Component>>,
    /// `ConfigMap`s of the install whose pod template cannot be read. What was found by it before
    /// stays.
    pub unreadable: BTreeSet<String>,
    /// The field of `spec.airflow` whose selector makes no sense, and why.
    pub invalid: Option<(&'static str, String)>,
}

/// What there is in a namespace.
pub(super) struct Inventory {
    pub workloads: Vec<(String, Arc<WatchedWorkload>)>,
    pub templates: Vec<(String, Arc<Template>)>,
    pub accounts: Vec<(String, Arc<WatchedAccount>)>,
}

impl Inventory {
    /// What runs pods, or has the scheduler run them, under an account that there can be.
    fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let templates = self.templates.iter();
        let executors = templates.filter_map(|(_, template)| match &**template {
            Template::Of(workload) => Some(workload),
            Template::None | Template::Unreadable(_) => None,
        });
        let running = self.workloads.iter().map(|(_, running)| &running.workload);
        running
            .chain(executors)
            .filter(|workload| workload.names_an_account())
    }

    /// The `ConfigMap`s whose template cannot be read, of those with such labels.
    fn unreadable(
        &self,
        are_meant: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> impl Iterator<Item = String> {
        let broken = self.templates.iter().filter(move |(_, template)| {
            matches!(&**template, Template::Unreadable(labels) if are_meant(labels))
        });
        broken.map(|(name, _)| name.clone())
    }
}

/// The accounts that `airflow` asks for. What is left open stays as it was settled `before`:
/// another Airflow that comes to the namespace does not get the identity by that.
pub(super) fn discover(
    airflow: &Airflow,
    before: Option<&AirflowWorkloadIdentityStatus>,
    inventory: &Inventory,
) -> Discovery {
    let installs = installs(inventory);
    let settled = before.and_then(|status| Install::from_status(status.airflow.as_ref()?));
    let install = install(airflow, settled, &installs);

    let mut found = Found::default();
    let mut unreadable = BTreeSet::new();
    if let Some(install) = &install {
        found.add_install(install, &airflow.components, inventory);
        let is_of_install = |labels: &_| recognise(labels).is_some_and(|(of, _)| of == *install);
        unreadable.extend(inventory.unreadable(is_of_install));
    }
    if !unreadable.is_empty() && airflow.components.contains(&Component::Worker) {
        found.keep_workers(before);
    }
    let mut of_install: BTreeSet<String> = found.0.keys().cloned().collect();
    of_install.remove(DEFAULT_ACCOUNT);

    let workloads = parsed("workloadSelector", airflow.workload_selector.as_ref());
    let accounts = parsed(
        "serviceAccountSelector",
        airflow.service_account_selector.as_ref(),
    );
    let mut of_workloads = BTreeSet::new();
    let invalid = workloads.as_ref().err().or(accounts.as_ref().err());
    if let Ok(Some(_)) = &workloads {
        // By the labels of its pods, which nobody can read: each may be meant.
        unreadable.extend(inventory.unreadable(|_| true));
    }
    if invalid.is_some() || !unreadable.is_empty() && airflow.workload_selector.is_some() {
        of_workloads = found.keep(before);
    }
    if let Ok(Some(selector)) = &workloads {
        of_workloads.extend(found.add_workloads(selector, inventory));
    }
    if let Ok(Some(selector)) = &accounts {
        for (name, account) in &inventory.accounts {
            // A selector over accounts never means the one that all pods share.
            if name != DEFAULT_ACCOUNT && selector.matches(&account.labels) {
                found.0.entry(name.clone()).or_default();
            }
        }
    }
    // Every pod of the namespace may run under it, so it is taken only when it is named.
    let mut on_default = found.0.remove(DEFAULT_ACCOUNT);
    for name in &airflow.service_accounts {
        let components = found.0.entry(name.clone()).or_default();
        if name == DEFAULT_ACCOUNT {
            components.extend(on_default.take().unwrap_or_default());
        }
    }
    Discovery {
        installs,
        install,
        of_install,
        of_workloads,
        on_default,
        unreadable,
        invalid: invalid.cloned(),
        accounts: found.into_accounts(&inventory.accounts),
    }
}

/// The installs that have a component which may need Azure.
fn installs(inventory: &Inventory) -> BTreeSet<Install> {
    let accounts = inventory.accounts.iter();
    inventory
        .workloads()
        .filter_map(|workload| workload.part.clone())
        .chain(accounts.filter_map(|(_, account)| recognise(&account.labels)))
        .filter(|(_, part)| *part != Part::Other)
        .map(|(install, _)| install)
        .collect()
}

fn install(
    airflow: &Airflow,
    settled: Option<Install>,
    installs: &BTreeSet<Install>,
) -> Option<Install> {
    let named = |selector, name: &String| Install {
        selector,
        name: name.clone(),
    };
    if let Some(release) = &airflow.helm_release {
        return Some(named(InstallSelector::HelmRelease, release));
    }
    if let Some(cluster) = &airflow.stackable_cluster {
        return Some(named(InstallSelector::StackableCluster, cluster));
    }
    if !airflow.is_left_open() {
        return None;
    }
    // Even when it is gone: a reinstallation must not hand the identity to a neighbour.
    settled.or_else(|| installs.first().filter(|_| installs.len() == 1).cloned())
}

impl Discovery {
    /// Whether the spec asks for the account of this name.
    #[must_use]
    pub fn asks_for(&self, account: &str) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|found| found.name == account)
    }

    /// Whether Airflow's own components run under the account; if not, it was only named.
    #[must_use]
    pub fn runs_airflow(&self, account: &Account) -> bool {
        self.of_install.contains(&account.name)
            || self.of_workloads.contains(&account.name)
            || !account.components.is_empty()
    }
}

impl Workload {
    /// Whether it belongs to an Airflow.
    #[must_use]
    pub fn is_of_an_airflow(&self) -> bool {
        self.part.is_some()
    }

    /// Whether it may have a say in which accounts the object speaks for, or had before it was
    /// changed.
    #[must_use]
    pub fn concerns(&self, object: &AirflowWorkloadIdentity) -> bool {
        let selector = object.spec.airflow.workload_selector.as_ref();
        let mut accounts = object
            .status
            .iter()
            .flat_map(|status| &status.service_accounts);
        self.part.is_some()
            || parsed("workloadSelector", selector)
                .is_ok_and(|selector| selector.is_some_and(|s| s.matches(&self.labels)))
            || accounts.any(|account| account.name == self.account)
    }
}

type Parsed = Result<Option<Selector>, (&'static str, String)>;

fn parsed(field: &'static str, selector: Option<&LabelSelector>) -> Parsed {
    selector
        .map(|selector| Selector::try_from(selector.clone()))
        .transpose()
        .map_err(|error| (field, error.to_string()))
}

/// Accounts by name, and the components that run under each.
#[derive(Default)]
struct Found(BTreeMap<String, BTreeSet<Component>>);

impl Found {
    fn add_install(&mut self, install: &Install, wanted: &[Component], inventory: &Inventory) {
        let part = |recognised: Option<(Install, Part)>| {
            let (of, part) = recognised?;
            (of == *install).then_some(part)
        };
        let is_wanted = |component: &&Component| wanted.contains(component);
        for workload in inventory.workloads() {
            if let Some(Part::Component(components)) = part(workload.part.clone()) {
                self.add(&workload.account, components.iter().filter(is_wanted));
            }
        }
        for (name, account) in &inventory.accounts {
            match part(recognise(&account.labels)) {
                Some(Part::Component(components)) => {
                    self.add(name, components.iter().filter(is_wanted));
                }
                Some(Part::Whole) if !wanted.is_empty() => {
                    self.0.entry(name.clone()).or_default();
                }
                _ => {}
            }
        }
    }

    /// The accounts of workers that were found before, if the status may be believed.
    fn keep_workers(&mut self, before: Option<&AirflowWorkloadIdentityStatus>) {
        let before = before.into_iter().flat_map(|s| &s.service_accounts);
        for account in
            before.filter(|a| a.components.contains(&Component::Worker) && is_account_name(&a.name))
        {
            self.add(&account.name, [Component::Worker].iter());
        }
    }

    /// All accounts that were found before, if the status may be believed; returns those that Airflow ran under.
    fn keep(&mut self, before: Option<&AirflowWorkloadIdentityStatus>) -> BTreeSet<String> {
        let before = before.into_iter().flat_map(|s| &s.service_accounts);
        let known = before.filter(|a| a.name != DEFAULT_ACCOUNT && is_account_name(&a.name));
        let mut injected = BTreeSet::new();
        for account in known {
            let components = self.0.entry(account.name.clone()).or_default();
            components.extend(&account.components);
            let injection = account.injection.as_ref();
            if injection.is_some_and(|injection| !injection.secrets.is_empty()) {
                injected.insert(account.name.clone());
            }
        }
        injected
    }

    /// The names of the accounts that the selected workloads run under.
    fn add_workloads(&mut self, selector: &Selector, inventory: &Inventory) -> BTreeSet<String> {
        const COMPONENT_LABELS: [&str; 2] = ["component", "app.kubernetes.io/component"];
        let mut accounts = BTreeSet::new();
        for workload in inventory.workloads() {
            if selector.matches(&workload.labels) {
                accounts.insert(workload.account.clone());
                let mut labels = COMPONENT_LABELS.iter();
                let named = labels.find_map(|key| component(workload.labels.get(*key)?));
                let components = self.0.entry(workload.account.clone()).or_default();
                components.extend(named.into_iter().flatten());
            }
        }
        accounts
    }

    fn add<'a>(&mut self, account: &str, components: impl Iterator<Item = &'a Component>) {
        for component in components {
            let of_account = self.0.entry(account.to_owned()).or_default();
            of_account.insert(*component);
        }
    }

    fn into_accounts(self, existing: &[(String, Arc<WatchedAccount>)]) -> Vec<Account> {
        let state = |name: &str| {
            let (_, account) = existing.iter().find(|(existing, _)| existing == name)?;
            Some(account.state.clone())
        };
        self.0
            .into_iter()
            .map(|(name, components)| Account {
                state: state(&name),
                name,
                components,
            })
            .collect()
    }
}
