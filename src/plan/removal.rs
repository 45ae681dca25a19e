//! The object goes: the same pipeline with nothing desired. Secret, annotations, credentials:
//! the reverse of the order in which they came. A Role goes with its owner, the object.

use super::{Action, Finalizer, Plan, annotations, credentials::Keep};
use crate::{
    api::ConditionType,
    observe::{Existing, SecretState, Snapshot},
};

pub(super) fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan {
        finalizer: Finalizer::Remove,
        ..Plan::of(snapshot)
    };
    for (name, state) in &snapshot.secrets {
        match state {
            Ok(SecretState::Ours { uid, .. }) => {
                let secret = Existing {
                    name: name.clone(),
                    uid: uid.clone(),
                };
                plan.push(Action::DeleteSecret(secret), Vec::new());
            }
            Ok(SecretState::Absent | SecretState::Foreign) => {}
            Err(problem) => {
                plan.blocked
                    .insert(ConditionType::ConnectionsWritten, problem.clone());
            }
        }
    }
    for secret in snapshot.stale_secrets.clone() {
        plan.push(Action::DeleteSecret(secret), Vec::new());
    }
    annotations::release(snapshot, &mut plan);

    let keep = Keep::of(snapshot);
    let has_records = snapshot.records().next().is_some();
    if let Err(problem) = &snapshot.issuer
        && keep != Keep::All
        && has_records
    {
        plan.blocked
            .insert(ConditionType::CredentialsFederated, problem.clone());
        return plan;
    }
    for (identity, record) in snapshot.records() {
        plan.drop_credential(snapshot, &identity, record, keep, Vec::new());
    }
    plan
}
