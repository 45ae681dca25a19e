//! Kubernetes Events: one per kind of effect, and one when a condition turns bad or good again.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::{
    api::AirflowWorkloadIdentityStatus,
    apply::Outcome,
    plan::{Action, Plan},
    status::truncated,
};

/// Longest note that the API server takes.
/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>
const NOTE: usize = 1024;

/// The events of a pass.
#[must_use]
pub fn events(
    plan: &Plan,
    outcome: &Outcome,
    before: Option<&AirflowWorkloadIdentityStatus>,
    after: &AirflowWorkloadIdentityStatus,
) -> Vec<Event> {
    let mut effects: BTreeMap<(&str, &str, String), Vec<String>> = BTreeMap::new();
    for (_, step) in plan
        .steps
        .iter()
        .enumerate()
        .filter(|(p, _)| outcome.is_done(*p))
    {
        let (reason, verb, what, name) = effect(&step.action);
        effects.entry((reason, verb, what)).or_default().push(name);
    }
    let effects = effects.into_iter().map(|((reason, verb, what), names)| {
        event(
            EventType::Normal,
            reason,
            format!("{verb} {what}: {names}", names = names.join(", ")),
        )
    });
    let before = before
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let changes = after
        .conditions
        .iter()
        .filter_map(|now| change(now, before));
    effects.chain(changes).collect()
}

fn effect(action: &Action) -> (&'static str, &'static str, String, String) {
    match action {
        Action::PutCredential { identity, name, .. } => (
            "CredentialsWritten",
            "Wrote",
            format!("federated credentials to identity {}", identity.name()),
            name.to_string(),
        ),
        Action::DeleteCredential { identity, record } => (
            "CredentialsDeleted",
            "Deleted",
            format!("federated credentials from identity {}", identity.name()),
            record.name.clone(),
        ),
        Action::Annotate {
            account,
            repair: false,
            ..
        } => (
            "ServiceAccountsAnnotated",
            "Annotated",
            "ServiceAccounts".into(),
            account.name.clone(),
        ),
        Action::Annotate {
            account,
            repair: true,
            ..
        } => (
            "AnnotationsRepaired",
            "Put back",
            "annotations that were changed by hand on ServiceAccounts".into(),
            account.name.clone(),
        ),
        Action::Release { account } => (
            "ServiceAccountsReleased",
            "Took annotations back",
            "from ServiceAccounts".into(),
            account.name.clone(),
        ),
        Action::WriteSecret { name, .. } => {
            ("ConnectionsWritten", "Wrote", "Secret".into(), name.clone())
        }
        Action::DeleteSecret(secret) => (
            "ConnectionsDeleted",
            "Deleted",
            "Secret".into(),
            secret.name.clone(),
        ),
    }
}

/// A condition that fails for a new reason, or `Ready` that comes back.
fn change(now: &Condition, before: &[Condition]) -> Option<Event> {
    let before = before.iter().find(|before| before.type_ == now.type_);
    let same = before.is_some_and(|b| b.status == now.status && b.reason == now.reason);
    let is_ready = now.type_ == "Ready";
    match now.status.as_str() {
        _ if same => None,
        "True" if is_ready => Some(event(EventType::Normal, "Ready", now.message.clone())),
        // Ready repeats what the step's own condition says, unless there is none.
        "False"
            if !is_ready
                || matches!(
                    now.reason.as_str(),
                    "Suspended" | "Deleting" | "ClusterError"
                ) =>
        {
            let kind = if now.reason == "Suspended" {
                EventType::Normal
            } else {
                EventType::Warning
            };
            Some(event(kind, &now.reason, now.message.clone()))
        }
        _ => None,
    }
}

fn event(type_: EventType, reason: &str, note: String) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(truncated(&note, NOTE)),
        action: "Reconcile".into(),
        secondary: None,
    }
}
