//! Nothing of the operator's is where nobody wants it.

use serde_json::Value;

use super::{Fate, Scene, Wanted, text};
use crate::names::{CredentialPath, FOREIGN_ISSUER, account_of, subject};
use crate::rules::{self, Trust, credentials, is_managed, is_managed_for, recorded};

pub fn nothing(scene: &Scene<'_>, wanted: &[Wanted]) -> Result<(), String> {
    credential(scene, wanted)?;
    annotation(scene, wanted)?;
    orphan(scene)
}

/// A credential that an operator wrote and that nobody wants.
fn credential(scene: &Scene<'_>, wanted: &[Wanted]) -> Result<(), String> {
    for found in scene.azure["identities"].as_array().into_iter().flatten() {
        let id = text(&found["id"]).to_ascii_lowercase();
        for (name, trust) in credentials(&scene.azure, &id) {
            let identity = id.clone();
            let path = CredentialPath { identity, name };
            let is_left = scene.rules.owns(&path)
                && trust.issuer != FOREIGN_ISSUER
                && !scene.rules.retained.contains_key(&path)
                && !is_wanted(scene, wanted, &path, &trust);
            if is_left {
                return Err(format!("{path:?} is left behind: {trust:?}"));
            }
        }
    }
    Ok(())
}

/// Whether a grant covers it.
fn may_stay(scene: &Scene<'_>, path: &CredentialPath, trust: &Trust) -> bool {
    account_of(&trust.subject).is_some_and(|(namespace, account)| {
        scene.rules.grants_now(&path.identity, namespace, account)
    })
}

/// Whether an account goes by it; or may still, until it is let in where it should be, or its object is resumed.
fn is_wanted(scene: &Scene<'_>, wanted: &[Wanted], path: &CredentialPath, trust: &Trust) -> bool {
    let lets_in = |wanted: &Wanted| {
        wanted.fate == Fate::LetIn
            && wanted.identity == path.identity
            && trust.issuer == scene.issuer
    };
    let may_stay = may_stay(scene, path, trust);
    let mut accounts = wanted
        .iter()
        .filter(|wanted| wanted.subject == trust.subject);
    accounts.any(|wanted| lets_in(wanted) || wanted.fate != Fate::LetIn && may_stay)
        || may_stay
            && suspended(scene).any(|object| {
                recorded(object).any(|record| record == (path.clone(), &trust.subject))
            })
}

/// An account that an operator annotated and that nobody asks for; or that may not use the identity by which it goes.
fn annotation(scene: &Scene<'_>, wanted: &[Wanted]) -> Result<(), String> {
    for account in scene.api.list("serviceaccounts") {
        let metadata = &account["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let client = &metadata["annotations"]["azure.workload.identity/client-id"];
        if client.is_null() || !is_managed(account) {
            continue;
        }
        let subject = subject(namespace, name);
        let goes_by = rules::identity_of_client(&scene.azure, text(client));
        let is_granted =
            goes_by.is_some_and(|identity| scene.rules.grants_now(&identity, namespace, name));
        let is_wanted = wanted.iter().any(|wanted| {
            wanted.subject == subject && (wanted.fate != Fate::NotGranted || is_granted)
        });
        let is_suspended = suspended(scene).any(|object| {
            object["metadata"]["namespace"] == namespace
                && is_managed_for(account, text(&object["metadata"]["name"]))
        });
        if !is_wanted && !is_suspended {
            return Err(format!("the annotation of {subject} is left behind"));
        }
    }
    Ok(())
}

/// What an operator made for an object that is gone.
fn orphan(scene: &Scene<'_>) -> Result<(), String> {
    for plural in ["secrets", "roles", "rolebindings"] {
        for found in scene.api.list(plural) {
            let owner = &found["metadata"]["ownerReferences"][0];
            let mut objects = scene.api.list("airflowworkloadidentities");
            if owner["uid"].is_string()
                && !objects.any(|object| object["metadata"]["uid"] == owner["uid"])
            {
                return Err(format!("it has no owner any more: {}", found["metadata"]));
            }
        }
    }
    Ok(())
}

fn suspended<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a Value> {
    let objects = scene.api.list("airflowworkloadidentities");
    objects.filter(|object| object["spec"]["suspend"] == true)
}
