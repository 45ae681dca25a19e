//! One object: what the pipeline sees now, and what the operator said of it last.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    finding::{Finding, Level},
    identity,
};
use crate::{
    api::{AirflowWorkloadIdentityStatus, ConditionType, Reason},
    apply::Outcome,
    cli::plan::SEEN_BY_RIGHT,
    observe::Snapshot,
    plan::{AccountPlan, Action, Plan, Progress},
    problem::Problem,
    status::status,
};

/// An object, as it is seen now.
pub struct Seen<'a> {
    /// What was read.
    pub snapshot: &'a Snapshot,
    /// What the operator would do.
    pub plan: &'a Plan,
    /// What the operator would say if it did nothing.
    pub now: AirflowWorkloadIdentityStatus,
}

impl<'a> Seen<'a> {
    /// Of what was observed and planned.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, plan: &'a Plan) -> Self {
        let now = status(snapshot, plan, &Outcome::default(), snapshot.now);
        Self {
            snapshot,
            plan,
            now,
        }
    }

    /// As kubectl takes it.
    #[must_use]
    pub fn object(&self) -> String {
        format!("awi/{}", self.snapshot.name())
    }

    /// What makes the operator look at the object at once.
    #[must_use]
    pub fn look_again(&self) -> String {
        format!(
            "The operator does it when it looks again; at once after: kubectl annotate awi/{} -n {} --overwrite look-again=\"$(date)\"",
            self.snapshot.name(),
            self.snapshot.namespace,
        )
    }

    /// A problem of a step. What is refused to whoever looks, and what the operator says is done, is not
    /// wrong.
    pub(super) fn problem(
        &self,
        check: &'static str,
        object: String,
        step: ConditionType,
        problem: &Problem,
    ) -> Finding {
        let found = Finding::ok(check, object, problem.reason.to_string());
        if problem.reason == Reason::Waiting {
            return found.at(Level::Warning).why(&problem.message);
        }
        let is_done = |condition: &&Condition| {
            condition.type_ == step.to_string() && condition.status == "True"
        };
        if SEEN_BY_RIGHT.contains(&problem.reason) && self.said().iter().any(|c| is_done(&c)) {
            let (why, _) = problem
                .message
                .split_once(". ")
                .unwrap_or((&problem.message, ""));
            return found
                .at(Level::Warning)
                .why(why)
                .fix("It was refused to you, and may be allowed to the operator, which says that this step is done. docs/commands.md has the rights that this command takes");
        }
        found.at(Level::Error).told(&problem.message)
    }

    /// What is there, but not as it should be.
    pub(super) fn pending(
        &self,
        check: &'static str,
        object: String,
        what: &str,
        step: usize,
    ) -> Finding {
        let would = match self.plan.steps.get(step) {
            Some(step) => format!("The operator would {}", step.action),
            None => "The operator would write it".into(),
        };
        Finding::ok(check, object, what)
            .at(Level::Error)
            .why(would)
            .fix(self.look_again())
    }

    /// The conditions that the operator wrote last.
    fn said(&self) -> &[Condition] {
        let status = self.snapshot.object.status.as_ref();
        status.map_or(&[], |status| status.conditions.as_slice())
    }
}

/// Everything but pods and connections.
#[must_use]
pub fn check(seen: &Seen) -> Vec<Finding> {
    let Seen { snapshot, plan, .. } = seen;
    let mut findings = said(seen);
    if let Some(problem) = &plan.halted {
        findings.push(
            Finding::ok("object", seen.object(), problem.reason.to_string())
                .at(Level::Warning)
                .told(&problem.message),
        );
        let granted = plan.blocked.get(&ConditionType::Granted);
        findings.extend(granted.map(|problem| {
            let wrong = Finding::ok("object", seen.object(), problem.reason.to_string());
            wrong.at(Level::Error).told(&problem.message)
        }));
        return findings;
    }
    if snapshot.is_deleting() {
        let mut conditions = seen.now.conditions.iter();
        let ready = conditions.find(|c| c.type_ == ConditionType::Ready.to_string());
        let message = ready.map_or("", |ready| ready.message.as_str());
        let deleting = Finding::ok("object", seen.object(), "is being deleted");
        findings.push(deleting.at(Level::Warning).told(message));
        return findings;
    }
    findings.extend(steps(seen));
    findings.extend(exchange(seen));
    findings.extend(identity::quota(seen));
    findings.extend(
        plan.accounts
            .iter()
            .map(|account| of_account(seen, account)),
    );
    findings.extend(leftovers(seen));
    findings
}

