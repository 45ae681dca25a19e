//! The Secrets with the connections.

use std::collections::BTreeMap;

use airflow_workload_identity::observe::Snapshot;
use airflow_workload_identity::{
    api::Reason,
    observe::{Existing, SecretState},
    plan::{Action, Progress, plan},
};
use serde_json::{Value, json};

use crate::given::*;

const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";

/// The Secrets that are written: their labels' values and their data, by name. What is no JSON
/// is a string.
fn written(world: &Snapshot) -> BTreeMap<String, (Vec<String>, Value)> {
    let parse = |value: Vec<u8>| {
        let text = String::from_utf8(value).unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    let steps = plan(world).steps.into_iter();
    steps
        .filter_map(|step| match step.action {
            Action::WriteSecret {
                name, labels, data, ..
            } => {
                let data = data.into_iter().map(|(key, value)| (key, parse(value.0)));
                Some((name, (labels.into_values().collect(), data.collect())))
            }
            _ => None,
        })
        .collect()
}

fn of(spec: Value) -> BTreeMap<String, (Vec<String>, Value)> {
    let mut world = fresh();
    world.object = object(spec);
    written(&world)
}

/// A connection as Airflow reads it, with both IDs in its extra.
fn with_ids(mut connection: Value) -> Value {
    connection["extra"]["managed_identity_client_id"] = json!(CLIENT);
    connection["extra"]["workload_identity_tenant_id"] = json!(TENANT);
    connection
}

#[test]
fn the_default_is_one_azure_connection_with_both_ids() {
    let (labels, data) = &of(json!({}))["prod-airflow-connections"];
    assert_eq!(labels, &["airflow-workload-identity"]);
    let connection = with_ids(json!({ "conn_type": "azure", "extra": {} }));
    assert_eq!(data, &json!({ "AIRFLOW_CONN_AZURE_DEFAULT": connection }));
}

#[test]
fn each_type_is_written_as_its_hook_reads_it_and_nothing_that_is_not_set() {
    let s = SUBSCRIPTION;
    let url = "https://one.example";
    #[rustfmt::skip]
    let table = [
        (json!({ "azure": {} }), json!({ "conn_type": "azure", "extra": {} })),
        (json!({ "azure": { "subscriptionId": s, "useAzureIdentityObject": true } }),
         json!({ "conn_type": "azure", "extra": { "subscriptionId": s, "use_azure_identity_object": true } })),
        (json!({ "containerInstance": { "subscriptionId": s } }),
         json!({ "conn_type": "azure_container_instance", "extra": { "subscriptionId": s } })),
        (json!({ "compute": { "subscriptionId": s } }),
         json!({ "conn_type": "azure_compute", "extra": { "subscriptionId": s } })),
        (json!({ "aiAgents": { "endpoint": url } }),
         json!({ "conn_type": "azure_ai_agents", "host": url, "extra": {} })),
        (json!({ "wasb": { "account": "mylake" } }),
         json!({ "conn_type": "wasb", "login": "mylake", "extra": {} })),
        (json!({ "wasb": { "accountUrl": url } }),
         json!({ "conn_type": "wasb", "host": url, "extra": {} })),
        (json!({ "adls": { "account": "mylake" } }),
         json!({ "conn_type": "adls", "host": "mylake", "extra": {} })),
        (json!({ "adls": { "accountUrl": url } }),
         json!({ "conn_type": "adls", "extra": { "account_url": url } })),
        (json!({ "dataExplorer": { "clusterUrl": url } }),
         json!({ "conn_type": "azure_data_explorer", "host": url, "extra": { "auth_method": "AZURE_TOKEN_CRED" } })),
        (json!({ "dataFactory": { "subscriptionId": s, "resourceGroup": "rg", "factory": "f" } }),
         json!({ "conn_type": "azure_data_factory", "extra": { "subscriptionId": s, "resource_group_name": "rg", "factory_name": "f" } })),
        (json!({ "synapse": { "workspaceUrl": url, "subscriptionId": s } }),
         json!({ "conn_type": "azure_synapse", "host": url, "extra": { "subscriptionId": s } })),
        (json!({ "batch": { "accountUrl": url } }),
         json!({ "conn_type": "azure_batch", "extra": { "account_url": url } })),
        (json!({ "containerRegistry": { "registry": "acr01", "subscriptionId": s, "resourceGroup": "rg" } }),
         json!({ "conn_type": "azure_container_registry", "host": "acr01.azurecr.io", "login": "acr01", "extra": { "subscription_id": s, "resource_group": "rg" } })),
        (json!({ "containerVolume": { "subscriptionId": s, "resourceGroup": "rg" } }),
         json!({ "conn_type": "azure_container_volume", "extra": { "subscription_id": s, "resource_group": "rg" } })),
        (json!({ "cosmos": { "endpoint": url, "subscriptionId": s, "resourceGroup": "rg", "database": "d" } }),
         json!({ "conn_type": "azure_cosmos", "login": url, "extra": { "subscription_id": s, "resource_group_name": "rg", "database_name": "d" } })),
        (json!({ "fileshare": { "account": "mylake" } }),
         json!({ "conn_type": "azure_fileshare", "login": "mylake", "extra": {} })),
        (json!({ "serviceBus": { "host": "one.example" } }),
         json!({ "conn_type": "azure_service_bus", "schema": "", "extra": { "fully_qualified_namespace": "one.example" } })),
    ];
    for (to, expected) in table {
        let mut connection = to.clone();
        connection["id"] = json!("a");
        let secrets = of(json!({ "connections": [connection] }));
        let (_, data) = &secrets["prod-airflow-connections"];
        assert_eq!(data["AIRFLOW_CONN_A"], with_ids(expected), "{to}");
    }
}

#[test]
fn free_fields_are_added_and_replace_nothing() {
    let connections = json!([{ "id": "blobs", "wasb": { "account": "mylake" }, "extra": [
        { "name": "max_block_size", "value": 4_194_304 },
        { "name": "managed_identity_client_id", "value": "another" },
    ]}]);
    let (_, data) = &of(json!({ "connections": connections }))["prod-airflow-connections"];
    let expected =
        json!({ "conn_type": "wasb", "login": "mylake", "extra": { "max_block_size": 4_194_304 } });
    assert_eq!(data["AIRFLOW_CONN_BLOBS"], with_ids(expected));
}

#[test]
fn the_secrets_backend_gets_one_labelled_secret_per_connection() {
    let connections = json!([{ "id": "azure_default", "azure": {} }, { "id": "My.Lake", "adls": { "account": "mylake" } }]);
    let secrets = of(
        json!({ "connections": connections, "connectionSecret": { "format": "SecretsBackend" } }),
    );
    let names: Vec<_> = secrets.keys().collect();
    assert_eq!(
        names,
        [
            "prod-airflow-connections-azure-default",
            "prod-airflow-connections-my-lake.3c5e0804"
        ]
    );
    let (labels, data) = &secrets["prod-airflow-connections-azure-default"];
    assert_eq!(labels, &["azure_default", "airflow-workload-identity"]);
    let connection = with_ids(json!({ "conn_type": "azure", "extra": {} }));
    assert_eq!(data, &json!({ "value": connection }));
}

#[test]
fn no_two_connections_share_a_secret() {
    let ids = [
        "lake",
        "LAKE",
        "la_ke",
        "la-ke",
        "la.ke",
        "lake_52082793",
        "lake-52082793",
    ];
    let connections: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "id": id, "azure": {} }))
        .collect();
    let secrets = of(
        json!({ "connections": connections, "connectionSecret": { "format": "SecretsBackend" } }),
    );
    assert_eq!(secrets.len(), ids.len(), "{secrets:?}");
}

