//! The names of credentials: derived, so that no other cluster or account shares them; or the
//! guide's, when the user chooses a prefix.

use std::collections::BTreeSet;

use crate::{
    model::{CredentialName, Subject},
    observe::{Account, Snapshot},
};

/// The names of the accounts' credentials, in the accounts' order.
pub(super) fn names(snapshot: &Snapshot, accounts: &[&Account]) -> Vec<Option<CredentialName>> {
    let Ok(issuer) = &snapshot.issuer else {
        return vec![None; accounts.len()];
    };
    let mut taken = BTreeSet::new();
    let name = |account: &&Account| {
        let derived =
            CredentialName::derived(issuer, &Subject::new(&snapshot.namespace, &account.name));
        let Some(prefix) = &snapshot.object.spec.federation.credential_name else {
            return Some(derived);
        };
        let alone = |component| {
            accounts
                .iter()
                .filter(|a| a.components.contains(component))
                .count()
                == 1
        };
        let suffix = match account.components.iter().collect::<Vec<_>>().as_slice() {
            [component] if alone(component) => component.as_str(),
            _ => &account.name,
        };
        let chosen = CredentialName::chosen(prefix, suffix);
        Some(if taken.insert(chosen.clone()) {
            chosen
        } else {
            derived
        })
    };
    accounts.iter().map(name).collect()
}
