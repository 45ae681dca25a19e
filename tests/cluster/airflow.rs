//! Real Airflow, 2.11 and 3.x, reads what the operator wrote, in every format; and the hook of each
//! connection type gets its token from Entra by it.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::{Value, json};

use crate::world::{World, run};

const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";
const AIRFLOWS: [(&str, &str); 2] = [
    ("airflow", "tests/airflow/requirements.txt"),
    ("airflow2", "tests/airflow2/requirements.txt"),
];

/// Variables that a pod has.
type Environment = BTreeMap<String, String>;

/// A pod of the worker: as the Azure webhook sets it up.
async fn pod(world: &World<'_>) -> Environment {
    let audience = lab::identities::EXCHANGE_AUDIENCE;
    let token = world
        .lab
        .mint_token(&world.ns, "airflow-worker", audience)
        .await
        .unwrap();
    let file = world.lab.scratch().join(format!("{}.token", world.ns));
    std::fs::write(&file, token).unwrap();
    let ca = world.lab.emulator().ca_path().display().to_string();
    [
        ("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string()),
        (
            "AZURE_AUTHORITY_HOST",
            world.lab.emulator().url().to_owned(),
        ),
        ("REQUESTS_CA_BUNDLE", ca.clone()),
        ("SSL_CERT_FILE", ca),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A Secret's data, as `envFrom` gives it to a pod.
async fn env_from(world: &World<'_>, secret: &str) -> Environment {
    let data = world.secret(secret).await.unwrap().data.unwrap();
    data.into_iter()
        .map(|(key, value)| (key, String::from_utf8(value.0).unwrap()))
        .collect()
}

/// What Airflow makes of these connections: its last line of output, as JSON.
fn airflow(python: &Path, home: &Path, environment: &Environment, args: &[&str]) -> Value {
    let output = Command::new(python)
        .arg(lab::repository().join("tests/airflow/use_connections.py"))
        .args(args)
        .env("AIRFLOW_HOME", home)
        .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        .env_remove("AZURE_CLIENT_ID")
        .env_remove("AZURE_TENANT_ID")
        .envs(environment)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Runs all Airflows at once: each takes half a minute.
fn in_every_airflow(
    world: &World<'_>,
    environment: &Environment,
    args: &[&str],
    check: impl Fn(&str, &Value) + Sync,
) {
    let homes = world.lab.scratch().join(&world.ns);
    std::thread::scope(|scope| {
        for (name, requirements) in AIRFLOWS {
            let (check, home) = (&check, homes.join(name));
            scope.spawn(move || {
                let python = lab::python(name, requirements).unwrap();
                check(name, &airflow(&python, &home, environment, args));
            });
        }
    });
}

/// Every type, with every way to name what it connects to: the spec, and where the first request
/// of its hook goes.
fn every_type() -> Vec<(&'static str, Value, &'static str)> {
    let s = SUBSCRIPTION;
    vec![
        ("azure", json!({ "azure": {} }), "management.azure.com"),
        (
            "azure_object",
            json!({
                "azure": { "subscriptionId": s, "useAzureIdentityObject": true },
                "extra": [{ "name": "team", "value": { "names": ["data", "ml"] } }],
            }),
            "management.azure.com",
        ),
        (
            "aci",
            json!({ "containerInstance": { "subscriptionId": s } }),
            "management.azure.com",
        ),
        (
            "compute",
            json!({ "compute": { "subscriptionId": s } }),
            "management.azure.com",
        ),
        (
            "agents",
            json!({ "aiAgents": { "endpoint": "https://ais.services.ai.azure.com/api/projects/p" } }),
            "ais.services.ai.azure.com",
        ),
        (
            "blobs",
            json!({ "wasb": { "account": "acct" }, "extra": [
                { "name": "max_block_size", "value": 4_194_304 },
                { "name": "logging_enable", "value": true },
            ] }),
            "acct.blob.core.windows.net",
        ),
        (
            "blobs_url",
            json!({ "wasb": { "accountUrl": "https://acct.blob.core.usgovcloudapi.net" } }),
            "acct.blob.core.usgovcloudapi.net",
        ),
        (
            "lake",
            json!({ "adls": { "account": "acct" } }),
            "acct.dfs.core.windows.net",
        ),
        (
            "lake_url",
            json!({ "adls": { "accountUrl": "https://acct.dfs.core.usgovcloudapi.net" } }),
            "acct.dfs.core.usgovcloudapi.net",
        ),
        (
            "adx",
            json!({ "dataExplorer": { "clusterUrl": "https://clu.westeurope.kusto.windows.net" } }),
            "clu.westeurope.kusto.windows.net",
        ),
        (
            "adf",
            json!({ "dataFactory": { "subscriptionId": s, "resourceGroup": "rg", "factory": "f" } }),
            "management.azure.com",
        ),
        (
            "synapse",
            json!({ "synapse": { "workspaceUrl": "https://ws.dev.azuresynapse.net", "subscriptionId": s } }),
            "ws.dev.azuresynapse.net",
        ),
        (
            "batch",
            json!({ "batch": { "accountUrl": "https://b.westeurope.batch.azure.com" } }),
            "b.westeurope.batch.azure.com",
        ),
        (
            "registry",
            json!({ "containerRegistry": { "registry": "acr01", "subscriptionId": s, "resourceGroup": "rg" } }),
            "management.azure.com",
        ),
        (
            "volume",
            json!({ "containerVolume": { "subscriptionId": s, "resourceGroup": "rg" } }),
            "management.azure.com",
        ),
        (
            "cosmos",
            json!({ "cosmos": { "endpoint": "https://cos.documents.azure.com", "subscriptionId": s, "resourceGroup": "rg" } }),
            "management.azure.com",
        ),
        (
            "share",
            json!({ "fileshare": { "account": "acct" } }),
            "acct.file.core.windows.net",
        ),
        (
            "share_url",
            json!({ "fileshare": { "accountUrl": "https://acct.file.core.usgovcloudapi.net" } }),
            "acct.file.core.usgovcloudapi.net",
        ),
        (
            "bus",
            json!({ "serviceBus": { "host": "ns.servicebus.windows.net" } }),
            "ns.servicebus.windows.net",
        ),
    ]
}

fn connections() -> Vec<Value> {
    every_type()
        .into_iter()
        .map(|(id, mut connection, _)| {
            connection["id"] = json!(id);
            connection
        })
        .collect()
}

#[test]
fn the_hook_of_every_type_gets_its_token_as_the_identity() {
    run(async {
        let world = World::new("hooks").await;
        world.ready(json!({ "connections": connections() })).await;
        let mut environment = pod(&world).await;
        environment.extend(env_from(&world, "prod-airflow-connections").await);
        let ids: Vec<&str> = every_type().into_iter().map(|(id, _, _)| id).collect();
        in_every_airflow(&world, &environment, &ids, |airflow, read| {
            for (id, asked, host) in every_type() {
                let read = &read[id];
                let is = |key: &str, value: &str| read[key].as_str() == Some(value);
                let credential = match id {
                    "azure" => "AzureIdentityCredentialAdapter",
                    _ => "DefaultAzureCredential",
                };
                assert!(is("credential", credential), "{airflow} {id}: {read}");
                assert!(is("client_id", &world.client_id), "{airflow} {id}: {read}");
                let url = read["url"].as_str().unwrap();
                assert!(
                    url.starts_with(&format!("https://{host}/")),
                    "{airflow} {id}: {read}"
                );
                let extra = &read["extra"];
                assert_eq!(extra["managed_identity_client_id"], json!(world.client_id));
                assert_eq!(extra["workload_identity_tenant_id"], json!(world.tenant_id));
                for field in asked["extra"].as_array().into_iter().flatten() {
                    let name = field["name"].as_str().unwrap();
                    assert_eq!(extra[name], field["value"], "{airflow} {id}: {read}");
                }
            }
        });
    });
}

#[test]
fn the_secrets_backends_find_the_connections_too() {
    run(async {
        let world = World::new("backends").await;
        let two = |lake: &str| json!([{ "id": "azure_default", "azure": {} }, { "id": lake, "adls": { "account": "acct" } }]);
        let found = |airflow: &str, read: &Value| {
            for (id, read) in read.as_object().unwrap() {
                assert_eq!(
                    read["client_id"],
                    json!(world.client_id),
                    "{airflow} {id}: {read}"
                );
            }
            assert_eq!(read.as_object().unwrap().len(), 2, "{airflow}: {read}");
        };
        let environment = pod(&world).await;

        // As the kubelet mounts it. A file can hold IDs that no Secret's key and no variable can.
        world
            .ready(json!({ "connections": two("team/lake"), "connectionSecret": { "format": "File" } }))
            .await;
        let secret = env_from(&world, "prod-airflow-connections").await;
        let file = world.lab.scratch().join("connections.json");
        std::fs::write(&file, &secret["connections.json"]).unwrap();
        let backend = |class: &str, kwargs: Value| {
            let mut environment = environment.clone();
            environment.insert("AIRFLOW__SECRETS__BACKEND".into(), class.into());
            environment.insert(
                "AIRFLOW__SECRETS__BACKEND_KWARGS".into(),
                kwargs.to_string(),
            );
            environment
        };
        let local = backend(
            "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            json!({ "connections_file_path": file }),
        );
        in_every_airflow(&world, &local, &["azure_default", "team/lake"], found);

        // With the rights of the worker's account, and no others.
        world
            .ready(json!({ "connections": two("my.lake"), "connectionSecret": { "format": "SecretsBackend", "readerRole": true } }))
            .await;
        let kubeconfig = world
            .lab
            .kubeconfig_of(&world.ns, "airflow-worker")
            .await
            .unwrap();
        let mut kubernetes = backend(
            "airflow.providers.cncf.kubernetes.secrets.kubernetes_secrets_backend.KubernetesSecretsBackend",
            json!({ "namespace": world.ns }),
        );
        kubernetes.insert("KUBECONFIG".into(), kubeconfig.display().to_string());
        in_every_airflow(&world, &kubernetes, &["azure_default", "my.lake"], found);
    });
}

#[test]
fn the_key_vault_backend_signs_in_as_the_identity() {
    run(async {
        let world = World::new("vault").await;
        world
            .ready(json!({ "keyVaultBackend": { "vaultUrl": "https://one.vault.azure.net" } }))
            .await;
        let mut environment = pod(&world).await;
        environment.extend(env_from(&world, "prod-airflow-key-vault").await);
        in_every_airflow(
            &world,
            &environment,
            &["--look-up", "anything"],
            |airflow, read| {
                let read = &read["anything"];
                assert_eq!(
                    read["client_id"],
                    json!(world.client_id),
                    "{airflow}: {read}"
                );
                let url = read["url"].as_str().unwrap();
                assert!(
                    url.starts_with(
                        "https://one.vault.azure.net/secrets/airflow-connections-anything"
                    ),
                    "{airflow}: {read}"
                );
            },
        );
    });
}
