//! What the user reads: pure, from what was seen, planned and done.

mod accounts;
mod conditions;
mod exchange;
mod pods;
mod propagation;
mod verdict;

use jiff::Timestamp;

use self::{
    accounts::{accounts, count, revoked, strike_revoked},
    conditions::Conditions,
    verdict::{State, Verdict, state, verdict},
};
pub use self::{
    exchange::exchanges_in,
    pods::{by_hand, connection_secret, restart_failed, shortfall},
    propagation::settles_in,
};
use crate::{
    api::{
        AirflowStatus, AirflowWorkloadIdentityStatus, ConditionType, CredentialRecord, Reason,
        SecretStatus,
    },
    apply::{Outcome, StepResult},
    azure::AzureErrorKind,
    observe::Snapshot,
    plan::{Action, Plan, Progress},
    problem::Problem,
};

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
        if snapshot.exchanges.is_none() {
            conditions.drop(ConditionType::ExchangeVerified);
        }
        conditions.set(ConditionType::Ready, &Verdict::False(problem));
        let mut status = AirflowWorkloadIdentityStatus {
            observed_generation: generation,
            credentials: credentials(plan, outcome),
            reader_role: has_reader_role(plan, outcome, before.reader_role),
            ..before.clone()
        };
        strike_revoked(&mut status, plan, outcome);
        if plan.halted.is_some() {
            let granted = verdict(ConditionType::Granted, None, snapshot, plan, outcome);
            conditions.set(ConditionType::Granted, &granted);
            if let Some(problem) = revoked(&status, snapshot) {
                conditions.set(
                    ConditionType::CredentialsFederated,
                    &Verdict::False(problem),
                );
            }
        }
        status.conditions = conditions.all();
        return status;
    }

    let is_same_identity = snapshot.is_granted() && !has_moved(snapshot);
    let client_id = plan
        .ids
        .map(|ids| ids.client.to_string())
        .or(before.client_id.clone().filter(|_| is_same_identity));
    let secrets = secrets(plan, outcome, before.secrets.clone());
    let mut accounts = accounts(plan, outcome, &before, now);
    // What cannot be written now does not take away what pods get.
    let written = all_written(plan, outcome).then_some(secrets.as_slice());
    for account in &mut accounts {
        account.injection = pods::injection(snapshot, account, client_id.as_deref(), written, now);
    }
    let mut notes = plan.notes.clone();
    // What else is to be said of them waits until they have settled: the status is written again then. Or each that
    // comes near the identity's limit would have all its objects write theirs once more.
    let fresh = propagation::note(&accounts, now);
    notes.extend(fresh.map(|note| (ConditionType::CredentialsFederated, note)));
    let steps = ConditionType::STEPS.map(|step| {
        let note = notes.get(&step).map(String::as_str);
        (step, verdict(step, note, snapshot, plan, outcome))
    });
    // What waits for something else says less than that which it waits for.
    let problems = || steps.iter().filter_map(|(_, verdict)| verdict.problem());
    let ready = problems()
        .find(|problem| problem.reason != Reason::Waiting)
        .or_else(|| problems().next())
        .map_or_else(
            || {
                Verdict::True(
                    "Every ServiceAccount is federated with the identity and annotated, and the connections are written."
                        .into(),
                )
            },
            |problem| Verdict::False(problem.clone()),
        );
    conditions.set(ConditionType::Ready, &ready);
    for (step, verdict) in &steps {
        conditions.set(*step, verdict);
    }
    let injected = pods::verdict(snapshot, plan, outcome, &accounts, client_id.as_deref());
    conditions.set(ConditionType::PodsInjected, &injected);
    if let Some(exchanges) = &snapshot.exchanges {
        let verdict = exchange::verdict(exchanges, &accounts, now);
        conditions.set(ConditionType::ExchangeVerified, &verdict);
    }

    AirflowWorkloadIdentityStatus {
        observed_generation: generation,
        client_id,
        tenant_id: plan
            .ids
            .map(|ids| ids.tenant.to_string())
            .or(before.tenant_id.filter(|_| is_same_identity)),
        issuer: plan
            .issuer
            .as_ref()
            .map(ToString::to_string)
            .or(before.issuer),
        airflow: recognised(snapshot, before.airflow.as_ref()),
        accounts: Some(count(&accounts)),
        service_accounts: accounts,
        credentials: credentials(plan, outcome),
        secrets,
        reader_role: has_reader_role(plan, outcome, before.reader_role),
        conditions: conditions.all(),
    }
}