#[test]
fn the_file_holds_all_connections_under_their_own_ids() {
    let connections = json!([{ "id": "a/b", "azure": {} }, { "id": "A/B", "azure": {} }]);
    let secrets =
        of(json!({ "connections": connections, "connectionSecret": { "format": "File" } }));
    let (_, data) = &secrets["prod-airflow-connections"];
    let connection = with_ids(json!({ "conn_type": "azure", "extra": {} }));
    assert_eq!(
        data,
        &json!({ "connections.json": { "a/b": connection, "A/B": connection } })
    );
}

#[test]
fn the_key_vault_backend_gets_its_settings_under_the_same_identity() {
    let backend = json!({ "vaultUrl": "https://one.vault.azure.net", "connectionsPrefix": "conns", "variablesPrefix": "" });
    let secrets = of(json!({ "keyVaultBackend": backend }));
    let (_, data) = &secrets["prod-airflow-key-vault"];
    assert_eq!(
        data["AIRFLOW__SECRETS__BACKEND"],
        "airflow.providers.microsoft.azure.secrets.key_vault.AzureKeyVaultBackend"
    );
    assert_eq!(
        data["AIRFLOW__SECRETS__BACKEND_KWARGS"],
        json!({
            "vault_url": "https://one.vault.azure.net", "connections_prefix": "conns", "variables_prefix": null,
            "managed_identity_client_id": CLIENT, "workload_identity_tenant_id": TENANT,
        })
    );
    assert!(secrets.contains_key("prod-airflow-connections"));
}

