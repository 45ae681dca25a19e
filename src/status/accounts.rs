//! What the status says of each ServiceAccount.

use jiff::Timestamp;

use super::{
    propagation, truncated,
    verdict::{State, state},
};
use crate::{
    api::{AirflowWorkloadIdentityStatus, Reason, ServiceAccountStatus},
    apply::Outcome,
    observe::Snapshot,
    plan::{AccountPlan, Action, Plan},
    problem::Problem,
};

/// Longest message of an account, as the schema has it.
const ACCOUNT_MESSAGE: usize = 1024;
/// Most accounts that the schema takes; Azure's limit per identity is far below.
const MAX_ACCOUNTS: usize = 64;

pub(super) fn accounts(
    plan: &Plan,
    outcome: &Outcome,
    before: &AirflowWorkloadIdentityStatus,
    now: Timestamp,
) -> Vec<ServiceAccountStatus> {
    let accounts = plan.accounts.iter().take(MAX_ACCOUNTS);
    accounts
        .map(|account| account_status(account, outcome, before, now))
        .collect()
}

fn account_status(
    account: &AccountPlan,
    outcome: &Outcome,
    before: &AirflowWorkloadIdentityStatus,
    now: Timestamp,
) -> ServiceAccountStatus {
    let before = before
        .service_accounts
        .iter()
        .find(|before| before.name == account.name);
    let credential = state(&account.credential, outcome);
    let annotation = state(&account.annotation, outcome);
    let message = match (&credential, &annotation) {
        (State::Not(problem) | State::Unverified(problem), _) | (_, State::Not(problem)) => {
            Some(truncated(&problem.message, ACCOUNT_MESSAGE))
        }
        _ => None,
    };
    // A credential that cannot be written anew does not take an annotation away.
    let annotated_before = before.is_some_and(|a| a.annotated && a.uid == account.uid);
    let is_waiting =
        matches!(&annotation, State::Not(problem) if problem.reason == Reason::Waiting);
    ServiceAccountStatus {
        name: account.name.clone(),
        components: account.components.iter().copied().collect(),
        subject: account.subject.to_string(),
        credential_name: account.credential_name.clone(),
        uid: account.uid.clone(),
        federated: !matches!(credential, State::Not(_)),
        federated_at: propagation::federated_at(account, outcome, before, now),
        annotated: !matches!(annotation, State::Not(_)) || is_waiting && annotated_before,
        injection: None,
        message,
    }
}

/// What a suspended object has lost because it is no longer granted, if it has lost anything.
pub(super) fn revoked(
    status: &AirflowWorkloadIdentityStatus,
    snapshot: &Snapshot,
) -> Option<Problem> {
    let is_refused = |account: &&ServiceAccountStatus| match &snapshot.identity {
        Ok(identity) => !snapshot.covers(identity, &account.name),
        Err(_) => false,
    };
    let accounts = status.service_accounts.iter();
    let gone: Vec<&str> = accounts
        .filter(|account| !account.federated)
        .filter(is_refused)
        .map(|account| account.subject.as_str())
        .collect();
    let message = format!(
        "No AzureIdentityGrant covers these, so they have no credential any longer: {}",
        gone.join(", ")
    );
    (!gone.is_empty()).then(|| Problem::on_change(Reason::NotGranted, message))
}

/// A suspended object loses what is no longer granted, now or in a pass that could not tell, and says so.
pub(super) fn strike_revoked(
    status: &mut AirflowWorkloadIdentityStatus,
    plan: &Plan,
    outcome: &Outcome,
) {
    let deleted = |subject: &str| {
        let mut forgotten = plan.forgotten.iter();
        forgotten.any(|record| record.subject == subject)
            || outcome.done(plan).any(|action| {
                matches!(action, Action::DeleteCredential { record, .. } if record.subject == subject)
            })
    };
    for account in &mut status.service_accounts {
        account.federated &= !deleted(&account.subject);
        account.injection.take_if(|_| !account.federated);
    }
    status.accounts = Some(count(&status.service_accounts));
}

/// How many of the accounts are federated and annotated.
pub(super) fn count(accounts: &[ServiceAccountStatus]) -> String {
    let done = accounts.iter().filter(|a| a.federated && a.annotated);
    format!("{}/{}", done.count(), accounts.len())
}
