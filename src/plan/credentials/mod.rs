//! Federated identity credentials: what is written, and what is deleted.
//!
//! They have no etag, tag or owner. Ours is one that the status recorded before it was written;
//! and whatever the record says, only one is touched whose subject lies in the object's own
//! namespace and whose issuer is this cluster's. Everything else is somebody else's.

mod delete;
mod names;
mod ownership;

pub(super) use delete::{delete, revoke};

use self::{names::names, ownership::is_touchable};
use super::{AccountPlan, Action, Plan, Progress, waiting};
use crate::{
    api::{CredentialRecord, Reason},
    azure::{ArmErrorKind, CredentialProperties},
    model::{CredentialName, FederatedCredential, Issuer, ResourceId, Subject},
    observe::{Account, Snapshot},
    problem::{Problem, Retry},
};

/// Azure's limit per identity.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
const LIMIT: usize = 20;

/// Plans the credential of every granted account.
pub(super) fn put(snapshot: &Snapshot, granted: &[&Account], plan: &mut Plan) {
    let names = names(snapshot, granted);
    for (account, name) in granted.iter().zip(names) {
        let subject = Subject::new(&snapshot.namespace, &account.name);
        let (credential_name, credential) = credential(snapshot, &subject, name, plan);
        plan.accounts.push(AccountPlan {
            name: account.name.clone(),
            components: account.components.clone(),
            subject,
            credential_name,
            uid: account.uid(),
            credential,
            annotation: waiting("The federated credential comes first."),
        });
    }
}

/// The name of the credential that lets `subject` in, and how far it is.
fn credential(
    snapshot: &Snapshot,
    subject: &Subject,
    name: Option<CredentialName>,
    plan: &mut Plan,
) -> (Option<String>, Progress) {
    let before = snapshot
        .identity
        .as_ref()
        .ok()
        .and_then(|identity| federated_before(snapshot, identity, subject));
    let (Ok(identity), Ok(issuer), Some(_), Some(name)) =
        (&snapshot.identity, &snapshot.issuer, plan.ids, name)
    else {
        let problem = Problem::on_change(
            Reason::Waiting,
            "The identity and the issuer must be known first.",
        );
        return match before {
            Some(name) => (Some(name), Progress::Unverified(problem)),
            None => (None, Progress::Blocked(problem)),
        };
    };
    let live = match snapshot.azure.get(identity).map(|view| &view.credentials) {
        Some(Ok(live)) => live,
        Some(Err(error)) => {
            let what = format!("cannot list the credentials of identity {identity}");
            let problem = Problem::azure(&what, identity, error);
            return match before {
                Some(name) => (Some(name), Progress::Unverified(problem)),
                None => (Some(name.to_string()), Progress::Blocked(problem)),
            };
        }
        None => return (None, waiting("The identity has not been read yet.")),
    };
    Candidate {
        snapshot,
        identity,
        issuer,
        subject,
        name,
        live,
    }
    .decide(plan)
}

/// The credential that the status says this account has on this identity; none if the identity
/// is gone, for its credentials went with it.
fn federated_before(
    snapshot: &Snapshot,
    identity: &ResourceId,
    subject: &Subject,
) -> Option<String> {
    let view = snapshot.azure.get(identity);
    let is_gone = view.is_some_and(
        |view| matches!(&view.credentials, Err(error) if error.kind == ArmErrorKind::NotFound),
    );
    let subject = subject.to_string();
    let mut recorded = snapshot
        .records()
        .filter(|(_, r)| r.subject == subject)
        .peekable();
    // One that is used as somebody else wrote it is not on record.
    let is_here = recorded.peek().is_none() || recorded.any(|(id, _)| id == *identity);
    let status = snapshot.object.status.as_ref()?;
    let account = status
        .service_accounts
        .iter()
        .find(|a| a.subject == subject)?;
    account
        .credential_name
        .clone()
        .filter(|_| account.federated && is_here && !is_gone)
}

/// A credential that is wanted, and everything that decides what to do for it.
struct Candidate<'a> {
    snapshot: &'a Snapshot,
    identity: &'a ResourceId,
    issuer: &'a Issuer,
    subject: &'a Subject,
    name: CredentialName,
    live: &'a [FederatedCredential],
}

