//! A plan in words: pure, and the same for text and JSON.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::{
    api::{ConditionType, CredentialRecord, FINALIZER, Reason},
    apply::{Outcome, StepResult},
    cli::exit::Found,
    issuers,
    observe::{AccountState, ReaderRole, Snapshot},
    plan::{Action, Finalizer, Ids, Plan, Step},
    status::{problems, status},
};

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is in the cluster as it is.
    Applied,
    /// The manifest changes it.
    Changed,
    /// It is not in the cluster yet.
    New,
}

/// What would change, object by object.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The objects.
    pub objects: Vec<ObjectReport>,
    /// What concerns all of them.
    pub notes: Vec<String>,
    /// How much there is of what.
    pub summary: Summary,
}

/// What would change for one object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it comes from.
    #[serde(skip)]
    pub origin: Origin,
    /// What would be done, in this order.
    pub changes: Vec<Change>,
    /// What would still be wrong.
    pub problems: Vec<Obstacle>,
    /// What its owner should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// One change.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What is done.
    pub action: Verb,
    /// To what kind of object.
    pub kind: &'static str,
    /// Its name.
    pub object: String,
    /// In words.
    pub detail: String,
    /// Changes without which it is not made, as `<kind> <name>`.
    pub after: Vec<String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// It is not there yet.
    Create,
    /// It is there, and becomes another.
    Change,
    /// It goes.
    Delete,
    /// It is as it should be, and the object takes it over.
    Adopt,
    /// It stays, and is no longer the object's.
    Leave,
}

/// A condition that will not become true.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// The condition's type.
    pub condition: String,
    /// Its reason.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Changes that create something.
    pub create: usize,
    /// Changes of something that is there.
    pub change: usize,
    /// Changes that delete something.
    pub delete: usize,
    /// What is taken over as it is.
    pub adopt: usize,
    /// What stays, and is let go of.
    pub leave: usize,
    /// Conditions that will not become true.
    pub problems: usize,
}

impl Report {
    /// Adds it all up. `notes` is what concerns all objects.
    #[must_use]
    pub fn new(objects: Vec<ObjectReport>, mut notes: Vec<String>) -> Self {
        let mut summary = Summary::default();
        for change in objects.iter().flat_map(|object| &object.changes) {
            *match change.action {
                Verb::Create => &mut summary.create,
                Verb::Change => &mut summary.change,
                Verb::Delete => &mut summary.delete,
                Verb::Adopt => &mut summary.adopt,
                Verb::Leave => &mut summary.leave,
            } += 1;
        }
        let mut problems = objects.iter().flat_map(|object| &object.problems);
        summary.problems = problems.clone().count();
        if problems.any(|problem| {
            SEEN_BY_RIGHT
                .iter()
                .any(|r| r.to_string() == problem.reason)
        }) {
            notes.push("The cluster and Azure were read as you, not as the operator: what is refused to you may be allowed to it. If the operator was started with --issuer, --cloud, --federation-audience or --entra-applications, give them here, too.".into());
        }
        Self {
            objects,
            notes,
            summary,
        }
    }

    /// In one word.
    #[must_use]
    pub fn found(&self) -> Found {
        let Summary {
            create,
            change,
            delete,
            adopt,
            leave,
            problems,
        } = self.summary;
        match (problems, create + change + delete + adopt + leave) {
            (0, 0) => Found::Nothing,
            (0, _) => Found::Changes,
            _ => Found::Problems,
        }
    }
}

/// What is so for whoever looks, and may be another thing for the operator.
pub(in crate::cli) const SEEN_BY_RIGHT: [Reason; 6] = [
    Reason::ApplicationsOff,
    Reason::AzureForbidden,
    Reason::AzureUnauthenticated,
    Reason::AzureWrongTenant,
    Reason::ClusterError,
    Reason::IssuerUnknown,
];

impl ObjectReport {
    /// What the plan for an object comes to.
    #[must_use]
    pub fn new(snapshot: &Snapshot, plan: &Plan, origin: Origin, now: Timestamp) -> Self {
        Self {
            namespace: snapshot.namespace.clone(),
            name: snapshot.name(),
            origin,
            changes: changes(snapshot, plan),
            problems: obstacles(snapshot, plan, now),
            notes: notes(snapshot, plan, now),
        }
    }

    /// For an object that does not parse.
    #[must_use]
    pub fn unreadable(namespace: &str, name: String, error: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name,
            origin: Origin::Applied,
            changes: Vec::new(),
            problems: vec![Obstacle {
                condition: ConditionType::Ready.to_string(),
                reason: Reason::InvalidSpec.to_string(),
                message: format!("This object cannot be read, and is left alone: {error}"),
            }],
            notes: Vec::new(),
        }
    }
}

fn changes(snapshot: &Snapshot, plan: &Plan) -> Vec<Change> {
    let change = |action, kind, object: &str, detail| Change {
        action,
        kind,
        object: object.to_owned(),
        detail,
        after: Vec::new(),
    };
    let finalizer = |action, detail: &str| change(action, "Finalizer", FINALIZER, detail.into());
    let mut changes = Vec::new();
    if plan.finalizer == Finalizer::Add {
        let detail = format!("add finalizer {FINALIZER}");
        changes.push(finalizer(Verb::Create, &detail));
    }
    changes.extend(plan.issuer_to_remember().map(|issuer| {
        let detail = format!(
            "remember issuer {issuer} in the operator's ConfigMap {}",
            issuers::NAME
        );
        change(Verb::Change, "ConfigMap", issuers::NAME, detail)
    }));
    changes.extend(adopted(snapshot, plan).map(|record| {
        let detail = format!(
            "adopt federated credential {} for {}: it stays as it is, and becomes this object's",
            record.name, record.subject,
        );
        change(Verb::Adopt, "FederatedCredential", &record.name, detail)
    }));
    changes.extend(
        plan.steps
            .iter()
            .map(|step| step_change(snapshot, plan, step)),
    );
    if plan.finalizer == Finalizer::Remove && plan.blocked.is_empty() {
        let detail =
            format!("remove finalizer {FINALIZER}, once all else is done: the object is gone then");
        changes.push(finalizer(Verb::Delete, &detail));
    }
    changes
}

