//! Federated identity credentials: what is written, and what is deleted.
//!
//! They have no etag, tag or owner. Ours is one that the status recorded before it was written;
//! and whatever the record says, only one is touched whose subject lies in the object's own
//! namespace and whose issuer this cluster has or had; and on an application, whose description
//! says that it is ours. Everything else is somebody else's.

mod candidate;
mod delete;
mod limit;
mod names;
mod ownership;

pub(super) use delete::{Keep, delete, revoke};
pub use limit::{LIMIT, users};

use self::{candidate::Candidate, names::names};
use super::{AccountPlan, Plan, Progress, waiting};
use crate::{
    api::Reason,
    azure::AzureErrorKind,
    model::{CredentialName, IdentityId, Subject},
    observe::{Account, Snapshot},
    problem::Problem,
};

/// Plans the credential of every granted account.
pub(super) fn put(snapshot: &Snapshot, granted: &[&Account], plan: &mut Plan) {
    limit::warn(snapshot, plan);
    let names = names(snapshot, granted);
    for (account, name) in granted.iter().zip(names) {
        let (credential_name, credential) = credential(snapshot, account, name, plan);
        plan.accounts.push(AccountPlan {
            name: account.name.clone(),
            components: account.components.clone(),
            subject: Subject::new(&snapshot.namespace, &account.name),
            credential_name,
            uid: account.uid(),
            credential,
            annotation: waiting("The federated credential comes first."),
        });
    }
}

/// The name of the credential that lets `account` in, and how far it is.
fn credential(
    snapshot: &Snapshot,
    account: &Account,
    name: Option<CredentialName>,
    plan: &mut Plan,
) -> (Option<String>, Progress) {
    let subject = Subject::new(&snapshot.namespace, &account.name);
    let before = snapshot
        .identity
        .as_ref()
        .ok()
        .and_then(|identity| federated_before(snapshot, plan, identity, &subject));
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
        subject: &subject,
        name,
        live,
    }
    .decide(plan)
}

/// The credential that the status says this account has on this identity; none if the identity
/// is gone, for its credentials went with it, or if the status speaks of another one: both may be on record.
fn federated_before(
    snapshot: &Snapshot,
    plan: &Plan,
    identity: &IdentityId,
    subject: &Subject,
) -> Option<String> {
    let view = snapshot.azure.get(identity);
    let is_gone = view.is_some_and(
        |view| matches!(&view.credentials, Err(error) if error.kind == AzureErrorKind::NotFound),
    );
    let subject = subject.to_string();
    let mut recorded = snapshot
        .records()
        .filter(|(_, r)| r.subject == subject)
        .peekable();
    // One that is used as somebody else wrote it is not on record.
    let is_here = recorded.peek().is_none() || recorded.any(|(id, _)| id == *identity);
    let status = snapshot.object.status.as_ref()?;
    let client = plan.ids.map(|ids| ids.client.to_string());
    let is_told = client.is_none() || status.client_id == client;
    let account = status
        .service_accounts
        .iter()
        .find(|a| a.subject == subject)?;
    account
        .credential_name
        .clone()
        .filter(|_| account.federated && is_here && is_told && !is_gone)
}
