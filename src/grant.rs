//! Who may federate what: deny by default.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};
use sha2::{Digest, Sha256};

use crate::{
    api::{AzureIdentityGrantSpec, GrantedIdentity, GrantedNamespaces},
    model::{IdentityId, ResourceGroupId, ResourceId, hex},
};

/// A namespace, as far as grants look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; none if they are not known, which no selector matches.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Whether the grant lets `namespace` use `identity` at all.
#[must_use]
pub fn covers(
    grant: &AzureIdentityGrantSpec,
    identity: &IdentityId,
    namespace: &Namespace,
) -> bool {
    // Most grants are of other namespaces, and a name is soon compared.
    matches(&grant.namespaces, namespace)
        && grant
            .identities
            .iter()
            .any(|granted| is_granted(granted, identity))
}

/// Whether one of `grants`, all of which cover the identity and the namespace, covers the account.
#[must_use]
pub fn covers_account(grants: &[AzureIdentityGrantSpec], account: &str) -> bool {
    grants.iter().any(|grant| {
        grant.service_accounts.is_empty()
            || grant.service_accounts.iter().any(|name| name == account)
    })
}

/// The grant that an administrator would have to create, as YAML; for these accounts only, or
/// for all of the namespace if there are none.
#[must_use]
pub fn missing(identity: &IdentityId, namespace: &str, accounts: &[&str]) -> String {
    let granted = match identity {
        IdentityId::Managed(id) => format!("resourceId: {id}"),
        IdentityId::Application(id) => format!("appId: {id}"),
    };
    let identity_name = identity.name();
    let parts = [namespace, &identity_name].into_iter();
    let name: Vec<&str> = parts.chain(accounts.first().copied()).collect();
    // Names of namespaces and accounts may look like numbers to YAML; a JSON string does not.
    let accounts = match accounts {
        [] => String::new(),
        some => format!("  serviceAccounts: {}\n", serde_json::json!(some)),
    };
    let namespaces = serde_json::json!([namespace]);
    format!(
        "apiVersion: airflow-workload-identity.io/v1alpha1\n\
         kind: AzureIdentityGrant\n\
         metadata:\n  name: {name}\n\
         spec:\n  identities:\n  - {granted}\n  namespaces:\n    names: {namespaces}\n{accounts}",
        name = object_name(&name.join("-")),
    )
}

/// The name of an identity may hold, and end in, what that of a Kubernetes object may not; and
/// together they may be too long for one.
fn object_name(text: &str) -> String {
    const MAX: usize = 253;
    let name = text.to_ascii_lowercase().replace(['_', '.'], "-");
    let name = name.trim_matches('-');
    if name.len() <= MAX {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(name.as_bytes()));
    format!("{}-{}", &name[..MAX - 9], &hash[..8])
}

/// What does not parse, or names more than one thing, grants nothing.
fn is_granted(granted: &GrantedIdentity, identity: &IdentityId) -> bool {
    let GrantedIdentity {
        resource_id,
        resource_group_id,
        app_id,
    } = granted;
    match (resource_id, resource_group_id, app_id, identity) {
        (Some(id), None, None, IdentityId::Managed(identity)) => {
            id.parse::<ResourceId>().is_ok_and(|id| id == *identity)
        }
        (None, Some(id), None, IdentityId::Managed(identity)) => id
            .parse::<ResourceGroupId>()
            .is_ok_and(|group| identity.is_in(&group)),
        (None, None, Some(id), IdentityId::Application(identity)) => id == identity,
        _ => false,
    }
}

