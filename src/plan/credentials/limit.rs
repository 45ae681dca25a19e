//! Azure's limit of credentials per identity, whoever wrote them.

use std::collections::BTreeMap;

use super::super::Plan;
use crate::{
    api::ConditionType,
    model::{FederatedCredential, Issuer},
    observe::Snapshot,
};

/// Most credentials of an identity.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
pub const LIMIT: usize = 20;
/// When it is time to say that it comes near.
const NEARLY: usize = 18;

/// Notes that the limit comes near, while there is still time. Not how many there are: each that comes would have
/// all objects of the identity write their status again.
pub(super) fn warn(snapshot: &Snapshot, plan: &mut Plan) {
    let Ok(identity) = &snapshot.identity else {
        return;
    };
    let listed = snapshot.azure.get(identity).map(|view| &view.credentials);
    if let Some(Ok(live)) = listed
        && live.len() >= NEARLY
    {
        let note = format!(
            "The identity carries {NEARLY} or more of at most {LIMIT} credentials; what it carries: {list}.",
            list = identity.az_list(),
        );
        plan.notes.insert(ConditionType::CredentialsFederated, note);
    }
}

/// Who uses an identity's credentials: namespaces of this cluster, and others, with how many.
#[must_use]
pub fn users(issuer: &Issuer, live: &[FederatedCredential]) -> String {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for credential in live {
        let mut subject = credential.subject.split(':');
        let user = if credential.issuer != issuer.as_str() {
            format!("issuer {}", credential.issuer)
        } else if let (Some("system"), Some("serviceaccount"), Some(namespace)) =
            (subject.next(), subject.next(), subject.next())
        {
            format!("namespace {namespace} of this cluster")
        } else {
            credential.subject.clone()
        };
        *users.entry(user).or_default() += 1;
    }
    let users: Vec<String> = users
        .into_iter()
        .map(|(user, count)| format!("{user} ({count})"))
        .collect();
    users.join(", ")
}
