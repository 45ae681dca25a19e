//! The effects: one result per step. A step that fails stops only those that come after it for
//! its sake.

mod cluster;
mod reader_role;

use std::{collections::BTreeSet, sync::Arc};

use kube::{Client, ResourceExt};

use crate::{
    api::{AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, CredentialRecord, Reason},
    azure::Identities,
    issuers::IssuerHistory,
    mandate::Mandate,
    model::{IdentityId, Subject},
    observe::Stores,
    plan::{Action, Finalizer, Plan, Unless},
    problem::{Problem, Retry, headline},
};

pub use cluster::write_status;

/// Everything that can be written.
pub struct Sinks {
    /// The API server.
    pub client: Client,
    /// What grants say at the moment of a write, which may have waited for its turn; and where what is
    /// written is kept until the watches tell of it.
    pub stores: Stores,
    /// Azure.
    pub identities: Arc<Identities>,
    /// The issuers that the cluster has had.
    pub history: Arc<IssuerHistory>,
    /// Whether anything may be written.
    pub mandate: Arc<Mandate>,
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One result per step of the plan, in its order.
    pub results: Vec<StepResult>,
    /// What kept all steps from being taken, or the finalizer from being removed.
    pub failed: Option<Problem>,
    /// Whether the object is gone now.
    pub gone: bool,
    /// The object's resource version after the last write to it, if there was one.
    pub version: Option<String>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepResult {
    /// It is done.
    Done,
    /// It failed.
    Failed(Problem),
    /// A step before it failed.
    Skipped,
}

impl Outcome {
    /// Whether the step at `position` is done.
    #[must_use]
    pub fn is_done(&self, position: usize) -> bool {
        self.results.get(position) == Some(&StepResult::Done)
    }

