//! Pure and total: from what is, to what has to be done. Problems become blocked steps with a
//! reason, never errors.

mod annotations;
mod connection;
mod credentials;
mod removal;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use uuid::Uuid;

use crate::{
    api::{Component, ConditionType, CredentialRecord, FINALIZER, Reason},
    azure::CredentialProperties,
    grant,
    model::{CredentialName, Issuer, ResourceId, Subject},
    observe::{Account, Existing, Snapshot},
    problem::Problem,
};

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
    /// Credentials that the status must hold before the first of them is written.
    pub records: BTreeSet<CredentialRecord>,
    /// Recorded credentials that are no longer there, or no longer ours.
    pub forgotten: BTreeSet<CredentialRecord>,
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// The ServiceAccounts and how far each is.
    pub accounts: Vec<AccountPlan>,
    /// The Secret and how far it is.
    pub secret: Option<SecretPlan>,
    /// Whole steps that cannot be taken.
    pub blocked: BTreeMap<ConditionType, Problem>,
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

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The effect.
    pub action: Action,
    /// Steps, by position, without which it must not be taken.
    pub after: Vec<usize>,
}

/// An effect.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Create or replace a federated identity credential.
    PutCredential {
        /// The identity that carries it.
        identity: ResourceId,
        /// Its name.
        name: CredentialName,
        /// What it trusts.
        properties: CredentialProperties,
    },
    /// Delete a federated identity credential.
    DeleteCredential {
        /// Its record; it is struck from the status afterwards.
        record: CredentialRecord,
        /// The identity that carries it.
        identity: ResourceId,
    },
    /// Annotate a ServiceAccount.
    Annotate {
        /// The account.
        account: Existing,
        /// The values.
        ids: Ids,
        /// Someone changed by hand what was ours: take it back.
        repair: bool,
    },
    /// Take the annotations of a ServiceAccount back.
    Release {
        /// The account.
        account: Existing,
    },
    /// Create or replace the connection Secret.
    WriteSecret {
        /// Its name.
        name: String,
        /// Its data.
        data: BTreeMap<String, ByteString>,
        /// SHA-256 of the data.
        checksum: String,
        /// The version to replace; none: create it.
        replaces: Option<String>,
    },
    /// Delete a Secret that the operator created for this object.
    DeleteSecret(Existing),
}

impl Action {
    /// Whether Azure is written to.
    #[must_use]
    pub fn is_azure(&self) -> bool {
        matches!(
            self,
            Self::PutCredential { .. } | Self::DeleteCredential { .. }
        )
    }
}

/// Without the Secret's values.
impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What the action does, for logs and events. No Secret value.
impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PutCredential {
                identity,
                name,
                properties,
            } => write!(
                f,
                "write federated credential {name} for {subject} to identity {identity}",
                subject = properties.subject,
                identity = identity.name(),
            ),
            Self::DeleteCredential { record, identity } => write!(
                f,
                "delete federated credential {name} for {subject} from identity {identity}",
                name = record.name,
                subject = record.subject,
                identity = identity.name(),
            ),
            Self::Annotate {
                account,
                ids,
                repair,
                ..
            } => write!(
                f,
                "{verb} ServiceAccount {name} with client ID {client}",
                name = account.name,
                verb = if *repair {
                    "annotate again"
                } else {
                    "annotate"
                },
                client = ids.client,
            ),
            Self::Release { account } => {
                write!(
                    f,
                    "take the annotations of ServiceAccount {} back",
                    account.name
                )
            }
            Self::WriteSecret { name, data, .. } => write!(
                f,
                "write Secret {name} with {keys}",
                keys = data.keys().cloned().collect::<Vec<_>>().join(", "),
            ),
            Self::DeleteSecret(secret) => write!(f, "delete Secret {}", secret.name),
        }
    }
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
    /// Whether the credential is there.
    pub credential: Progress,
    /// Whether the annotations are there.
    pub annotation: Progress,
}

/// The connection Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretPlan {
    /// Its name.
    pub name: String,
    /// SHA-256 of its data.
    pub checksum: String,
    /// Whether it is there.
    pub progress: Progress,
}

impl Plan {
    /// Whether Azure is written to: then what was read there must be fresh.
    #[must_use]
    pub fn writes_to_azure(&self) -> bool {
        self.steps.iter().any(|step| step.action.is_azure())
    }

    fn push(&mut self, action: Action, after: Vec<usize>) -> usize {
        self.steps.push(Step { action, after });
        self.steps.len() - 1
    }
}