fn matches(granted: &GrantedNamespaces, namespace: &Namespace) -> bool {
    let by_label = || {
        let selector = granted.selector.clone()?;
        Selector::try_from(selector).ok()
    };
    granted.names.contains(&namespace.name)
        || namespace
            .labels
            .as_ref()
            .is_some_and(|labels| by_label().is_some_and(|selector| selector.matches(labels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AIRFLOW: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";
    const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data";

    fn grant(spec: serde_json::Value) -> AzureIdentityGrantSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
        Namespace {
            name: name.into(),
            labels: Some(
                labels
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            ),
        }
    }

    #[test]
    fn a_selector_matches_no_namespace_of_which_nothing_is_known() {
        let unknown = Namespace {
            name: "airflow".into(),
            labels: None,
        };
        let identity: IdentityId = AIRFLOW.parse().unwrap();
        let not_labelled = json!([{ "key": "team", "operator": "DoesNotExist" }]);
        for selector in [json!({}), json!({ "matchExpressions": not_labelled })] {
            let namespaces = json!({ "selector": selector });
            let by_id = json!([{ "resourceId": AIRFLOW }]);
            let grant = grant(json!({ "identities": by_id, "namespaces": namespaces }));
            assert!(covers(&grant, &identity, &namespace("airflow", &[])));
            assert!(!covers(&grant, &identity, &unknown));
        }
    }

    #[test]
    fn a_grant_covers_what_it_names_and_nothing_else() {
        let airflow: IdentityId = AIRFLOW.parse().unwrap();
        let upper: IdentityId = AIRFLOW.to_uppercase().parse().unwrap();
        let other_name: IdentityId = format!("{AIRFLOW}2").parse().unwrap();
        let other_group: IdentityId = AIRFLOW.replace("/data/", "/data2/").parse().unwrap();
        let by_id = json!([{ "resourceId": AIRFLOW }]);
        let by_group = json!([{ "resourceGroupId": GROUP.to_uppercase() }]);
        let by_name = json!({ "names": ["airflow"] });
        let by_label = json!({ "selector": { "matchLabels": { "team": "data" } } });
        let anywhere = json!({ "selector": {} });
        let wrong_selector =
            json!({ "selector": { "matchExpressions": [{ "key": "a", "operator": "Nonsense" }] } });
        let app: IdentityId = "applications/aaaaaaaa-0000-0000-0000-00000000000a"
            .parse()
            .unwrap();
        let by_app = json!([{ "appId": "AAAAAAAA-0000-0000-0000-00000000000A" }]);
        let other_app = json!([{ "appId": "aaaaaaaa-0000-0000-0000-00000000000b" }]);
        let app_and_group =
            json!([{ "appId": "aaaaaaaa-0000-0000-0000-00000000000a", "resourceGroupId": GROUP }]);
        let both = json!([{ "resourceId": AIRFLOW, "resourceGroupId": GROUP }]);
        let ns = || namespace("airflow", &[("team", "data")]);
        let table = [
            (&by_id, &by_name, &airflow, ns(), true),
            (&by_id, &by_name, &upper, ns(), true),
            (&by_id, &by_name, &other_name, ns(), false),
            (&by_id, &by_name, &other_group, ns(), false),
            (
                &by_id,
                &by_name,
                &airflow,
                namespace("airflow2", &[]),
                false,
            ),
            (&by_id, &by_name, &airflow, namespace("AIRFLOW", &[]), false),
            (&by_id, &by_label, &airflow, ns(), true),
            (
                &by_id,
                &by_label,
                &airflow,
                namespace("airflow", &[("team", "dat")]),
                false,
            ),
            (&by_id, &anywhere, &airflow, namespace("x", &[]), true),
            (&by_id, &wrong_selector, &airflow, ns(), false),
            (&by_group, &by_name, &airflow, ns(), true),
            (&by_group, &by_name, &other_name, ns(), true),
            (&by_group, &by_name, &other_group, ns(), false),
            (&both, &by_name, &airflow, ns(), false),
            (&by_app, &by_name, &app, ns(), true),
            (&by_app, &by_name, &airflow, ns(), false),
            (&by_group, &by_name, &app, ns(), false),
            (&other_app, &by_name, &app, ns(), false),
            (&app_and_group, &by_name, &app, ns(), false),
            (&app_and_group, &by_name, &airflow, ns(), false),
        ];
        for (identities, namespaces, identity, namespace, expected) in table {
            let grant = grant(json!({ "identities": identities, "namespaces": namespaces }));
            assert_eq!(
                covers(&grant, identity, &namespace),
                expected,
                "{grant:?} {identity} {namespace:?}"
            );
        }
    }

    #[test]
    fn without_a_grant_nothing_is_covered() {
        assert!(!covers_account(&[], "airflow-worker"));
    }

    #[test]
    fn a_grant_may_name_the_accounts() {
        let spec = json!({ "identities": [{ "resourceId": AIRFLOW }], "namespaces": { "names": ["airflow"] }, "serviceAccounts": ["airflow-worker"] });
        let grants = [grant(spec)];
        assert!(covers_account(&grants, "airflow-worker"));
        assert!(!covers_account(&grants, "airflow-scheduler"));
    }

    #[test]
    fn the_grant_in_the_message_is_the_one_that_is_missing_and_no_more() {
        let identity: IdentityId = format!("{AIRFLOW}_").parse().unwrap();
        let long = "a".repeat(253);
        for accounts in [&[][..], &["airflow.worker"], &["123"], &[&long]] {
            let yaml = missing(&identity, "airflow", accounts);
            let grant: crate::api::AzureIdentityGrant = serde_saphyr::from_str(&yaml).unwrap();
            assert!(covers(&grant.spec, &identity, &namespace("airflow", &[])));
            assert_eq!(grant.spec.service_accounts, accounts);
            let name = grant.metadata.name.unwrap();
            assert!(name.len() <= 253, "{name}");
            assert!(
                name.starts_with("airflow-airflow") && !name.ends_with('-') && !name.contains('.'),
                "{name}"
            );
        }
    }
}
