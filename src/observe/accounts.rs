//! ServiceAccounts: which ones an object speaks for, and what they carry.
//!
//! They are found through the running workloads and the accounts' own labels, never by a
//! formula: the official chart alone has two bases for its names, and users override both.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{ResourceExt, core::PartialObjectMeta};

use super::fields::owners_of;
use crate::api::{Airflow, CLIENT_ID_ANNOTATION, Component, TENANT_ID_ANNOTATION};

/// Labels that the official chart puts on workloads, their pods and their ServiceAccounts.
/// <https://github.com/apache/airflow/tree/main/chart/templates>
const RELEASE_LABEL: &str = "release";
const COMPONENT_LABEL: &str = "component";
const TIER_LABEL: &str = "tier";
const TIER: &str = "airflow";
/// Selects the workloads that may be found.
pub const WORKLOAD_SELECTOR: &str = "tier=airflow,release,component";

/// A ServiceAccount that the spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The components of Airflow that run under it; none if it was only named.
    pub components: BTreeSet<Component>,
    /// What it carries, if it exists.
    pub state: Option<AccountState>,
}

/// What an existing ServiceAccount carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Guards a patch against an account that was deleted in between.
    pub uid: String,
    /// `azure.workload.identity/client-id`.
    pub client_id: Annotation,
    /// `azure.workload.identity/tenant-id`.
    pub tenant_id: Annotation,
}

/// An annotation and who owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Its value.
    pub value: Option<String>,
    /// The field managers that own it.
    pub owners: Vec<FieldOwner>,
}

/// A field manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOwner {
    /// Its name.
    pub manager: String,
    /// Whether it declares the field by server-side apply, and so will again.
    pub applies: bool,
}

impl Account {
    /// Its uid, if it exists.
    #[must_use]
    pub fn uid(&self) -> Option<String> {
        self.state.as_ref().map(|state| state.uid.clone())
    }
}

impl AccountState {
    /// Whether `manager` owns one of the two annotations.
    #[must_use]
    pub fn is_managed_by(&self, manager: &str) -> bool {
        let owners = self.client_id.owners.iter().chain(&self.tenant_id.owners);
        owners.into_iter().any(|owner| owner.manager == manager)
    }

    pub(super) fn of(account: &PartialObjectMeta<ServiceAccount>) -> Self {
        let annotation = |key: &str| Annotation {
            value: account.annotations().get(key).cloned(),
            owners: owners_of(key, account.managed_fields()),
        };
        Self {
            uid: account.uid().unwrap_or_default(),
            client_id: annotation(CLIENT_ID_ANNOTATION),
            tenant_id: annotation(TENANT_ID_ANNOTATION),
        }
    }
}

/// A workload of Airflow: its labels and the account of its pods.
pub(super) struct Workload {
    pub labels: BTreeMap<String, String>,
    pub account: String,
}

/// The accounts that `airflow` asks for, by name.
pub(super) fn discover(
    airflow: &Airflow,
    workloads: &[Workload],
    accounts: &[&PartialObjectMeta<ServiceAccount>],
) -> Vec<Account> {
    let mut found: BTreeMap<String, BTreeSet<Component>> = BTreeMap::new();
    if let Some(release) = &airflow.helm_release {
        let component = |labels: &BTreeMap<String, String>| {
            component_of(labels, release).filter(|c| airflow.components.contains(c))
        };
        for workload in workloads {
            if let Some(component) = component(&workload.labels) {
                found
                    .entry(workload.account.clone())
                    .or_default()
                    .insert(component);
            }
        }
        for account in accounts {
            if let Some(component) = component(account.labels()) {
                found
                    .entry(account.name_any())
                    .or_default()
                    .insert(component);
            }
        }
    }
    // Every pod of the namespace may run under it, so it is taken only when it is named.
    found.remove("default");
    for name in &airflow.service_accounts {
        found.entry(name.clone()).or_default();
    }
    found
        .into_iter()
        .map(|(name, components)| Account {
            state: accounts
                .iter()
                .find(|a| a.name_any() == name)
                .map(|a| AccountState::of(a)),
            name,
            components,
        })
        .collect()
}

fn component_of(labels: &BTreeMap<String, String>, release: &str) -> Option<Component> {
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
    if !is(TIER_LABEL, TIER) || !is(RELEASE_LABEL, release) {
        return None;
    }
    Component::ALL
        .into_iter()
        .find(|c| is(COMPONENT_LABEL, c.as_str()))
}