#[test]
fn without_connections_there_is_no_secret() {
    assert_eq!(of(json!({ "connections": [] })), BTreeMap::new());
}

#[test]
fn a_new_format_is_there_before_the_old_one_goes() {
    let mut world = converged();
    let status = world.object.status.take();
    world.object = object(json!({ "connectionSecret": { "format": "SecretsBackend" } }));
    world.object.status = status;
    world.secrets.clear();
    world.stale_secrets = vec![Existing {
        name: "prod-airflow-connections".into(),
        uid: "uid-of-old".into(),
    }];
    assert_eq!(
        planned(&world),
        [
            "write Secret prod-airflow-connections-azure-default with value",
            "delete Secret prod-airflow-connections"
        ]
    );
}

#[test]
fn a_connection_that_airflow_could_find_elsewhere_is_a_conflict() {
    let mut world = fresh();
    world.object = object(json!({ "connectionSecret": { "format": "SecretsBackend" } }));
    world.rival_secrets = [("azure_default".to_owned(), "theirs".to_owned())].into();
    let plan = plan(&world);
    let Progress::Blocked(problem) = &plan.secrets[0].progress else {
        panic!("{plan:?}")
    };
    assert_eq!(problem.reason, Reason::Conflict);
    assert!(
        problem.message.contains("kubectl label secret theirs"),
        "{}",
        problem.message
    );
}

#[test]
fn a_changed_secret_is_put_back() {
    let edits: [fn(&mut SecretState); 2] = [
        |state| {
            if let SecretState::Ours { checksum, .. } = state {
                *checksum = "other".into();
            }
        },
        |state| {
            if let SecretState::Ours { is_marked, .. } = state {
                *is_marked = false;
            }
        },
    ];
    for edit in edits {
        let mut world = converged();
        let state = world.secrets.values_mut().next().unwrap();
        edit(state.as_mut().unwrap());
        assert_eq!(
            planned(&world),
            ["write Secret prod-airflow-connections with AIRFLOW_CONN_AZURE_DEFAULT"]
        );
    }
}

#[test]
fn a_secret_that_someone_else_made_is_left_alone() {
    let mut world = fresh();
    secret(&mut world, SecretState::Foreign);
    let plan = plan(&world);
    let Progress::Blocked(problem) = plan.secrets[0].progress.clone() else {
        panic!("{plan:?}")
    };
    assert_eq!(problem.reason, Reason::Conflict);
    assert!(problem.message.contains("spec.connectionSecret.name"));
    assert!(!planned(&world).iter().any(|s| s.contains("Secret")));
}

#[test]
fn a_renamed_secret_exists_before_the_old_one_goes() {
    let mut world = converged();
    world.object.spec.connection_secret.name = Some("new".into());
    world.secrets.clear();
    world.stale_secrets = vec![Existing {
        name: "prod-airflow-connections".into(),
        uid: "uid-of-old".into(),
    }];
    assert_eq!(
        planned(&world),
        [
            "write Secret new with AIRFLOW_CONN_AZURE_DEFAULT",
            "delete Secret prod-airflow-connections"
        ]
    );
    assert_eq!(plan(&world).steps[1].after, [0]);
}

#[test]
fn a_plan_never_shows_a_value() {
    let text = format!("{:?}", plan(&fresh()));
    assert!(!text.contains("conn_type"), "{text}");
}
