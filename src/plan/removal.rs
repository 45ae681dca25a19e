//! The object goes: the same pipeline with nothing desired. Secret, annotations, credentials:
//! the reverse of the order in which they came. A Role goes with its owner, the object.

use kube::ResourceExt;

use super::{Action, Finalizer, Plan, annotations};
use crate::{
    api::{ABANDON_ANNOTATION, ConditionType, DeletionPolicy},
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

    let policy = snapshot.object.spec.federation.deletion_policy;
    let abandon = snapshot.object.annotations().get(ABANDON_ANNOTATION);
    let retain = policy == DeletionPolicy::Retain || abandon.is_some_and(|value| value == "true");
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
