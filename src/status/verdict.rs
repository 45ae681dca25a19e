//! Whether a step is done, and if not, the first reason why.

use std::collections::BTreeSet;

use crate::{
    api::{ConditionType, Reason},
    apply::{Outcome, StepResult},
    observe::Snapshot,
    plan::{AccountPlan, Action, Plan, Progress},
    problem::{Problem, Retry},
};

/// A condition to be.
pub(super) enum Verdict {
    True(String),
    False(Problem),
    Unknown(Problem),
}

/// What is waited for is not known to be wrong.
impl From<Problem> for Verdict {
    fn from(problem: Problem) -> Self {
        match problem.reason {
            Reason::Waiting => Self::Unknown(problem),
            _ => Self::False(problem),
        }
    }
}

impl Verdict {
    pub(super) fn problem(&self) -> Option<&Problem> {
        match self {
            Self::True(_) => None,
            Self::False(problem) | Self::Unknown(problem) => Some(problem),
        }
    }
}

/// The condition of one step, with a note where it is done.
pub(super) fn verdict(
    step: ConditionType,
    note: Option<&str>,
    snapshot: &Snapshot,
    plan: &Plan,
    outcome: &Outcome,
) -> Verdict {
    if let Some(problem) = plan.blocked.get(&step) {
        return problem.clone().into();
    }
    let done = |text: String| match note {
        Some(note) => Verdict::True(format!("{text} {note}")),
        None => Verdict::True(text),
    };
    match step {
        // Not steps: each is worked out by itself.
        ConditionType::Ready | ConditionType::PodsInjected | ConditionType::ExchangeVerified => {
            done(String::new())
        }
        ConditionType::Granted => match &snapshot.identity {
            Ok(_) => done("An AzureIdentityGrant covers the identity and the accounts.".into()),
            Err(_) => waiting("The identity's resource ID must be valid first."),
        },
        ConditionType::IdentityResolved => match (plan.ids, &plan.issuer) {
            (Some(ids), Some(issuer)) => done(format!(
                "Client ID {client}, tenant ID {tenant}; the cluster's issuer is {issuer}.",
                client = ids.client,
                tenant = ids.tenant,
            )),
            _ => waiting("A grant must cover the identity first."),
        },
        ConditionType::CredentialsFederated => {
            let removals = removals(plan, outcome);
            accounts_verdict(
                plan,
                outcome,
                |a| &a.credential,
                removals,
                done,
                "has a federated credential",
            )
        }
        ConditionType::ServiceAccountsAnnotated => accounts_verdict(
            plan,
            outcome,
            |a| &a.annotation,
            Vec::new(),
            done,
            "carries the client and tenant ID",
        ),
        ConditionType::ConnectionsWritten => secrets_verdict(plan, outcome, done),
    }
}

/// Credentials that should go and did not.
fn removals(plan: &Plan, outcome: &Outcome) -> Vec<Problem> {
    plan.steps
        .iter()
        .zip(&outcome.results)
        .filter_map(|(step, result)| match (&step.action, result) {
            (
                Action::DeleteCredential { .. } | Action::LeaveCredential { .. },
                StepResult::Failed(problem),
            ) => Some(problem.clone()),
            _ => None,
        })
        .collect()
}

fn accounts_verdict(
    plan: &Plan,
    outcome: &Outcome,
    part: impl Fn(&AccountPlan) -> &Progress,
    more: Vec<Problem>,
    done: impl Fn(String) -> Verdict,
    what: &str,
) -> Verdict {
    if plan.accounts.is_empty() && more.is_empty() {
        return waiting("There is no ServiceAccount yet.");
    }
    let mut unverified = Vec::new();
    let mut failed = Vec::new();
    for account in &plan.accounts {
        match state(part(account), outcome) {
            State::Holds => {}
            State::Unverified(problem) => unverified.push(problem),
            // `Granted` says so; nothing else is wrong with this step.
            State::Not(problem) if problem.reason == Reason::NotGranted => {
                let message = "An AzureIdentityGrant must cover every account first.";
                failed.push(Problem::on_change(Reason::Waiting, message));
            }
            State::Not(problem) => failed.push(problem),
        }
    }
    failed.extend(more);
    // As in `Ready`: that which is waited for says more.
    failed.sort_by_key(|problem| problem.reason == Reason::Waiting);
    match (failed.is_empty(), unverified.is_empty()) {
        (true, true) => done(format!("Every ServiceAccount {what}.")),
        (true, false) => Verdict::Unknown(merged(unverified)),
        (false, _) => merged(failed).into(),
    }
}

fn secrets_verdict(plan: &Plan, outcome: &Outcome, done: impl Fn(String) -> Verdict) -> Verdict {
    let secrets = plan.secrets.iter().map(|secret| &secret.progress);
    let mut problems: Vec<Problem> = secrets
        .chain(&plan.reader_role)
        .filter_map(|progress| match state(progress, outcome) {
            State::Holds => None,
            State::Not(problem) | State::Unverified(problem) => Some(problem),
        })
        .collect();
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.reason == Reason::Waiting);
        return merged(problems).into();
    }
    let names: Vec<&str> = plan.secrets.iter().map(|s| s.name.as_str()).collect();
    match names.as_slice() {
        [] => done("The object asks for no connection.".into()),
        names => done(format!("Written: Secret {}.", names.join(", "))),
    }
}

/// The first problem, with the messages of all others that say something new.
pub(super) fn merged(problems: Vec<Problem>) -> Problem {
    let mut seen = BTreeSet::new();
    let mut problems = problems
        .into_iter()
        .filter(|problem| seen.insert(problem.message.clone()));
    let mut first = problems
        .next()
        .unwrap_or_else(|| Problem::on_change(Reason::Waiting, ""));
    for problem in problems.filter(|problem| problem.reason != Reason::Waiting) {
        first.message = format!("{}\n{}", first.message, problem.message);
    }
    first
}

pub(super) fn waiting(message: &str) -> Verdict {
    Verdict::Unknown(Problem::on_change(Reason::Waiting, message))
}

/// How far a part is after the steps were taken.
pub(super) enum State {
    Holds,
    Unverified(Problem),
    Not(Problem),
}

pub(super) fn state(progress: &Progress, outcome: &Outcome) -> State {
    match progress {
        Progress::Holds => State::Holds,
        Progress::Unverified(problem) => State::Unverified(problem.clone()),
        Progress::Blocked(problem) => State::Not(problem.clone()),
        Progress::Pending(step) => match outcome.results.get(*step) {
            Some(StepResult::Done) => State::Holds,
            Some(StepResult::Failed(problem)) => State::Not(problem.clone()),
            Some(StepResult::Skipped) => State::Not(Problem {
                reason: Reason::Waiting,
                message: "An earlier step failed.".into(),
                retry: Retry::Backoff,
            }),
            None => State::Not(Problem::on_change(
                Reason::Waiting,
                "It is being written; writes to one identity take turns.",
            )),
        },
    }
}
