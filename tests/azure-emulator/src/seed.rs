//! Identities that exist from the start.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use uuid::Uuid;

use crate::identity::{Credential, Identity, Trust};
use crate::route::Route;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    identities: Vec<SeedIdentity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeedIdentity {
    resource_id: String,
    location: String,
    tenant_id: Option<Uuid>,
    client_id: Option<Uuid>,
    principal_id: Option<Uuid>,
    #[serde(default)]
    federated_identity_credentials: Vec<SeedCredential>,
}

#[derive(Deserialize)]
struct SeedCredential {
    name: String,
    #[serde(flatten)]
    trust: Trust,
}

/// Reads a seed file; identities without a tenant get `tenant`.
pub fn read(path: &Path, tenant: Uuid) -> anyhow::Result<Vec<Identity>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the seed {}", path.display()))?;
    parse(&text, tenant).with_context(|| format!("in the seed {}", path.display()))
}

fn parse(text: &str, tenant: Uuid) -> anyhow::Result<Vec<Identity>> {
    let seed: Seed = serde_json::from_str(text)?;
    seed.identities
        .into_iter()
        .map(|seed| identity(seed, tenant))
        .collect()
}

fn identity(seed: SeedIdentity, tenant: Uuid) -> anyhow::Result<Identity> {
    let Route::Identity(id) = Route::parse(&seed.resource_id) else {
        anyhow::bail!(
            "not the id of a user-assigned identity: {}",
            seed.resource_id
        );
    };
    let mut identity = Identity::new(id, seed.location, seed.tenant_id.unwrap_or(tenant));
    identity.client_id = seed.client_id.unwrap_or(identity.client_id);
    identity.principal_id = seed.principal_id.unwrap_or(identity.principal_id);
    identity.credentials = seed
        .federated_identity_credentials
        .into_iter()
        .map(|SeedCredential { name, trust }| {
            let key = name.to_ascii_lowercase();
            (
                key,
                Credential {
                    name,
                    trust,
                    changed: None,
                },
            )
        })
        .collect();
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/op";

    #[test]
    fn ids_that_are_not_given_are_made_up() {
        let client = Uuid::new_v4();
        let text = format!(
            r#"{{"identities":[{{"resourceId":"{ID}","location":"westeurope","clientId":"{client}",
               "federatedIdentityCredentials":[{{"name":"Fic","issuer":"i","subject":"s","audiences":["a"]}}]}}]}}"#
        );
        let tenant = Uuid::new_v4();
        let [identity] = parse(&text, tenant).unwrap().try_into().unwrap();
        assert_eq!((identity.client_id, identity.tenant_id), (client, tenant));
        assert!(!identity.principal_id.is_nil());
        assert_eq!(identity.credentials["fic"].name, "Fic");
        assert_eq!(identity.credentials["fic"].changed, None);
    }

    #[test]
    fn mistakes_are_errors() {
        let wrong_id = r#"{"identities":[{"resourceId":"/subscriptions/s","location":"w"}]}"#;
        let typo =
            format!(r#"{{"identities":[{{"resourceId":"{ID}","location":"w","client":"x"}}]}}"#);
        for text in [wrong_id, typo.as_str(), "[]"] {
            assert!(parse(text, Uuid::nil()).is_err(), "{text}");
        }
    }
}