/// Plans for an object as it was observed.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    if snapshot.is_deleting() {
        return removal::plan(snapshot);
    }
    if snapshot.object.spec.suspend {
        let message = "spec.suspend is true: nothing is written for this object, neither here nor in Azure. What was written stays.";
        return Plan {
            halted: Some(Problem::on_change(Reason::Suspended, message)),
            ..Plan::default()
        };
    }

    let finalizers = snapshot
        .object
        .metadata
        .finalizers
        .as_deref()
        .unwrap_or_default();
    let mut plan = Plan {
        issuer: snapshot.issuer.clone().ok(),
        finalizer: if finalizers.iter().any(|f| f == FINALIZER) {
            Finalizer::Keep
        } else {
            Finalizer::Add
        },
        ..Plan::default()
    };

    let (granted, refused): (Vec<&Account>, Vec<&Account>) = snapshot
        .accounts
        .iter()
        .partition(|account| grant::covers_account(&snapshot.grants, &account.name));
    check_grant(snapshot, &refused, &mut plan);
    resolve(snapshot, &mut plan);
    check_components(snapshot, &mut plan);

    credentials::put(snapshot, &granted, &mut plan);
    annotations::plan(snapshot, &mut plan);
    connection::plan(snapshot, &mut plan);
    credentials::delete(snapshot, &mut plan);
    plan.accounts.extend(
        refused
            .into_iter()
            .map(|account| refused_account(snapshot, account)),
    );
    plan.accounts.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

fn check_grant(snapshot: &Snapshot, refused: &[&Account], plan: &mut Plan) {
    let Ok(identity) = &snapshot.identity else {
        return;
    };
    let namespace = &snapshot.namespace;
    let what = if snapshot.grants.is_empty() {
        format!("namespace {namespace}")
    } else if refused.is_empty() {
        return;
    } else {
        let names: Vec<_> = refused
            .iter()
            .map(|account| account.name.as_str())
            .collect();
        format!(
            "ServiceAccounts {names} of namespace {namespace}",
            names = names.join(", ")
        )
    };
    let message = format!(
        "No AzureIdentityGrant lets {what} use identity {identity}. A cluster administrator can apply:\n{yaml}",
        yaml = grant::missing(identity, namespace),
    );
    plan.blocked.insert(
        ConditionType::Granted,
        Problem::on_change(Reason::NotGranted, message),
    );
}

/// Client and tenant ID, and the issuer.
fn resolve(snapshot: &Snapshot, plan: &mut Plan) {
    match resolved(snapshot) {
        Ok(ids) => plan.ids = ids,
        Err(problem) => {
            plan.blocked
                .insert(ConditionType::IdentityResolved, problem);
        }
    }
    if let (Err(problem), Some(_)) = (&snapshot.issuer, plan.ids) {
        plan.blocked
            .insert(ConditionType::IdentityResolved, problem.clone());
    }
}

fn resolved(snapshot: &Snapshot) -> Result<Option<Ids>, Problem> {
    let identity = snapshot.identity.as_ref().map_err(Clone::clone)?;
    if snapshot.grants.is_empty() {
        return Ok(None);
    }
    let Some(view) = snapshot.azure.get(identity) else {
        return Ok(None);
    };
    let found = view.identity.as_ref().map_err(|error| {
        Problem::azure(&format!("cannot read identity {identity}"), identity, error)
    })?;
    let spec = &snapshot.object.spec.identity;
    for (field, pinned, actual) in [
        ("clientId", spec.client_id, found.client_id),
        ("tenantId", spec.tenant_id, found.tenant_id),
    ] {
        if let Some(pinned) = pinned.filter(|pinned| *pinned != actual) {
            return Err(Problem::on_change(
                Reason::IdentityMismatch,
                format!(
                    "spec.identity.{field} is {pinned}, but Azure says {actual} for {identity}. Correct {field}, or leave it out."
                ),
            ));
        }
    }
    Ok(Some(Ids {
        client: found.client_id,
        tenant: found.tenant_id,
    }))
}

fn check_components(snapshot: &Snapshot, plan: &mut Plan) {
    let airflow = &snapshot.object.spec.airflow;
    let release = airflow.helm_release.as_deref().unwrap_or_default();
    let namespace = &snapshot.namespace;
    if snapshot.accounts.is_empty() {
        let message = format!(
            "No ServiceAccount or workload of namespace {namespace} has the labels tier=airflow, release={release} and one of the components. \
             Install Airflow, correct spec.airflow.helmRelease (helm list -n {namespace}), or name the accounts in spec.airflow.serviceAccounts."
        );
        let problem = Problem::on_change(Reason::NoServiceAccounts, message);
        plan.blocked
            .insert(ConditionType::ServiceAccountsAnnotated, problem);
    } else if airflow.helm_release.is_some() {
        let missing: Vec<_> = airflow
            .components
            .iter()
            .filter(|component| {
                !snapshot
                    .accounts
                    .iter()
                    .any(|a| a.components.contains(component))
            })
            .map(|component| component.as_str())
            .collect();
        if !missing.is_empty() {
            let note = format!(
                "Release {release} has no ServiceAccount for: {}.",
                missing.join(", ")
            );
            plan.notes
                .insert(ConditionType::ServiceAccountsAnnotated, note);
        }
    }
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
        credential: Progress::Blocked(problem.clone()),
        annotation: Progress::Blocked(problem),
    }
}

/// A step that an earlier one keeps from being taken.
fn waiting(message: &str) -> Progress {
    Progress::Blocked(Problem::on_change(Reason::Waiting, message))
}
