//! What the user reads: pure, from what was seen, planned and done.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        AirflowWorkloadIdentityStatus, ConditionType, CredentialRecord, Reason, SecretStatus,
        ServiceAccountStatus,
    },
    apply::{Outcome, StepResult},
    observe::Snapshot,
    plan::{AccountPlan, Action, Plan, Progress},
    problem::{Problem, Retry},
};

/// Longest message of an account, as the schema has it.
const ACCOUNT_MESSAGE: usize = 1024;
/// Longest message of a condition.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/condition/>
const CONDITION_MESSAGE: usize = 8 * 1024;
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
    let mut conditions = Conditions {
        before: &before.conditions,
        generation,
        now,
        all: Vec::new(),
    };

    if let Some(problem) = halted(snapshot, plan, outcome) {
        conditions.keep_all();
        conditions.set(ConditionType::Ready, &Verdict::False(problem));
        return AirflowWorkloadIdentityStatus {
            observed_generation: generation,
            conditions: conditions.all,
            credentials: match plan.halted {
                Some(_) => before.credentials,
                None => credentials(plan, outcome),
            },
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
            .or(before.client_id.filter(|_| !snapshot.grants.is_empty())),
        tenant_id: plan
            .ids
            .map(|ids| ids.tenant.to_string())
            .or(before.tenant_id.filter(|_| !snapshot.grants.is_empty())),
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
        conditions: conditions.all,
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

/// A condition to be.
enum Verdict {
    True(String),
    False(Problem),
    Unknown(Problem),
}

impl Verdict {
    fn problem(&self) -> Option<&Problem> {
        match self {
            Self::True(_) => None,
            Self::False(problem) | Self::Unknown(problem) => Some(problem),
        }
    }
}

fn verdict(step: ConditionType, snapshot: &Snapshot, plan: &Plan, outcome: &Outcome) -> Verdict {
    if let Some(problem) = plan.blocked.get(&step) {
        return match problem.reason {
            Reason::Waiting => Verdict::Unknown(problem.clone()),
            _ => Verdict::False(problem.clone()),
        };
    }
    let done = |text: String| match plan.notes.get(&step) {
        Some(note) => Verdict::True(format!("{text} {note}")),
        None => Verdict::True(text),
    };
    match step {
        ConditionType::Ready => done(String::new()),
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
                "have a federated credential",
            )
        }
        ConditionType::ServiceAccountsAnnotated => accounts_verdict(
            plan,
            outcome,
            |a| &a.annotation,
            Vec::new(),
            done,
            "carry the client and tenant ID",
        ),
        ConditionType::ConnectionsWritten => match &plan.secret {
            None => waiting("The identity must be known first."),
            Some(secret) => match state(&secret.progress, outcome) {
                State::Holds => done(format!("Secret {} holds the connections.", secret.name)),
                State::Not(problem) | State::Unverified(problem) => Verdict::False(problem),
            },
        },
    }
}

/// Credentials that should go and did not.
fn removals(plan: &Plan, outcome: &Outcome) -> Vec<Problem> {
    plan.steps
        .iter()
        .zip(&outcome.results)
        .filter_map(|(step, result)| match (&step.action, result) {
            (Action::DeleteCredential { .. }, StepResult::Failed(problem)) => Some(problem.clone()),
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
            State::Not(problem) => failed.push(problem),
        }
    }
    failed.extend(more);
    // As in `Ready`: what is waited for comes first.
    failed.sort_by_key(|problem| problem.reason == Reason::Waiting);
    match (failed.is_empty(), unverified.is_empty()) {
        (true, true) => done(format!(
            "All {} ServiceAccounts {what}.",
            plan.accounts.len()
        )),
        (true, false) => Verdict::Unknown(merged(unverified)),
        (false, _) => {
            let problem = merged(failed);
            match problem.reason {
                Reason::Waiting => Verdict::Unknown(problem),
                _ => Verdict::False(problem),
            }
        }
    }
}

/// The first problem, with the messages of all others that say something new.
fn merged(problems: Vec<Problem>) -> Problem {
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

fn waiting(message: &str) -> Verdict {
    Verdict::Unknown(Problem::on_change(Reason::Waiting, message))
}

/// How far a part is after the steps were taken.
enum State {
    Holds,
    Unverified(Problem),
    Not(Problem),
}

fn state(progress: &Progress, outcome: &Outcome) -> State {
    match progress {
        Progress::Holds => State::Holds,
        Progress::Unverified(problem) => State::Unverified(problem.clone()),
        Progress::Blocked(problem) => State::Not(problem.clone()),
        Progress::Pending(step) => match outcome.results.get(*step) {
            Some(StepResult::Done) => State::Holds,
            Some(StepResult::Failed(problem)) => State::Not(problem.clone()),
            Some(StepResult::Skipped) | None => State::Not(Problem {
                reason: Reason::Waiting,
                message: "An earlier step failed.".into(),
                retry: Retry::Backoff,
            }),
        },
    }
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
        .any(|a| a.name == account.name && a.annotated);
    let is_waiting =
        matches!(&annotation, State::Not(problem) if problem.reason == Reason::Waiting);
    ServiceAccountStatus {
        name: account.name.clone(),
        components: account.components.iter().copied().collect(),
        subject: account.subject.to_string(),
        credential_name: account.credential_name.clone(),
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

struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    all: Vec<Condition>,
}

impl Conditions<'_> {
    fn keep_all(&mut self) {
        let steps = self
            .before
            .iter()
            .filter(|c| c.type_ != ConditionType::Ready.to_string());
        self.all = steps.cloned().collect();
    }

    fn set(&mut self, type_: ConditionType, verdict: &Verdict) {
        let (status, reason, message) = match verdict {
            Verdict::True(message) => ("True", Reason::Done, message),
            Verdict::False(problem) => ("False", problem.reason, &problem.message),
            Verdict::Unknown(problem) => ("Unknown", problem.reason, &problem.message),
        };
        let type_ = type_.to_string();
        let since = self
            .before
            .iter()
            .find(|before| before.type_ == type_ && before.status == status)
            .map_or(Time(self.now), |before| before.last_transition_time.clone());
        let condition = Condition {
            type_,
            status: status.into(),
            reason: reason.to_string(),
            message: truncated(message, CONDITION_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: since,
        };
        // Ready is set last, and read first.
        if condition.type_ == ConditionType::Ready.to_string() {
            self.all.insert(0, condition);
        } else {
            self.all.push(condition);
        }
    }
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
