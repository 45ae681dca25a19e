//! Pure and total: from what is, to what has to be done. Problems become blocked steps with a
//! reason, never errors.

mod accounts;
mod action;
mod annotations;
mod connections;
mod credentials;
mod prerequisites;
mod reader_role;
mod removal;
mod restarts;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::ResourceExt;
use uuid::Uuid;

pub use action::{Action, Step, Unless};
pub use credentials::{LIMIT as CREDENTIAL_LIMIT, users as credential_users};

use crate::{
    api::{
        AirflowWorkloadIdentity, Component, ConditionType, CredentialRecord, FINALIZER, Reason,
        SecretStatus,
    },
    azure::ARRIVES,
    model::{Issuer, Subject},
    observe::{Account, Snapshot},
    problem::Problem,
};

/// What nobody wakes an object for is looked at this often. By the second look, nothing that was under way at the
/// first can still arrive.
const LOOK_AGAIN: Duration = ARRIVES;

/// What has to be done, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Nothing is done, and the status only says why.
    pub halted: Option<Problem>,
    /// The finalizer's part.
    pub finalizer: Finalizer,
    /// The identity's client and tenant ID.
    pub ids: Option<Ids>,
    /// The cluster's issuer.
    pub issuer: Option<Issuer>,
    /// It has to be remembered before anything is written for it.
    pub issuer_is_new: bool,
    /// Credentials that the status must hold before the first of them is written.
    pub records: BTreeSet<CredentialRecord>,
    /// Recorded credentials that are no longer there, or no longer ours.
    pub forgotten: BTreeSet<CredentialRecord>,
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// The ServiceAccounts and how far each is.
    pub accounts: Vec<AccountPlan>,
    /// The Secrets and how far each is.
    pub secrets: Vec<SecretPlan>,
    /// How far the Role for the connections is, if it is asked for.
    pub reader_role: Option<Progress>,
    /// Whole steps that cannot be taken.
    pub blocked: BTreeMap<ConditionType, Problem>,
    /// How soon another look is worth it: at pods that lack something, or for a credential that may come back.
    pub look_again: Option<Duration>,
    /// What the user should know although nothing is wrong.
    pub notes: BTreeMap<ConditionType, String>,
}

/// What becomes of the finalizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finalizer {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is added, before anything else.
    Add,
    /// It is removed, once everything else is done.
    Remove,
}

/// The client and tenant ID of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Client ID.
    pub client: Uuid,
    /// Tenant ID.
    pub tenant: Uuid,
}

/// How far a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It is as it should be.
    Holds,
    /// It was as it should be, and cannot be seen now.
    Unverified(Problem),
    /// It will be when the step at this position is done.
    Pending(usize),
    /// Something stands in the way.
    Blocked(Problem),
}

/// One ServiceAccount.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountPlan {
    /// Its name.
    pub name: String,
    /// The components that run under it.
    pub components: BTreeSet<Component>,
    /// The subject of its tokens.
    pub subject: Subject,
    /// The credential that lets it in, once it is known which.
    pub credential_name: Option<String>,
    /// The account's uid, if it exists.
    pub uid: Option<String>,
    /// Whether the credential is there.
    pub credential: Progress,
    /// Whether the annotations are there.
    pub annotation: Progress,
}

/// One Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretPlan {
    /// Its name.
    pub name: String,
    /// SHA-256 of its data.
    pub checksum: String,
    /// Whether it is there.
    pub progress: Progress,
}

impl SecretPlan {
    /// What the status says of it once it is there.
    #[must_use]
    pub fn to_status(&self) -> SecretStatus {
        SecretStatus {
            name: self.name.clone(),
            checksum: self.checksum.clone(),
        }
    }
}

