//! The Azure workload identity webhook, which gives new pods their token.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use super::{
    finding::{Finding, Level, Read},
    program::Program,
};
use crate::api::USE_LABEL;

const CHECK: &str = "webhook";
/// <https://github.com/Azure/azure-workload-identity/blob/main/pkg/webhook/consts.go>
pub(super) const WEBHOOK: &str = "mutation.azure-workload-identity.io";
/// The audience of the tokens that it asks for, unless it was told another one.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// What there is of the webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its entries in MutatingWebhookConfigurations.
    pub entries: Read<Vec<Entry>>,
    /// Its Deployments.
    pub programs: Read<Vec<Program>>,
}

/// An entry of a MutatingWebhookConfiguration.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The configuration's name.
    pub configuration: String,
    /// Whether pods start without it when it does not answer.
    pub is_ignored_on_failure: bool,
    /// Which namespaces it looks at.
    pub namespaces: Option<LabelSelector>,
}

/// What the webhook has to fit.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The namespace of the pods.
    pub namespace: String,
    /// Its labels, if they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// The audience of federated credentials.
    pub audience: String,
}

/// Whether new pods of the namespace get a token that fits the credentials.
#[must_use]
pub fn check(webhook: &Webhook, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = match &webhook.entries {
        Err(unread) => vec![Finding::unread(CHECK, unread)],
        Ok(entries) => match entries.as_slice() {
            [] => return vec![absent()],
            entries => entries
                .iter()
                .map(|entry| of_entry(entry, wanted))
                .collect(),
        },
    };
    match &webhook.programs {
        Err(unread) => findings.push(Finding::unread(CHECK, unread)),
        Ok(programs) if programs.is_empty() => findings.push(
            Finding::ok(CHECK, "deployment", "its Deployment was not found")
                .at(Level::Warning)
                .why("So whether it runs, its version and its audience are not known"),
        ),
        Ok(programs) => {
            findings.extend(programs.iter().map(|program| of_program(program, wanted)));
        }
    }
    findings
}

fn absent() -> Finding {
    Finding::ok(CHECK, WEBHOOK, "is not installed")
        .at(Level::Error)
        .why("New pods get no token, whatever their labels")
        .fix("On AKS: az aks update -g <group> -n <cluster> --enable-workload-identity; elsewhere https://azure.github.io/azure-workload-identity/docs/installation/mutating-admission-webhook.html. Then restart Airflow's workloads")
}

fn of_entry(entry: &Entry, wanted: &Wanted) -> Finding {
    let object = format!("mutatingwebhookconfiguration/{}", entry.configuration);
    let found = |level, what: String| Finding::ok(CHECK, &object, what).at(level);
    let namespace = &wanted.namespace;
    if let (Some(selector), Some(labels)) = (&entry.namespaces, &wanted.labels)
        && !selects(selector, labels)
    {
        return found(Level::Error, format!("leaves out namespace {namespace}"))
            .why("Its namespaceSelector does not select the namespace's labels, so new pods there get no token")
            .fix(format!("Compare: kubectl get mutatingwebhookconfiguration {} -o yaml, kubectl get namespace {namespace} --show-labels", entry.configuration));
    }
    if entry.is_ignored_on_failure {
        return found(Level::Warning, "has failurePolicy Ignore".into())
            .why("A pod that starts while it does not answer starts without a token")
            .fix("Set it to Fail: the webhook then looks only at pods with the label, and those are no use without a token");
    }
    found(
        Level::Ok,
        format!("looks at new pods with label {USE_LABEL}=true"),
    )
}

fn of_program(program: &Program, wanted: &Wanted) -> Finding {
    let found = |level, what: String| Finding::ok(CHECK, program.object(), what).at(level);
    let (namespace, name) = (&program.namespace, &program.name);
    if program.ready == 0 {
        return found(Level::Error, "no pod of it is ready".into())
            .why("Pods with the label cannot start, or start without a token")
            .fix(format!(
                "kubectl describe deployment {name} -n {namespace} && kubectl logs deployment/{name} -n {namespace}"
            ));
    }
    let audience = program.flag(&["--audience"]);
    let audience = audience.last().copied().unwrap_or(AUDIENCE);
    if audience != wanted.audience {
        return found(Level::Error, format!("asks for tokens for {audience}"))
            .why(format!(
                "The credentials are for {}, and Entra refuses others (AADSTS700212)",
                wanted.audience
            ))
            .fix(format!("azure.federationAudience={audience} in the operator's Helm values (and --federation-audience={audience} here)"));
    }
    let version = program.version.as_deref();
    if version.is_some_and(|version| version.starts_with("0.")) {
        return found(
            Level::Error,
            format!("version {}", version.unwrap_or_default()),
        )
        .why(format!(
            "Before 1.0 it went by a label of the ServiceAccount, not by {USE_LABEL} of the pod"
        ))
        .fix("Upgrade it to 1.0 or newer");
    }
    let version = version.map_or_else(String::new, |version| format!("version {version}, "));
    found(Level::Ok, format!("{version}audience {audience}"))
}

/// Whether a selector takes these labels; one that makes no sense takes none.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}
