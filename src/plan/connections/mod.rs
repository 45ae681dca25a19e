//! The Secrets with the connections: each is written as Airflow reads it, and the new ones exist
//! before the old ones go.

mod render;

use self::render::render;
use super::{AccountPlan, Action, Ids, Plan, Progress, SecretPlan};
use crate::{
    api::{CONNECTION_ID_LABEL, ConditionType, Reason, account_field_manager},
    observe::{SecretState, Snapshot, checksum},
    problem::{Problem, Retry},
    secrets::{WantedSecret, wanted_secrets},
};

/// Plans the Secrets that the spec asks for, and the end of all others of this object.
pub(super) fn plan(snapshot: &Snapshot, plan: &mut Plan) {
    let Some(ids) = plan.ids else {
        let problem = Problem::on_change(Reason::Waiting, "The identity must be known first.");
        plan.blocked
            .insert(ConditionType::ConnectionsWritten, problem);
        return;
    };
    if all_go_by_another_identity(snapshot, plan, ids) {
        let problem = Problem::on_change(
            Reason::Waiting,
            "No ServiceAccount goes by the identity yet; until one does, the connections stay as they are.",
        );
        plan.blocked
            .insert(ConditionType::ConnectionsWritten, problem);
        return;
    }
    for wanted in wanted_secrets(&snapshot.object) {
        let data = render(wanted.content, ids);
        let checksum = checksum(&data);
        let progress = match compare(snapshot, &wanted, &checksum) {
            Compared::Same => Progress::Holds,
            Compared::InTheWay(problem) => Progress::Blocked(problem),
            Compared::Different { replaces } => {
                let action = Action::WriteSecret {
                    name: wanted.name.clone(),
                    labels: wanted.labels(),
                    data,
                    checksum: checksum.clone(),
                    replaces,
                };
                Progress::Pending(plan.push(action, Vec::new()))
            }
        };
        plan.secrets.push(SecretPlan {
            name: wanted.name,
            checksum,
            progress,
        });
    }
    // The new ones exist before the old ones go.
    let mut after = Vec::new();
    for secret in &plan.secrets {
        match secret.progress {
            Progress::Holds => {}
            Progress::Pending(step) => after.push(step),
            Progress::Blocked(_) | Progress::Unverified(_) => return,
        }
    }
    for secret in snapshot.stale_secrets.clone() {
        plan.push(Action::DeleteSecret(secret), after.clone());
    }
}

/// Whether the accounts carry another client ID, and none can take the identity's: connections that name it would fail
/// in all pods.
fn all_go_by_another_identity(snapshot: &Snapshot, plan: &Plan, ids: Ids) -> bool {
    let manager = account_field_manager(&snapshot.name());
    let client = ids.client.to_string();
    let goes_by_another = |account: &AccountPlan| {
        let accounts = &snapshot.discovery.accounts;
        let found = accounts.iter().find(|found| found.name == account.name);
        let state = found.and_then(|found| found.state.as_ref());
        matches!(account.annotation, Progress::Blocked(_))
            && state.is_some_and(|state| {
                let annotated = state.client_id.value.as_ref();
                state.is_managed_by(&manager) && annotated.is_some_and(|value| *value != client)
            })
    };
    !plan.accounts.is_empty() && plan.accounts.iter().all(goes_by_another)
}

/// A Secret as it is, compared with what it should be.
enum Compared {
    Same,
    /// The version that is replaced; none if there is no such Secret.
    Different {
        replaces: Option<String>,
    },
    InTheWay(Problem),
}

fn compare(snapshot: &Snapshot, wanted: &WantedSecret, wanted_checksum: &str) -> Compared {
    if let Some(problem) = rival(snapshot, wanted) {
        return Compared::InTheWay(problem);
    }
    let replaces = match snapshot.secrets.get(&wanted.name) {
        Some(Err(problem)) => return Compared::InTheWay(problem.clone()),
        Some(Ok(SecretState::Foreign)) => {
            return Compared::InTheWay(foreign(&wanted.name, &snapshot.namespace));
        }
        Some(Ok(SecretState::Ours {
            checksum,
            is_marked,
            resource_version,
            ..
        })) => {
            if *is_marked && checksum == wanted_checksum {
                return Compared::Same;
            }
            resource_version.clone()
        }
        Some(Ok(SecretState::Absent)) | None => None,
    };
    Compared::Different { replaces }
}

fn foreign(name: &str, namespace: &str) -> Problem {
    Problem {
        reason: Reason::Conflict,
        message: format!(
            "Secret {name} exists and was not made for this object. It is left alone. Set spec.connectionSecret.name to another name, or delete it: kubectl delete secret {name} -n {namespace}"
        ),
        retry: Retry::Backoff,
    }
}

/// Of two Secrets with one connection ID, the Kubernetes secrets backend takes either.
fn rival(snapshot: &Snapshot, wanted: &WantedSecret) -> Option<Problem> {
    let id = wanted.connection_id()?;
    let rival = snapshot.rival_secrets.get(id)?;
    Some(Problem {
        reason: Reason::Conflict,
        message: format!(
            "Secret {rival} has the label {CONNECTION_ID_LABEL}={id}, too, and was not made for this object; Airflow would take either. Give the connection another ID, or remove the label: kubectl label secret {rival} -n {namespace} {CONNECTION_ID_LABEL}-",
            namespace = snapshot.namespace,
        ),
        retry: Retry::Backoff,
    })
}