    /// What was done of `plan`.
    pub fn done<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a Action> {
        let steps = plan.steps.iter().zip(&self.results);
        steps
            .filter(|(_, result)| **result == StepResult::Done)
            .map(|(step, _)| &step.action)
    }
}

/// What is written before the first effect that has to be on record.
pub struct Ahead {
    /// It.
    pub status: AirflowWorkloadIdentityStatus,
    /// Whether the last status may be there although its write failed: then the object as it is known may have
    /// credentials on record that it has no longer.
    pub is_in_doubt: bool,
}

/// Carries the plan out.
pub async fn apply(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    plan: &Plan,
    ahead: &Ahead,
) -> Outcome {
    sinks.stores.objects.forgets(object, &plan.forgotten);
    let mut outcome = Outcome::default();
    let mut written = object.clone();
    let prepared = prepare(sinks, &mut written, plan, ahead).await;
    outcome
        .version
        .clone_from(&written.metadata.resource_version);
    if let Err(problem) = prepared {
        outcome.failed = Some(problem);
        return outcome;
    }
    let object = &written;
    for step in &plan.steps {
        if !sinks.mandate.is_valid() {
            outcome.failed = Some(stopping());
            return outcome;
        }
        let result = if step.after.iter().all(|before| outcome.is_done(*before)) {
            match take(sinks, object, &step.action).await {
                Ok(()) => {
                    tracing::info!("{}", step.action);
                    StepResult::Done
                }
                Err(problem) => {
                    tracing::warn!("{}", headline(&problem.message));
                    StepResult::Failed(problem)
                }
            }
        } else {
            StepResult::Skipped
        };
        outcome.results.push(result);
    }
    let complete = (0..plan.steps.len()).all(|step| outcome.is_done(step));
    let is_last = plan.finalizer == Finalizer::Remove && plan.blocked.is_empty() && complete;
    if is_last && sinks.mandate.is_in_term() {
        match cluster::remove_finalizer(&sinks.client, object).await {
            Ok(()) => outcome.gone = true,
            Err(problem) => outcome.failed = Some(problem),
        }
    }
    outcome
}

/// What has to be on record before the first effect: the finalizer, or a deletion would leave
/// traces; and the credentials and the Role, or a crash would leave some that nobody knows. A
/// write may wait long for its turn, so the status says at once what is going on.
async fn prepare(
    sinks: &Sinks,
    object: &mut AirflowWorkloadIdentity,
    plan: &Plan,
    ahead: &Ahead,
) -> Result<(), Problem> {
    // Asked before each write: any of them may take long enough for another replica to lead.
    let may_write = || sinks.mandate.is_valid().then_some(()).ok_or_else(stopping);
    may_write()?;
    if plan.finalizer == Finalizer::Add {
        cluster::add_finalizer(&sinks.client, object).await?;
    }
    if let Some(issuer) = plan.issuer_to_remember() {
        may_write()?;
        sinks.history.remember(issuer).await?;
    }
    let known = object.status.as_ref().filter(|_| !ahead.is_in_doubt);
    if is_news(known, plan) {
        may_write()?;
        *object = cluster::write_status(&sinks.client, object, &ahead.status).await?;
    }
    Ok(())
}

/// Whether the plan writes what nobody would look for who knows this status only.
fn is_news(status: Option<&AirflowWorkloadIdentityStatus>, plan: &Plan) -> bool {
    let recorded: BTreeSet<&CredentialRecord> = status
        .iter()
        .flat_map(|status| &status.credentials)
        .collect();
    let has_role = status.is_some_and(|status| status.reader_role);
    plan.puts_credentials() && !plan.records.iter().all(|record| recorded.contains(record))
        || plan.writes_reader_role() && !has_role
}

async fn take(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    action: &Action,
) -> Result<(), Problem> {
    let client = &sinks.client;
    match action {
        Action::PutCredential {
            identity,
            name,
            properties,
            replaces,
        } => {
            let is_allowed = || is_granted(sinks, object, identity, &properties.subject);
            sinks
                .identities
                .put(identity, name, properties, replaces.as_ref(), &is_allowed)
                .await
                .map_err(|error| Problem::azure(&format!("cannot {action}"), identity, &error))
        }
        Action::DeleteCredential {
            record,
            seen,
            identity,
            unless,
            ..
        } => {
            let is_allowed = || match unless {
                Unless::Nothing => true,
                Unless::Wanted => sinks.stores.is_unwanted(object, identity, seen),
                Unless::Granted => !is_granted(sinks, object, identity, &record.subject),
            };
            sinks
                .identities
                .delete(identity, seen, &is_allowed)
                .await
                .map_err(|error| Problem::azure(&format!("cannot {action}"), identity, &error))
        }
        Action::LeaveCredential {
            record,
            identity,
            to_another,
        } => {
            // Or what is no longer granted would stay for good.
            let may_stay = object.metadata.deletion_timestamp.is_some()
                || is_granted(sinks, object, identity, &record.subject);
            let goes = |seen| sinks.stores.leave(object, identity, record, seen);
            if may_stay && to_another.as_ref().is_none_or(goes) {
                return Ok(());
            }
            Err(outdated(&format!("cannot {action}")))
        }
        Action::Annotate {
            account,
            ids,
            repair,
        } => cluster::annotate(sinks, object, account, *ids, *repair).await,
        Action::Release { account } => cluster::release(sinks, object, account).await,
        Action::WriteSecret {
            name,
            labels,
            data,
            checksum,
            replaces,
        } => {
            let secret = cluster::secret(object, name, labels, data, checksum);
            cluster::write_secret(sinks, object, secret, replaces.as_deref()).await
        }
        Action::DeleteSecret(secret) => cluster::delete_secret(client, object, secret).await,
        Action::WriteReaderRole { name, accounts } => {
            reader_role::write(client, object, name, accounts).await
        }
        Action::Restart {
            workload,
            uid,
            change,
        } => cluster::restart(client, object, workload, uid, change).await,
        Action::DeleteReaderRole { name } => reader_role::delete(client, object, name).await,
    }
}

/// Whether a grant lets the subject, if it is an account of the object's namespace, use the identity now.
fn is_granted(
    sinks: &Sinks,
    object: &AirflowWorkloadIdentity,
    identity: &IdentityId,
    subject: &str,
) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    let account = Subject::account_in(subject, &namespace);
    account.is_some_and(|account| sinks.stores.is_granted(identity, &namespace, account))
}

fn stopping() -> Problem {
    Problem {
        reason: Reason::ClusterError,
        message: "The operator is stopping.".into(),
        retry: Retry::Backoff,
    }
}

/// Something changed between reading and writing; reading again settles it.
fn outdated(what: &str) -> Problem {
    Problem {
        reason: Reason::ClusterError,
        message: format!("{what}: it changed in the meantime. It is tried again."),
        retry: Retry::Backoff,
    }
}
