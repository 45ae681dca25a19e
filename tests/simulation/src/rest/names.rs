//! The credential of an account has the name that its object chose, and the status tells it.

use airflow_workload_identity::model::{CredentialName, Subject};
use serde_json::Value;

use super::{Scene, text};
use crate::rules::{credentials, records};

/// Of a ready object.
pub fn are_right(scene: &Scene<'_>, object: &Value, id: &str) -> Result<(), String> {
    let live = credentials(&scene.azure, id);
    for account in object["status"]["serviceAccounts"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let subject = text(&account["subject"]);
        let told = text(&account["credentialName"]).to_ascii_lowercase();
        if live.get(&told).is_none_or(|trust| trust.subject != subject) {
            return Err(format!("tells of {account}, whose credential that is not"));
        }
        let wanted = wanted(scene, object, text(&account["name"]));
        let is_ours = records(object).any(|record| record.identity == id && record.name == told);
        let adopts = object["spec"]["federation"]["existingCredentials"] == "Adopt";
        if told != wanted && is_ours && !adopts && !live.contains_key(&wanted) {
            return Err(format!("has {told} on record and not {wanted}"));
        }
        if adopts && !is_ours {
            return Err(format!("adopts, and has {told} not on record"));
        }
    }
    Ok(())
}

/// In lower case.
fn wanted(scene: &Scene<'_>, object: &Value, account: &str) -> String {
    let name = if let Some(prefix) = object["spec"]["federation"]["credentialName"].as_str() {
        CredentialName::chosen(prefix, account)
    } else {
        let issuer = scene.issuer.parse().expect("an issuer");
        let subject = Subject::new(text(&object["metadata"]["namespace"]), account);
        CredentialName::derived(&issuer, &subject)
    };
    name.as_str().to_ascii_lowercase()
}