impl Candidate<'_> {
    fn decide(self, plan: &mut Plan) -> (Option<String>, Progress) {
        let subject = self.subject.to_string();
        let same_tuple = self
            .live
            .iter()
            .find(|c| c.trusts(self.issuer.as_str(), &subject));
        let same_name = self.live.iter().find(|c| c.is_named(self.name.as_str()));
        // Azure takes one credential per issuer and subject, whatever its name.
        let Some(found) = same_tuple.or(same_name) else {
            return self.create(plan);
        };
        let lets_us_in = same_tuple.is_some();
        if lets_us_in && found.audiences == [self.snapshot.audience.clone()] {
            return self.keep(found, plan);
        }
        if self.is_ours(found) {
            return self.repair(found, plan);
        }
        let message = if lets_us_in {
            format!(
                "Credential {name} of identity {identity} trusts {subject}, but with audience {audience:?} instead of {ours:?}, and it is not ours. Correct or delete it: az identity federated-credential delete --name {name} {at}",
                at = self.identity.az_flags(),
                name = found.name,
                identity = self.identity,
                audience = found.audiences,
                ours = self.snapshot.audience,
            )
        } else {
            format!(
                "Identity {identity} already has a credential {name}, which trusts {theirs} of issuer {issuer}, and it is not ours. It is left alone. Set spec.federation.credentialName to another name, or delete it: az identity federated-credential delete --name {name} {at}",
                at = self.identity.az_flags(),
                identity = self.identity,
                name = found.name,
                theirs = found.subject,
                issuer = found.issuer,
            )
        };
        (
            Some(found.name.clone()),
            Progress::Blocked(conflict(message)),
        )
    }

    /// It is there. Under our name it is ours; under another it is used as it is, unless we
    /// wrote it and the name was changed since.
    fn keep(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        if found.is_named(self.name.as_str()) {
            // Nobody else derives this name; one that the user chose may be the user's work.
            if self.name == CredentialName::derived(self.issuer, self.subject) {
                plan.records.insert(self.record(self.name.as_str()));
            }
            return (Some(found.name.clone()), Progress::Holds);
        }
        let claims = &self.snapshot.claimed_by_others;
        let is_shared = claims.contains(&(self.identity.clone(), found.name.clone()));
        let name_is_free = !self.live.iter().any(|c| c.is_named(self.name.as_str()));
        if self.is_ours(found) && !is_shared && name_is_free {
            return self.rename(found, plan);
        }
        (Some(found.name.clone()), Progress::Holds)
    }

    /// Ours, but somebody changed it.
    fn repair(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        match found.name.parse() {
            Ok(name) => Self { name, ..self }.write(Vec::new(), plan),
            // Azure has it, so it is valid; if not, it is nothing that we wrote.
            Err(invalid) => (
                Some(found.name.clone()),
                Progress::Blocked(conflict(invalid.to_string())),
            ),
        }
    }

    /// The old one has to go first: Azure refuses a second credential for one subject.
    fn rename(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        let action = Action::DeleteCredential {
            record: self.record(&found.name),
            identity: self.identity.clone(),
        };
        let delete = plan.push(action, Vec::new());
        self.write(vec![delete], plan)
    }

    fn create(self, plan: &mut Plan) -> (Option<String>, Progress) {
        let planned = plan
            .steps
            .iter()
            .filter(|step| matches!(&step.action, Action::PutCredential { name, .. } if !self.live.iter().any(|c| c.is_named(name.as_str()))))
            .count();
        if self.live.len() + planned >= LIMIT {
            let problem = Problem {
                reason: Reason::LimitReached,
                message: format!(
                    "Identity {identity} carries {count} of at most {LIMIT} federated credentials; there is no room for {subject}. Delete one that nobody needs (az identity federated-credential list {at}), or use one identity per Airflow.",
                    at = self.identity.az_flags(),
                    identity = self.identity,
                    count = self.live.len(),
                    subject = self.subject,
                ),
                retry: Retry::Slow,
            };
            return (Some(self.name.to_string()), Progress::Blocked(problem));
        }
        self.write(Vec::new(), plan)
    }

    fn write(self, after: Vec<usize>, plan: &mut Plan) -> (Option<String>, Progress) {
        plan.records.insert(self.record(self.name.as_str()));
        let properties = CredentialProperties {
            issuer: self.issuer.to_string(),
            subject: self.subject.to_string(),
            audiences: vec![self.snapshot.audience.clone()],
        };
        let name = self.name.to_string();
        let action = Action::PutCredential {
            identity: self.identity.clone(),
            name: self.name,
            properties,
        };
        (Some(name), Progress::Pending(plan.push(action, after)))
    }

    fn is_ours(&self, live: &FederatedCredential) -> bool {
        let recorded = self
            .snapshot
            .records()
            .any(|(identity, record)| identity == *self.identity && live.is_named(&record.name));
        recorded && is_touchable(self.snapshot, self.issuer, live)
    }

    fn record(&self, name: &str) -> CredentialRecord {
        CredentialRecord {
            identity: self.identity.to_string(),
            name: name.to_owned(),
            issuer: self.issuer.to_string(),
            subject: self.subject.to_string(),
        }
    }
}

fn conflict(message: String) -> Problem {
    Problem {
        reason: Reason::Conflict,
        message,
        retry: Retry::Slow,
    }
}
