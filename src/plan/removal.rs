//! The object goes: the same pipeline with nothing desired. Secret, annotations, credentials:
//! the reverse of the order in which they came.

use super::{Action, Finalizer, Plan, annotations};
use crate::{
    api::{ConditionType, DeletionPolicy},
    observe::{Existing, SecretState, Snapshot, secret_name},
};

pub(super) fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan {
        finalizer: Finalizer::Remove,
        ..Plan::of(snapshot)
    };
    match &snapshot.secret {
        Ok(SecretState::Ours { uid, .. }) => {
            let secret = Existing {
                name: secret_name(&snapshot.object),
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
    for secret in snapshot.stale_secrets.clone() {
        plan.push(Action::DeleteSecret(secret), Vec::new());
    }
    annotations::release(snapshot, &mut plan);

    let retain = snapshot.object.spec.federation.deletion_policy == DeletionPolicy::Retain;
    let has_records = snapshot.records().next().is_some();
    if let (Err(problem), false, true) = (&snapshot.issuer, retain, has_records) {
        plan.blocked
            .insert(ConditionType::CredentialsFederated, problem.clone());
        return plan;
    }
    for (identity, record) in snapshot.records() {
        plan.drop_credential(snapshot, &identity, record, retain, Vec::new());
    }
    plan
}
