//! What new pods of an account get, and which running ones lack it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::verdict::Verdict;
use crate::{
    api::{
        AirflowWorkloadIdentity, Injection, PodConnections, Reason, Restart, SecretFormat,
        SecretStatus, ServiceAccountStatus, USE_LABEL,
    },
    apply::{Outcome, StepResult},
    observe::{Pod, Snapshot},
    plan::{Action, Plan},
    pods::{Lack, Missing, injected, is_left_out, lack},
    problem::{Problem, Retry},
    secrets::wanted_secrets,
};

/// Names in a list before it is cut short.
const NAMES: usize = 5;

/// What new pods of the account get now: as before, as far as nothing of it has changed. `written` are
/// the Secrets, once all of them are there.
pub(super) fn injection(
    snapshot: &Snapshot,
    account: &ServiceAccountStatus,
    client_id: Option<&str>,
    written: Option<&[SecretStatus]>,
    now: Timestamp,
) -> Option<Injection> {
    if !account.federated || !account.annotated {
        return None;
    }
    let status = snapshot.object.status.as_ref();
    let before = status
        .and_then(|status| {
            status
                .service_accounts
                .iter()
                .find(|b| b.name == account.name)
        })
        .filter(|before| before.uid == account.uid)
        .and_then(|before| before.injection.as_ref());
    let (secrets, checksum) = match (written, before) {
        (Some(written), _) => injected(snapshot, &account.name, written),
        (None, Some(before)) => (before.secrets.clone(), before.checksum.clone()),
        (None, None) => (Vec::new(), String::new()),
    };
    let is_same_identity = status.is_some_and(|status| status.client_id.as_deref() == client_id);
    let same = before
        .filter(|_| is_same_identity)
        .filter(|before| before.secrets == secrets && before.checksum == checksum);
    Some(Injection {
        // A clock that was ahead would keep restarts back until that time.
        since: Time(same.map_or(now, |before| before.since.0.min(now))),
        secrets,
        checksum,
    })
}

/// One thing that some pods lack, and them.
#[derive(Default)]
struct Group<'a> {
    pods: BTreeSet<&'a str>,
    owners: BTreeSet<String>,
    ownerless: bool,
}

/// Whether every running pod of the accounts has what it should.
pub(super) fn verdict(
    snapshot: &Snapshot,
    plan: &Plan,
    outcome: &Outcome,
    accounts: &[ServiceAccountStatus],
    client_id: Option<&str>,
) -> Verdict {
    let mut left_out = BTreeSet::new();
    let mut groups: BTreeMap<(Reason, String), Group> = BTreeMap::new();
    let ready: Vec<(&ServiceAccountStatus, &Injection)> = accounts
        .iter()
        .filter_map(|a| Some((a, a.injection.as_ref()?)))
        .collect();
    let (Some(client_id), false) = (client_id, ready.is_empty()) else {
        let message = "No account is federated and annotated yet.";
        return Verdict::Unknown(Problem::on_change(Reason::Waiting, message));
    };
    for (account, injection) in ready {
        for pod in snapshot.pods.get(&account.name).into_iter().flatten() {
            if is_left_out(pod) {
                left_out.insert(pod.name.as_str());
            }
            if let Some(lack) = lack(pod, injection, client_id, &snapshot.audience) {
                let (reason, what) = explain(&lack, client_id, &snapshot.audience);
                groups.entry((reason, what)).or_default().add(pod);
            }
        }
    }
    if groups.is_empty() {
        let mut message = "Every running pod of the accounts has what new ones get.".to_owned();
        if !left_out.is_empty() {
            message = format!(
                "{message} Left out, because their label {USE_LABEL} is not \"true\": {}.",
                listed(&left_out)
            );
        }
        return Verdict::True(message);
    }
    let first = groups
        .keys()
        .next()
        .map_or(Reason::PodsOutdated, |(reason, _)| *reason);
    let failed = restart_failed(plan, outcome);
    let lines: Vec<String> = groups
        .iter()
        .map(|((reason, what), group)| {
            let pods = listed(&group.pods);
            let count = group.pods.len();
            let advice = group.advice(*reason, snapshot);
            format!("{what} ({count}): {pods}. {advice}")
        })
        .chain(failed.as_ref().map(|problem| problem.message.clone()))
        .collect();
    Verdict::False(Problem {
        reason: failed.map_or(first, |problem| problem.reason),
        message: lines.join("\n"),
        retry: Retry::OnChange,
    })
}

/// What a pod lacks, why, and what to do about it, in the words of the condition.
#[must_use]
pub fn shortfall(
    snapshot: &Snapshot,
    pod: &Pod,
    injection: &Injection,
    client_id: &str,
) -> Option<(Reason, String, String)> {
    let lack = lack(pod, injection, client_id, &snapshot.audience)?;
    let (reason, what) = explain(&lack, client_id, &snapshot.audience);
    let mut group = Group::default();
    group.add(pod);
    Some((reason, what, group.advice(reason, snapshot)))
}

