//! What the user reads: pure, from what was seen, planned and done.

mod conditions;
mod verdict;

use jiff::Timestamp;

use self::{
    conditions::Conditions,
    verdict::{State, Verdict, state, verdict},
};
use crate::{
    api::{
        AirflowWorkloadIdentityStatus, ConditionType, CredentialRecord, Reason, SecretStatus,
        ServiceAccountStatus,
    },
    apply::{Outcome, StepResult},
    observe::Snapshot,
    plan::{AccountPlan, Action, Plan, Progress},
    problem::Problem,
};

/// Longest message of an account, as the schema has it.
const ACCOUNT_MESSAGE: usize = 1024;
/// Most accounts that the schema takes; Azure's limit per identity is far below.
const MAX_ACCOUNTS: usize = 64;

/// The status after a pass. Times of conditions that did not change are kept.
#[must_use]
pub fn status(
    snapshot: &Snapshot,
    plan: &Plan,
    outcome: &Outcome,
    now: Timestamp,
) -> AirflowWorkloadIdentityStatus {
    let before = snapshot.object.status.clone().unwrap_or_default();
    let generation = snapshot.object.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, now);

    if let Some(problem) = halted(snapshot, plan, outcome) {
        conditions.keep_all();
        conditions.set(ConditionType::Ready, &Verdict::False(problem));
        return AirflowWorkloadIdentityStatus {
            observed_generation: generation,
            conditions: conditions.all(),
            credentials: credentials(plan, outcome),
            ..before
        };
    }

    let steps: Vec<(ConditionType, Verdict)> = ConditionType::STEPS
        .into_iter()
        .map(|step| (step, verdict(step, snapshot, plan, outcome)))
        .collect();
    // What waits for something else says less than that which it waits for.
    let problems = || steps.iter().filter_map(|(_, verdict)| verdict.problem());
    let ready = problems()
        .find(|problem| problem.reason != Reason::Waiting)
        .or_else(|| problems().next())
        .map_or_else(
            || {
                Verdict::True(format!(
                    "{} ServiceAccounts can reach Azure as the identity.",
                    plan.accounts.len()
                ))
            },
            |problem| Verdict::False(problem.clone()),
        );
    conditions.set(ConditionType::Ready, &ready);
    for (step, verdict) in &steps {
        conditions.set(*step, verdict);
    }

    let accounts: Vec<ServiceAccountStatus> = plan
        .accounts
        .iter()
        .take(MAX_ACCOUNTS)
        .map(|account| account_status(account, outcome, &before))
        .collect();
    let done = accounts
        .iter()
        .filter(|account| account.federated && account.annotated)
        .count();
    AirflowWorkloadIdentityStatus {
        observed_generation: generation,
        client_id: plan
            .ids
            .map(|ids| ids.client.to_string())
            .or(before.client_id.filter(|_| snapshot.is_granted())),
        tenant_id: plan
            .ids
            .map(|ids| ids.tenant.to_string())
            .or(before.tenant_id.filter(|_| snapshot.is_granted())),
        issuer: plan
            .issuer
            .as_ref()
            .map(ToString::to_string)
            .or(before.issuer),
        accounts: Some(format!("{done}/{}", accounts.len())),
        service_accounts: accounts,
        credentials: credentials(plan, outcome),
        connection_secret: match &plan.secret {
            Some(secret) if matches!(state(&secret.progress, outcome), State::Holds) => {
                Some(SecretStatus {
                    name: secret.name.clone(),
                    checksum: secret.checksum.clone(),
                })
            }
            _ => before.connection_secret,
        },
        conditions: conditions.all(),
    }
}

/// Everything that went wrong; it decides when to try again.
#[must_use]
pub fn problems(plan: &Plan, outcome: &Outcome) -> Vec<Problem> {
    let failed = outcome.results.iter().filter_map(|result| match result {
        StepResult::Failed(problem) => Some(problem),
        StepResult::Done | StepResult::Skipped => None,
    });
    let progresses = plan
        .accounts
        .iter()
        .flat_map(|account| [&account.credential, &account.annotation])
        .chain(plan.secret.as_ref().map(|secret| &secret.progress));
    let blocked = progresses.filter_map(|progress| match progress {
        Progress::Blocked(problem) | Progress::Unverified(problem) => Some(problem),
        Progress::Holds | Progress::Pending(_) => None,
    });
    let all = plan
        .blocked
        .values()
        .chain(&plan.halted)
        .chain(&outcome.failed)
        .chain(failed)
        .chain(blocked);
    all.cloned().collect()
}

/// Why the conditions beneath `Ready` do not speak this time.
fn halted(snapshot: &Snapshot, plan: &Plan, outcome: &Outcome) -> Option<Problem> {
    if let Some(problem) = plan.halted.as_ref().or(outcome.failed.as_ref()) {
        return Some(problem.clone());
    }
    if !snapshot.is_deleting() {
        return None;
    }
    let mut held: Vec<String> = problems(plan, outcome)
        .into_iter()
        .map(|problem| problem.message)
        .collect();
    held.dedup();
    let message = format!(
        "The object stays until its traces are gone. {}",
        held.join(" ")
    );
    Some(Problem::on_change(Reason::Deleting, message))
}

fn account_status(
    account: &AccountPlan,
    outcome: &Outcome,
    before: &AirflowWorkloadIdentityStatus,
) -> ServiceAccountStatus {
    let credential = state(&account.credential, outcome);
    let annotation = state(&account.annotation, outcome);
    let message = match (&credential, &annotation) {
        (State::Not(problem) | State::Unverified(problem), _) | (_, State::Not(problem)) => {
            Some(truncated(&problem.message, ACCOUNT_MESSAGE))
        }
        _ => None,
    };
    // A credential that cannot be written anew does not take an annotation away.
    let annotated_before = before
        .service_accounts
        .iter()
        .any(|a| a.name == account.name && a.annotated && a.uid == account.uid);
    let is_waiting =
        matches!(&annotation, State::Not(problem) if problem.reason == Reason::Waiting);
    ServiceAccountStatus {
        name: account.name.clone(),
        components: account.components.iter().copied().collect(),
        subject: account.subject.to_string(),
        credential_name: account.credential_name.clone(),
        uid: account.uid.clone(),
        federated: !matches!(credential, State::Not(_)),
        annotated: !matches!(annotation, State::Not(_)) || is_waiting && annotated_before,
        message,
    }
}

fn credentials(plan: &Plan, outcome: &Outcome) -> Vec<CredentialRecord> {
    let deleted = |record: &&CredentialRecord| {
        plan.steps.iter().enumerate().any(|(position, step)| {
            matches!(&step.action, Action::DeleteCredential { record: gone, .. } if gone == *record)
                && outcome.is_done(position)
        })
    };
    let kept = plan
        .records
        .iter()
        .filter(|record| !plan.forgotten.contains(*record) && !deleted(record));
    kept.cloned().collect()
}

/// At most `max` bytes, cut between characters.
#[must_use]
pub fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max - '…'.len_utf8())
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}