/// What the operator said last, as far as it differs from what is seen now.
fn said(seen: &Seen) -> Vec<Finding> {
    const CHECK: &str = "status";
    let found = |what: &str| Finding::ok(CHECK, seen.object(), what).at(Level::Error);
    let generation = seen.snapshot.object.metadata.generation;
    let is_running =
        "Is the operator running (the check named operator)? Does it look after this namespace?";
    match &seen.snapshot.object.status {
        None => return vec![found("the operator has not looked at it").fix(is_running)],
        Some(status) if status.observed_generation < generation => {
            return vec![
                found("the operator has not looked at its present spec")
                    .why("What it says is of the spec before")
                    .fix(is_running),
            ];
        }
        Some(_) => {}
    }
    let differing = seen.said().iter().filter(|before| {
        let mut now = seen.now.conditions.iter();
        let now = now.find(|now| now.type_ == before.type_);
        let is_step = ConditionType::STEPS
            .iter()
            .any(|step| step.to_string() == before.type_);
        is_step
            && before.status != "True"
            && before.reason != Reason::Waiting.to_string()
            && now.is_none_or(|now| now.reason != before.reason)
    });
    differing
        .map(|before| {
            let what = format!("the operator says {} {}", before.type_, before.reason);
            found(&what).told(&before.message)
        })
        .collect()
}

/// What came of the operator's own token exchanges, if it was told to try: only it may.
fn exchange(seen: &Seen) -> Option<Finding> {
    let mut said = seen.said().iter();
    let said = said.find(|c| c.type_ == ConditionType::ExchangeVerified.to_string())?;
    let found = |what: &str| Finding::ok("exchange", seen.object(), what);
    Some(match said.status.as_str() {
        "True" => found(&said.message),
        "False" => found(&said.reason).at(Level::Error).told(&said.message),
        _ => found(&said.reason).at(Level::Warning).told(&said.message),
    })
}

/// The steps as a whole.
fn steps(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in ConditionType::STEPS {
        let check = match step {
            ConditionType::IdentityResolved => "identity",
            ConditionType::Granted => "grant",
            ConditionType::CredentialsFederated => "credentials",
            ConditionType::ServiceAccountsAnnotated => "account",
            ConditionType::ConnectionsWritten => "connection",
            ConditionType::Ready
            | ConditionType::PodsInjected
            | ConditionType::ExchangeVerified => continue,
        };
        if let Some(problem) = seen.plan.blocked.get(&step) {
            findings.push(seen.problem(check, seen.object(), step, problem));
            continue;
        }
        // Of the others, every account and every connection speaks for itself.
        if !matches!(
            step,
            ConditionType::IdentityResolved | ConditionType::Granted
        ) {
            continue;
        }
        let mut conditions = seen.now.conditions.iter();
        let Some(now) = conditions.find(|c| c.type_ == step.to_string()) else {
            continue;
        };
        let level = if now.status == "True" {
            Level::Ok
        } else {
            Level::Warning
        };
        findings.push(Finding::ok(check, seen.object(), &now.message).at(level));
    }
    findings
}

fn of_account(seen: &Seen, account: &AccountPlan) -> Finding {
    const CHECK: &str = "account";
    let object = || format!("serviceaccount/{}", account.name);
    let parts = [
        (
            &account.credential,
            ConditionType::CredentialsFederated,
            "its credential is not on the identity as it should be",
        ),
        (
            &account.annotation,
            ConditionType::ServiceAccountsAnnotated,
            "does not carry the client and tenant ID",
        ),
    ];
    for (progress, step, what) in parts {
        match progress {
            Progress::Holds => {}
            Progress::Pending(position) => return seen.pending(CHECK, object(), what, *position),
            Progress::Unverified(problem) | Progress::Blocked(problem) => {
                return seen.problem(CHECK, object(), step, problem);
            }
        }
    }
    let components: Vec<&str> = account.components.iter().map(|c| c.as_str()).collect();
    let runs = if components.is_empty() {
        "named in the spec".to_owned()
    } else {
        format!("runs {}", components.join(", "))
    };
    let name = account.credential_name.as_deref().unwrap_or_default();
    Finding::ok(
        CHECK,
        object(),
        format!(
            "{runs}; annotated, and trusted by credential {name} as {}",
            account.subject
        ),
    )
}

/// What neither an account nor a Secret speaks of.
fn leftovers(seen: &Seen) -> Vec<Finding> {
    let steps = seen.plan.steps.iter().filter(|step| {
        !matches!(
            step.action,
            Action::PutCredential { .. }
                | Action::Annotate { .. }
                | Action::WriteSecret { .. }
                | Action::WriteReaderRole { .. }
        )
    });
    steps
        .map(|step| {
            let (kind, name) = step.action.object();
            let object = format!("{}/{name}", kind.to_lowercase());
            Finding::ok(
                "pending",
                object,
                format!("the operator would {}", step.action),
            )
            .at(Level::Warning)
            .fix(seen.look_again())
        })
        .collect()
}
