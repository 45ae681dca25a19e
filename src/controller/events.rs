//! Kubernetes Events: one per kind of effect, and one when a condition turns bad or `Ready` good.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::runtime::events::{Event, EventType};

use crate::{
    api::{AirflowWorkloadIdentityStatus, ConditionType, Reason},
    apply::Outcome,
    plan::{Action, Plan},
    status::truncated,
};

/// Longest note that the API server takes.
/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>
const NOTE: usize = 1024;

/// What was done: one event per kind of effect, and one per restart.
pub(super) fn effects(plan: &Plan, outcome: &Outcome) -> Vec<Event> {
    let mut effects: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    let mut restarts = Vec::new();
    for action in outcome.done(plan) {
        let (reason, what) = effect(action);
        let (kind, name) = action.object();
        if let Action::Restart { .. } = action {
            // Of events about one object, the API server's recorder tells apart what else they concern.
            let workload = ObjectReference {
                api_version: Some("apps/v1".into()),
                kind: Some(kind.into()),
                name: Some(name.into()),
                ..ObjectReference::default()
            };
            restarts.push(Event {
                secondary: Some(workload),
                ..event(EventType::Normal, reason, &what)
            });
            continue;
        }
        effects.entry((reason, what)).or_default().push(name);
    }
    let effects = effects.into_iter();
    let events = effects.map(|((reason, what), names)| {
        event(
            EventType::Normal,
            reason,
            &format!("{what}: {}", names.join(", ")),
        )
    });
    events.chain(restarts).collect()
}

/// The conditions that turned for better or worse.
pub(super) fn changes(
    before: Option<&AirflowWorkloadIdentityStatus>,
    after: &AirflowWorkloadIdentityStatus,
) -> Vec<Event> {
    let before = before
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let changes = after.conditions.iter();
    changes.filter_map(|now| change(now, before)).collect()
}

/// The event's reason, and what was done.
fn effect(action: &Action) -> (&'static str, String) {
    match action {
        Action::PutCredential { identity, .. } => (
            "CredentialsWritten",
            format!(
                "Wrote federated credentials to identity {}",
                identity.name()
            ),
        ),
        Action::DeleteCredential { identity, .. } => (
            "CredentialsDeleted",
            format!(
                "Deleted federated credentials from identity {}",
                identity.name()
            ),
        ),
        Action::LeaveCredential { identity, .. } => (
            "CredentialsLeft",
            format!("Left federated credentials on identity {}", identity.name()),
        ),
        Action::Annotate { repair: None, .. } => (
            "ServiceAccountsAnnotated",
            "Annotated ServiceAccounts".into(),
        ),
        Action::Annotate {
            repair: Some(_), ..
        } => (
            "AnnotationsRepaired",
            "Put back annotations that were changed by hand on ServiceAccounts".into(),
        ),
        Action::Release { .. } => (
            "ServiceAccountsReleased",
            "Took the annotations back from ServiceAccounts".into(),
        ),
        Action::WriteSecret { .. } => ("ConnectionsWritten", "Wrote Secret".into()),
        Action::WriteReaderRole { .. } => ("ConnectionsWritten", "Wrote Role".into()),
        Action::DeleteReaderRole { .. } => ("ConnectionsDeleted", "Deleted Role".into()),
        Action::DeleteSecret(_) => ("ConnectionsDeleted", "Deleted Secret".into()),
        Action::Restart { workload, .. } => (
            "WorkloadRestarted",
            format!("Restarted {workload}: its pods lacked what new ones get"),
        ),
    }
}

/// A condition that fails for a new reason, or `Ready` that comes back.
fn change(now: &Condition, before: &[Condition]) -> Option<Event> {
    let before = before.iter().find(|before| before.type_ == now.type_);
    if before.is_some_and(|b| b.status == now.status && b.reason == now.reason) {
        return None;
    }
    let is = |reason: Reason| now.reason == reason.to_string();
    let is_ready = now.type_ == ConditionType::Ready.to_string();
    match (now.status.as_str(), is_ready) {
        ("True", true) => Some(event(EventType::Normal, "Ready", &now.message)),
        ("True", false) => None,
        // Nothing is wrong, or not yet.
        _ if is(Reason::Waiting) || is(Reason::Propagating) => None,
        _ if is(Reason::Suspended) => Some(event(EventType::Normal, &now.reason, &now.message)),
        // Ready repeats what the step's own condition says, unless there is none.
        (_, true) if !is(Reason::Deleting) && !is(Reason::ClusterError) => None,
        _ => Some(event(EventType::Warning, &now.reason, &now.message)),
    }
}

/// An object that does not parse; it is left alone.
pub(super) fn unreadable(error: &str) -> Event {
    let note = format!("This object cannot be read, and is left alone: {error}");
    event(EventType::Warning, &Reason::InvalidSpec.to_string(), &note)
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(truncated(note, NOTE)),
        action: "Reconcile".into(),
        secondary: None,
    }
}