/// The Airflow that is meant, if it was ever seen: a name that led nowhere is forgotten with the
/// spec that had it.
fn recognised(snapshot: &Snapshot, before: Option<&AirflowStatus>) -> Option<AirflowStatus> {
    let install = snapshot.discovery.install.as_ref()?;
    let meant = install.to_status();
    let is_there = snapshot.discovery.installs.contains(install);
    (is_there || before == Some(&meant)).then_some(meant)
}

/// Whether the IDs in the status may be those of another identity than the spec names: Azure
/// has no such identity, or all that was recorded is on others.
fn has_moved(snapshot: &Snapshot) -> bool {
    let Ok(identity) = &snapshot.identity else {
        return true;
    };
    let is_missing = snapshot.azure.get(identity).is_some_and(
        |view| matches!(&view.identity, Err(error) if error.kind == AzureErrorKind::NotFound),
    );
    let mut recorded = snapshot.records().map(|(identity, _)| identity).peekable();
    is_missing || recorded.peek().is_some() && recorded.all(|other| other != *identity)
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
        .chain(plan.secrets.iter().map(|secret| &secret.progress))
        .chain(&plan.reader_role);
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
    let problems = problems(plan, outcome);
    // What it only waits for ends by itself.
    let is_held = problems
        .iter()
        .any(|problem| problem.reason != Reason::Waiting);
    let mut held: Vec<String> = problems
        .into_iter()
        .map(|problem| problem.message)
        .collect();
    held.dedup();
    if is_held {
        held.push(format!(
            "To let it go all the same and leave its credentials on the identity: {}",
            snapshot.abandon_command(),
        ));
    }
    let message = format!(
        "The object stays until its traces are gone. {}",
        held.join(" ")
    );
    Some(Problem::on_change(Reason::Deleting, message))
}

fn credentials(plan: &Plan, outcome: &Outcome) -> Vec<CredentialRecord> {
    let let_go = |record: &&CredentialRecord| {
        outcome.done(plan).any(|action| {
            matches!(action,
                Action::DeleteCredential { record: gone, may_return: false, .. }
                | Action::LeaveCredential { record: gone, .. } if gone == *record)
        })
    };
    // Until it is overwritten it is still what it was.
    let waits = |record: &CredentialRecord| {
        let mut steps = plan.steps.iter().enumerate();
        steps.any(|(position, step)| match &step.action {
            Action::PutCredential { identity, name, .. } => {
                record.identity.parse().as_ref() == Ok(identity)
                    && record.name.eq_ignore_ascii_case(name.as_str())
                    && !outcome.is_done(position)
            }
            _ => false,
        })
    };
    let kept = plan
        .records
        .iter()
        .filter(|record| (!plan.forgotten.contains(*record) || waits(record)) && !let_go(record));
    kept.cloned().collect()
}

/// Those that are as they should be, and what was said before of those that are not; and of all
/// of them if it is not known what they should be.
fn secrets(plan: &Plan, outcome: &Outcome, before: Vec<SecretStatus>) -> Vec<SecretStatus> {
    if plan
        .blocked
        .contains_key(&ConditionType::ConnectionsWritten)
    {
        return before;
    }
    let now = plan.secrets.iter().filter_map(|secret| {
        if matches!(state(&secret.progress, outcome), State::Holds) {
            return Some(secret.to_status());
        }
        before.iter().find(|b| b.name == secret.name).cloned()
    });
    now.collect()
}

/// Whether each Secret that the object asks for is there as it should be.
fn all_written(plan: &Plan, outcome: &Outcome) -> bool {
    let is_blocked = plan
        .blocked
        .contains_key(&ConditionType::ConnectionsWritten);
    let mut secrets = plan.secrets.iter();
    !is_blocked && secrets.all(|secret| matches!(state(&secret.progress, outcome), State::Holds))
}

/// Whether there may be a Role that has to be looked for when it is no longer asked for.
fn has_reader_role(plan: &Plan, outcome: &Outcome, before: bool) -> bool {
    let mut done = outcome.done(plan);
    let is_gone = done.any(|action| matches!(action, Action::DeleteReaderRole { .. }));
    !is_gone && (plan.reader_role.is_some() || before)
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