/// What gives pods the label and the connections where no policy does.
#[must_use]
pub fn by_hand(secret: Option<&str>) -> String {
    let connections = secret.map_or_else(String::new, |secret| {
        format!(", and extraEnvFrom to '- secretRef: {{name: {secret}, optional: true}}'")
    });
    format!(
        "If it cannot be, set it in Airflow's Helm values: scheduler.labels, triggerer.labels and workers.labels to {{{USE_LABEL}: \"true\"}}{connections}."
    )
}

/// The first restart that did not succeed.
#[must_use]
pub fn restart_failed(plan: &Plan, outcome: &Outcome) -> Option<Problem> {
    let mut restarts = plan.steps.iter().zip(&outcome.results);
    restarts.find_map(|(step, result)| match (&step.action, result) {
        (Action::Restart { .. }, StepResult::Failed(problem)) => Some(problem.clone()),
        _ => None,
    })
}

/// The reason, and what the pods lack.
fn explain(lack: &Lack, client_id: &str, audience: &str) -> (Reason, String) {
    let early = |reason| {
        if lack.is_early {
            Reason::PodsOutdated
        } else {
            reason
        }
    };
    match &lack.what {
        Missing::Label => (
            early(Reason::PolicyMissing),
            format!("Without the label {USE_LABEL}, and so without a token"),
        ),
        Missing::Token => (
            early(Reason::WebhookMissing),
            "Without a token, although they carry the label".into(),
        ),
        Missing::TokenIn(container) => (
            Reason::ContainerSkipped,
            format!("Without a token in container {container}"),
        ),
        Missing::Audience(found) => (
            Reason::AudienceDiffers,
            format!("With a token for {found}, while the credential is for {audience}"),
        ),
        Missing::ClientId(found) => (
            Reason::PodsOutdated,
            match found {
                Some(found) => format!("With client ID {found} instead of {client_id}"),
                None => format!("Without client ID {client_id}"),
            },
        ),
        Missing::Connections => (
            early(Reason::PolicyMissing),
            "Without the connections".into(),
        ),
        Missing::NewConnections => (
            Reason::PodsOutdated,
            "With the connections as they were before".into(),
        ),
    }
}

impl<'a> Group<'a> {
    fn add(&mut self, pod: &'a Pod) {
        self.pods.insert(&pod.name);
        match &pod.owner {
            Some(owner) => {
                self.owners.insert(owner.to_string());
            }
            None => self.ownerless = true,
        }
    }

    /// What to do about it.
    fn advice(&self, reason: Reason, snapshot: &Snapshot) -> String {
        let restart = self.restart(&snapshot.namespace);
        let is_restarted =
            snapshot.object.spec.pods.restart == Restart::OnChange && !self.owners.is_empty();
        match reason {
            Reason::PolicyMissing => format!(
                "New pods do not get it: is the MutatingAdmissionPolicy of the operator's chart (podPolicy.enabled) installed, and does the cluster serve it (Kubernetes 1.36, or 1.34 with the feature switched on)? {by_hand} Then {restart}",
                by_hand = by_hand(connection_secret(&snapshot.object).as_deref()),
            ),
            Reason::WebhookMissing => format!(
                "The Azure workload identity webhook was not at work when they started: kubectl get mutatingwebhookconfigurations azure-wi-webhook-mutating-webhook-configuration; on AKS: az aks update -g <group> -n <cluster> --enable-workload-identity. Then {restart}"
            ),
            Reason::ContainerSkipped => format!(
                "The pod annotation azure.workload.identity/skip-containers names it. Take it out there, then {restart}"
            ),
            Reason::AudienceDiffers => "Start the operator with the audience of the Azure webhook (its flag --audience): azure.federationAudience in the chart's values.".to_owned(),
            _ if is_restarted => {
                format!("The operator restarts them once for it; if it already has, {restart}")
            }
            _ => format!("To mend it, {restart}"),
        }
    }

    /// How they become new pods; a command comes last, to be copied.
    fn restart(&self, namespace: &str) -> String {
        if self.owners.is_empty() {
            return "wait until they end with their tasks, or delete them: no workload can be restarted for it.".into();
        }
        let owners: Vec<&str> = self.owners.iter().map(String::as_str).collect();
        let others = if self.ownerless {
            " (those of no workload end with their tasks)"
        } else {
            ""
        };
        format!(
            "start them anew{others}: kubectl rollout restart -n {namespace} {}",
            owners.join(" ")
        )
    }
}

/// The Secret that pods take as variables, if the object asks for that.
#[must_use]
pub fn connection_secret(object: &AirflowWorkloadIdentity) -> Option<String> {
    let spec = &object.spec;
    let is_taken = spec.connection_secret.format == SecretFormat::Environment
        && spec.pods.connections != PodConnections::None;
    let first = wanted_secrets(object).into_iter().next();
    first.filter(|_| is_taken).map(|secret| secret.name)
}

fn listed(names: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).copied().collect();
    match names.len().checked_sub(NAMES) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
