//! Somebody to write it for: the ServiceAccounts that were found, and what to do when they were
//! not.

use std::collections::BTreeSet;

use super::Plan;
use crate::{
    api::{Component, ConditionType, Reason},
    observe::{Account, Discovery, InstallSelector, Snapshot},
    problem::Problem,
};

/// Blocks the step when there is no account; else notes what the user should know of them.
pub(super) fn check(snapshot: &Snapshot, plan: &mut Plan) {
    let discovery = &snapshot.discovery;
    let problem = match &discovery.invalid {
        Some((field, error)) => Some(Problem::on_change(
            Reason::InvalidSpec,
            format!(
                "spec.airflow.{field} is no label selector: {error}. Correct it; the accounts that were known before stay."
            ),
        )),
        None if discovery.accounts.is_empty() => Some(match &discovery.on_default {
            Some(components) => on_default(components, &snapshot.namespace),
            None => none_found(snapshot),
        }),
        None => None,
    };
    if let Some(problem) = problem {
        plan.blocked
            .insert(ConditionType::ServiceAccountsAnnotated, problem);
        return;
    }
    let notes: Vec<String> = [
        discovery
            .on_default
            .as_ref()
            .map(|components| on_default(components, &snapshot.namespace).message),
        unreadable(discovery),
        missing_components(snapshot),
        default_is_named(discovery),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !notes.is_empty() {
        plan.notes
            .insert(ConditionType::ServiceAccountsAnnotated, notes.join(" "));
    }
}

fn unreadable(discovery: &Discovery) -> Option<String> {
    let names: Vec<&str> = discovery.unreadable.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        format!(
            "The pod template in ConfigMap {} cannot be read, so it is not known under which account the pods of the KubernetesExecutor run; what was known before stays.",
            names.join(", ")
        )
    })
}

fn none_found(snapshot: &Snapshot) -> Problem {
    let airflow = &snapshot.object.spec.airflow;
    let namespace = &snapshot.namespace;
    let installs = &snapshot.discovery.installs;
    let lines: Vec<String> = installs
        .iter()
        .map(|install| format!("\nspec: {{ airflow: {{ {install} }} }}"))
        .collect();
    let lines = lines.concat();
    if airflow.is_left_open() && installs.len() > 1 {
        return Problem::on_change(
            Reason::AirflowAmbiguous,
            format!(
                "There are {count} Airflows in namespace {namespace}. Say which one is meant:{lines}",
                count = installs.len()
            ),
        );
    }
    let others = if installs.is_empty() {
        String::new()
    } else {
        format!(" There is:{lines}")
    };
    let (reason, message) = match &snapshot.discovery.install {
        Some(install) => (
            Reason::NoServiceAccounts,
            format!(
                "No workload and no ServiceAccount of namespace {namespace} is labelled as one of the components {components} of {install}. Install Airflow, or correct spec.airflow ({list} -n {namespace}).{others}",
                components = names(&airflow.components.iter().copied().collect()),
                list = match install.selector {
                    InstallSelector::HelmRelease => "helm list",
                    InstallSelector::StackableCluster => "kubectl get airflowclusters",
                },
            ),
        ),
        None if airflow.is_left_open() => (
            Reason::AirflowNotFound,
            format!(
                "No Airflow was recognised in namespace {namespace}. Install it; or, if it is installed in an unusual way, say which workloads or ServiceAccounts are meant, for example spec: {{ airflow: {{ workloadSelector: {{ matchLabels: {{ app: airflow }} }} }} }} or spec: {{ airflow: {{ serviceAccounts: [airflow] }} }}"
            ),
        ),
        None => (
            Reason::NoServiceAccounts,
            format!(
                "No workload and no ServiceAccount of namespace {namespace} has the labels that spec.airflow selects."
            ),
        ),
    };
    Problem::on_change(reason, message)
}

/// The account `default` is every pod's that names no other, so it is taken only when it is named.
fn on_default(components: &BTreeSet<Component>, namespace: &str) -> Problem {
    let who = if components.is_empty() {
        "Some of Airflow's pods run".to_owned()
    } else {
        format!("The pods of {} run", names(components))
    };
    Problem::on_change(
        Reason::NoServiceAccounts,
        format!(
            "{who} under the account default of namespace {namespace}, as every pod does that names no account, and so it is left alone. Give Airflow accounts of its own (for Helm charts: serviceAccount.create: true), or name it: spec.airflow.serviceAccounts: [default]."
        ),
    )
}

fn missing_components(snapshot: &Snapshot) -> Option<String> {
    let discovery = &snapshot.discovery;
    let install = discovery.install.as_ref()?;
    let of_install: Vec<&Account> = discovery
        .accounts
        .iter()
        .filter(|account| discovery.of_install.contains(&account.name))
        .collect();
    // Some distributions have one account for everything that they run.
    if matches!(of_install.as_slice(), [one] if one.components.len() != 1) {
        return None;
    }
    let found = |component: &&Component| {
        let mut accounts = of_install.iter();
        accounts.any(|account| account.components.contains(component))
    };
    let is_on_default = |component: &&Component| {
        let on_default = discovery.on_default.as_ref();
        on_default.is_some_and(|components| components.contains(component))
    };
    let missing: BTreeSet<Component> = snapshot
        .object
        .spec
        .airflow
        .components
        .iter()
        .filter(|component| !found(component) && !is_on_default(component))
        .copied()
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "Of {install}, no ServiceAccount was found for: {}.",
            names(&missing)
        )
    })
}

fn default_is_named(discovery: &Discovery) -> Option<String> {
    discovery.asks_for("default").then(|| {
        "The account default is named: every pod of the namespace that names no account can become the identity.".to_owned()
    })
}

fn names(components: &BTreeSet<Component>) -> String {
    let names: Vec<&str> = components.iter().map(|c| c.as_str()).collect();
    names.join(", ")
}
