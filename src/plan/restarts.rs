//! The restart of what runs pods that started too early.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Action, Finalizer, LOOK_AGAIN, Plan, Progress, SecretPlan};
use crate::{
    api::{AirflowWorkloadIdentityStatus, Injection, Restart, SecretStatus, ServiceAccountStatus},
    observe::{PodOwner, Restartable, Snapshot},
    pods::{LAG, injected, lack},
};

/// Plans the restarts that the spec asks for.
pub(super) fn plan(snapshot: &Snapshot, plan: &mut Plan) {
    let Some(status) = &snapshot.object.status else {
        return;
    };
    let mut due: BTreeMap<&PodOwner, (&Restartable, Timestamp)> = BTreeMap::new();
    for account in &status.service_accounts {
        let (Some(injection), Some(client_id)) = (&account.injection, &status.client_id) else {
            continue;
        };
        for pod in snapshot.pods.get(&account.name).into_iter().flatten() {
            let Some(lack) = lack(pod, injection, client_id, &snapshot.audience) else {
                continue;
            };
            // One that comes or goes wakes nobody.
            plan.look_again = Some(LOOK_AGAIN);
            if let Some(owner) = &pod.owner
                && let Some(workload) = snapshot.restartable.get(owner)
                && workload.made(owner, pod, &account.name)
                && lack.is_early
                && is_settled(snapshot, plan, status, account, injection)
            {
                due.insert(owner, (workload, injection.since.0));
            }
        }
    }
    for (owner, (workload, since)) in due {
        let change = since.to_string();
        // Once per change: what a restart did not mend, a second one will not.
        if workload.restarted_for.as_ref() != Some(&change) {
            let action = Action::Restart {
                workload: owner.clone(),
                uid: workload.uid.clone(),
                change,
            };
            plan.push(action, Vec::new());
        }
    }
}

/// Whether pods of the account may be restarted now. The status must have said for a while what new
/// pods get, and nothing of it may be about to change; and Entra must know the credential
/// everywhere, or it would answer the first requests from old data, and go on to do so for minutes.
/// <https://azure.github.io/azure-workload-identity/docs/known-issues.html>
fn is_settled(
    snapshot: &Snapshot,
    plan: &Plan,
    status: &AirflowWorkloadIdentityStatus,
    account: &ServiceAccountStatus,
    injection: &Injection,
) -> bool {
    let holds = |progress: &Progress| matches!(progress, Progress::Holds);
    let mut planned = plan.accounts.iter();
    let secrets: Vec<SecretStatus> = plan.secrets.iter().map(SecretPlan::to_status).collect();
    snapshot.object.spec.pods.restart == Restart::OnChange
        && plan.finalizer == Finalizer::Keep
        && plan.ids.map(|ids| ids.client.to_string()) == status.client_id
        && plan.secrets.iter().all(|secret| holds(&secret.progress))
        && planned.any(|planned| {
            planned.name == account.name
                && planned.uid == account.uid
                && holds(&planned.credential)
                && holds(&planned.annotation)
        })
        && injected(snapshot, &account.name, &secrets)
            == (injection.secrets.clone(), injection.checksum.clone())
        && snapshot.now.duration_since(injection.since.0) >= LAG
        && !snapshot.settling.contains(&account.subject)
}