impl Plan {
    /// A plan that does nothing and forgets nothing.
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            issuer: snapshot.issuer.clone().ok(),
            issuer_is_new: snapshot
                .issuer
                .as_ref()
                .is_ok_and(|issuer| !snapshot.history.contains(issuer)),
            records: snapshot
                .records()
                .map(|(_, record)| record.clone())
                .collect(),
            ..Self::default()
        }
    }

    /// The issuer that has to be remembered before the first credential is written for it; or again, since somebody
    /// deleted what was remembered, and the object has credentials for it on record.
    #[must_use]
    pub fn issuer_to_remember(&self) -> Option<&Issuer> {
        let issuer = self.issuer.as_ref().filter(|_| self.issuer_is_new)?;
        let mut records = self.records.iter();
        let is_on_record = records.any(|record| record.issuer == issuer.as_str());
        (self.puts_credentials() || is_on_record && self.halted.is_none()).then_some(issuer)
    }

    /// Whether a credential is written.
    #[must_use]
    pub fn puts_credentials(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step.action, Action::PutCredential { .. }))
    }

    /// Whether the Role for the connections is written.
    #[must_use]
    pub fn writes_reader_role(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step.action, Action::WriteReaderRole { .. }))
    }

    /// Whether Azure is written to, or a record let go, which no later pass takes back: then what was
    /// read there must be fresh.
    #[must_use]
    pub fn has_to_be_sure(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| step.action.is_of_credential()) || !self.forgotten.is_empty()
    }

    fn push(&mut self, action: Action, after: Vec<usize>) -> usize {
        self.steps.push(Step { action, after });
        self.steps.len() - 1
    }
}

/// Whether the object goes, and the operator has nothing to do with it any longer: another finalizer holds it. What is
/// made under the names that it had is somebody else's.
#[must_use]
pub fn is_let_go(object: &AirflowWorkloadIdentity) -> bool {
    let is_held = object.finalizers().iter().any(|held| held == FINALIZER);
    object.metadata.deletion_timestamp.is_some() && !is_held
}

/// Plans for an object as it was observed.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    if is_let_go(&snapshot.object) {
        return Plan::of(snapshot);
    }
    if snapshot.is_deleting() {
        return removal::plan(snapshot);
    }
    let (granted, refused): (Vec<&Account>, Vec<&Account>) = snapshot
        .discovery
        .accounts
        .iter()
        .partition(|account| match &snapshot.identity {
            Ok(identity) => snapshot.covers(identity, &account.name),
            Err(_) => false,
        });
    if snapshot.object.spec.suspend {
        let mut plan = Plan::of(snapshot);
        prerequisites::check_grant(snapshot, &refused, &mut plan);
        let revoked = if plan.blocked.contains_key(&ConditionType::Granted) {
            " But for the credentials of what no AzureIdentityGrant covers: those are taken back."
        } else {
            ""
        };
        let message = format!(
            "spec.suspend is true: nothing is written for this object, neither here nor in Azure. What was written stays.{revoked}"
        );
        plan.halted = Some(Problem::on_change(Reason::Suspended, message));
        // Or suspending would be a way to keep what is no longer granted.
        credentials::revoke(snapshot, &mut plan);
        reader_role::revoke(snapshot, &mut plan);
        return plan;
    }

    let finalizers = snapshot
        .object
        .metadata
        .finalizers
        .as_deref()
        .unwrap_or_default();
    let mut plan = Plan {
        finalizer: if finalizers.iter().any(|f| f == FINALIZER) {
            Finalizer::Keep
        } else {
            Finalizer::Add
        },
        ..Plan::of(snapshot)
    };
    prerequisites::check_grant(snapshot, &refused, &mut plan);
    prerequisites::resolve(snapshot, &mut plan);
    accounts::check(snapshot, &mut plan);

    credentials::put(snapshot, &granted, &mut plan);
    annotations::plan(snapshot, &mut plan);
    connections::plan(snapshot, &mut plan);
    reader_role::plan(snapshot, &mut plan);
    credentials::delete(snapshot, &mut plan);
    restarts::plan(snapshot, &mut plan);
    plan.accounts.extend(
        refused
            .into_iter()
            .map(|account| refused_account(snapshot, account)),
    );
    plan.accounts.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

/// An account that no grant covers gets nothing, and loses what it had.
fn refused_account(snapshot: &Snapshot, account: &Account) -> AccountPlan {
    let problem = Problem::on_change(
        Reason::NotGranted,
        "No AzureIdentityGrant covers this account.",
    );
    AccountPlan {
        name: account.name.clone(),
        components: account.components.clone(),
        subject: Subject::new(&snapshot.namespace, &account.name),
        credential_name: None,
        uid: account.uid(),
        credential: Progress::Blocked(problem.clone()),
        annotation: Progress::Blocked(problem),
    }
}

/// A step that an earlier one keeps from being taken.
fn waiting(message: &str) -> Progress {
    Progress::Blocked(Problem::on_change(Reason::Waiting, message))
}