fn step_change(snapshot: &Snapshot, plan: &Plan, step: &Step) -> Change {
    let (kind, object) = step.action.object();
    let (action, detail) = match &step.action {
        Action::Annotate { account, ids, .. } if carries(snapshot, &account.name, *ids) => {
            let detail = format!(
                "adopt the annotations of ServiceAccount {object}: they stay as they are, and become this object's, too"
            );
            (Verb::Adopt, detail)
        }
        action => (verb(snapshot, action), action.to_string()),
    };
    let after = step.after.iter().filter_map(|before| {
        let (kind, name) = plan.steps.get(*before)?.action.object();
        Some(format!("{kind} {name}"))
    });
    Change {
        action,
        kind,
        object: object.to_owned(),
        detail,
        after: after.collect(),
    }
}

fn verb(snapshot: &Snapshot, action: &Action) -> Verb {
    match action {
        Action::PutCredential { replaces: None, .. }
        | Action::WriteSecret { replaces: None, .. } => Verb::Create,
        Action::WriteReaderRole { .. }
            if !matches!(&snapshot.reader_role, Ok(Some(ReaderRole::Ours { .. }))) =>
        {
            Verb::Create
        }
        Action::PutCredential { .. }
        | Action::WriteSecret { .. }
        | Action::WriteReaderRole { .. }
        | Action::Annotate { .. }
        | Action::Release { .. }
        | Action::Restart { .. } => Verb::Change,
        Action::DeleteCredential { .. }
        | Action::DeleteSecret(_)
        | Action::DeleteReaderRole { .. } => Verb::Delete,
        Action::LeaveCredential { .. } => Verb::Leave,
    }
}

/// Whether the account carries these very IDs already, by whomever.
fn carries(snapshot: &Snapshot, account: &str, ids: Ids) -> bool {
    let mut accounts = snapshot.discovery.accounts.iter();
    let state = accounts
        .find(|a| a.name == account)
        .and_then(|a| a.state.as_ref());
    let is = |found: &Option<String>, wanted: uuid::Uuid| {
        found.as_deref() == Some(wanted.to_string().as_str())
    };
    state.is_some_and(
        |AccountState {
             client_id,
             tenant_id,
             ..
         }| { is(&client_id.value, ids.client) && is(&tenant_id.value, ids.tenant) },
    )
}

/// Credentials that go on record without being written.
fn adopted<'a>(
    snapshot: &'a Snapshot,
    plan: &'a Plan,
) -> impl Iterator<Item = &'a CredentialRecord> {
    let recorded: BTreeSet<&CredentialRecord> =
        snapshot.records().map(|(_, record)| record).collect();
    let is_written = |record: &CredentialRecord| {
        plan.steps.iter().any(|step| {
            matches!(&step.action, Action::PutCredential { name, .. } if name.as_str() == record.name)
        })
    };
    let records = plan.records.iter();
    records.filter(move |record| !recorded.contains(record) && !is_written(record))
}

/// The conditions as they are when every step has succeeded.
fn conditions(snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> (Vec<Condition>, Outcome) {
    let outcome = Outcome {
        results: vec![StepResult::Done; plan.steps.len()],
        ..Outcome::default()
    };
    let conditions = status(snapshot, plan, &outcome, now).conditions;
    (conditions, outcome)
}

/// Those that are not true even then.
fn obstacles(snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> Vec<Obstacle> {
    let (conditions, outcome) = conditions(snapshot, plan, now);
    if problems(plan, &outcome).is_empty() {
        return Vec::new();
    }
    let ready = ConditionType::Ready.to_string();
    // Ready repeats the others, unless they do not speak.
    let only_ready = snapshot.is_deleting() || plan.halted.is_some();
    let wrong = conditions
        .into_iter()
        .filter(|c| c.status != "True" && !is_of_pods(c) && (c.type_ == ready) == only_ready);
    let (waiting, wrong): (Vec<_>, Vec<_>) =
        wrong.partition(|c| c.reason == Reason::Waiting.to_string());
    let shown = if wrong.is_empty() { waiting } else { wrong };
    let obstacle = |condition: Condition| Obstacle {
        condition: condition.type_,
        reason: condition.reason,
        message: condition.message,
    };
    shown.into_iter().map(obstacle).collect()
}

/// Pods are not the operator's own work, so they are not what stands in its way.
fn is_of_pods(condition: &Condition) -> bool {
    condition.type_ == ConditionType::PodsInjected.to_string()
}

fn notes(snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> Vec<String> {
    let deleting = snapshot
        .is_deleting()
        .then(|| "It is being deleted.".to_owned());
    let forgotten = plan.forgotten.iter().map(|record| {
        format!("Federated credential {} for {} is no longer there, or no longer this object's: it is forgotten.", record.name, record.subject)
    });
    let (conditions, _) = conditions(snapshot, plan, now);
    let pods = conditions
        .into_iter()
        .filter(|c| is_of_pods(c) && c.status == "False");
    let pods: Vec<String> = pods.map(|condition| condition.message).collect();
    deleting
        .into_iter()
        .chain(plan.notes.values().cloned())
        .chain(forgotten)
        .chain(
            pods.iter()
                .flat_map(|message| message.lines())
                .map(str::to_owned),
        )
        .collect()
}
