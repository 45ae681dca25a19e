//! The API server refuses a wrong object with a message that names the field and the fix.

use serde_json::{Value, json};

use crate::world::{World, run};

/// The API server refuses the manifest, and its message holds all these words.
async fn refused(world: &World<'_>, manifest: &Value, words: &[&str]) {
    let Err(refusal) = world.apply(manifest).await else {
        panic!("{manifest} was accepted")
    };
    let refusal = refusal.to_string();
    for word in words {
        assert!(
            refusal.contains(word),
            "{manifest}: {word:?} is not in: {refusal}"
        );
    }
}

#[test]
fn wrong_objects_are_refused() {
    run(async {
        let world = World::bare("schema").await;
        let uuid = "aaaaaaaa-0000-0000-0000-00000000000a";
        let identity = |resource_id: &str| json!({ "identity": { "managedIdentity": { "resourceId": resource_id } } });
        let connections = |connections: Value| json!({ "connections": connections });
        let backend = |connections: Value| json!({ "connections": connections, "connectionSecret": { "format": "SecretsBackend" } });
        let with_extra = |name: &str| json!({ "id": "a", "wasb": { "account": "lake" }, "extra": [{ "name": name, "value": "x" }] });
        let table: Vec<(Value, &[&str])> = vec![
            (
                identity("airflow"),
                &[
                    "spec.identity.managedIdentity.resourceId",
                    "az identity show",
                ],
            ),
            (
                identity(&format!(
                    "{}/federatedIdentityCredentials/x",
                    world.identity
                )),
                &["spec.identity.managedIdentity.resourceId"],
            ),
            (
                identity(&world.identity.replace("/data/", "/../")),
                &["spec.identity.managedIdentity.resourceId"],
            ),
            (
                json!({ "identity": { "managedIdentity": null } }),
                &["spec.identity", "set managedIdentity.resourceId"],
            ),
            (
                json!({ "identity": { "application": { "appId": uuid } } }),
                &["spec.identity", "not both"],
            ),
            (
                json!({ "identity": { "managedIdentity": null, "application": { "appId": uuid } } }),
                &["spec.identity.tenantId", "az account show"],
            ),
            (
                json!({ "identity": { "managedIdentity": null, "application": { "appId": "airflow" }, "tenantId": uuid } }),
                &["spec.identity.application.appId", "uuid"],
            ),
            (
                json!({ "identity": { "clientId": "airflow" } }),
                &["spec.identity.clientId", "uuid"],
            ),
            (
                json!({ "airflow": { "stackableCluster": "airflow" } }),
                &[
                    "spec.airflow",
                    "at most one of helmRelease, stackableCluster",
                ],
            ),
            (
                json!({ "airflow": { "helmRelease": null, "workloadSelector": {} } }),
                &["spec.airflow.workloadSelector", "at least one label"],
            ),
            (
                json!({ "airflow": { "serviceAccountSelector": { "matchLabels": {} } } }),
                &["spec.airflow.serviceAccountSelector", "at least one label"],
            ),
            (
                json!({ "airflow": { "components": ["schedular"] } }),
                &["spec.airflow.components[0]", "\"scheduler\""],
            ),
            (
                json!({ "airflow": { "components": ["worker", "worker"] } }),
                &["spec.airflow.components", "each component once"],
            ),
            (
                json!({ "airflow": { "serviceAccounts": ["No_Name"] } }),
                &["spec.airflow.serviceAccounts[0]"],
            ),
            (
                json!({ "airflow": { "serviceAccounts": ["a..b"] } }),
                &["spec.airflow.serviceAccounts[0]"],
            ),
            (
                json!({ "airflow": { "helmRelease": "airflow", "components": [] } }),
                &["spec.airflow", "components may be empty only if"],
            ),
            (
                json!({ "connectionSecret": { "name": "a..b" } }),
                &["spec.connectionSecret.name"],
            ),
            (
                json!({ "federation": { "credentialName": "a b" } }),
                &["spec.federation.credentialName"],
            ),
            (
                json!({ "federation": { "deletionPolicy": "Keep" } }),
                &["spec.federation.deletionPolicy", "\"Retain\""],
            ),
            (
                connections(json!([{ "id": "a-b", "azure": {} }])),
                &["spec.connections", "letters, digits and underscores"],
            ),
            (
                connections(json!([{ "id": "ä", "azure": {} }])),
                &["spec.connections[0].id", "as Airflow allows"],
            ),
            (
                backend(json!([{ "id": "a/b", "azure": {} }])),
                &["spec.connections", "becomes a label"],
            ),
            (
                json!({ "connectionSecret": { "readerRole": true } }),
                &["spec.connectionSecret", "SecretsBackend"],
            ),
            (
                json!({ "connectionSecret": { "format": "File" }, "keyVaultBackend": { "vaultUrl": "https://a.vault.azure.net" } }),
                &["spec.keyVaultBackend", "one secrets backend only"],
            ),
            (
                json!({ "keyVaultBackend": { "vaultUrl": "https://a.vault.azure.net" }, "connectionSecret": { "name": "wrong-airflow-key-vault" } }),
                &["spec.connectionSecret.name must not be"],
            ),
            (
                json!({ "keyVaultBackend": { "vaultUrl": "a.vault.azure.net" } }),
                &["spec.keyVaultBackend.vaultUrl", "https://"],
            ),
            (
                connections(json!([{ "id": "a", "azure": {}, "wasb": { "account": "lake" } }])),
                &["spec.connections[0]", "exactly one connection type"],
            ),
            (
                connections(json!([{ "id": "a", "wasb": {} }])),
                &["spec.connections[0].wasb", "exactly one of account"],
            ),
            (
                connections(
                    json!([{ "id": "a", "wasb": { "account": "lake", "accountUrl": "https://lake.blob.core.windows.net" } }]),
                ),
                &["spec.connections[0].wasb", "exactly one of account"],
            ),
            (
                connections(
                    json!([{ "id": "a", "adls": { "account": "https://lake.dfs.core.windows.net" } }]),
                ),
                &["spec.connections[0].adls.account"],
            ),
            (
                connections(json!([{ "id": "a", "dataFactory": {} }])),
                &["spec.connections[0].dataFactory.subscriptionId", "Required"],
            ),
            (
                connections(json!([{ "id": "a", "serviceBus": { "host": "sb://one.example/" } }])),
                &["spec.connections[0].serviceBus.host", "without https://"],
            ),
            (
                connections(json!([with_extra("tenant_id")])),
                &["spec.connections[0].extra[0].name", "credential"],
            ),
            (
                connections(json!([with_extra("_hosts")])),
                &["spec.connections[0].extra[0].name", "token elsewhere"],
            ),
            (
                connections(json!([with_extra("secondary_hostname")])),
                &["spec.connections[0].extra", "sizes, timeouts, retries"],
            ),
            (
                connections(
                    json!([{ "id": "a", "wasb": { "accountUrl": "https://a23456789b23456789c23456789.example.com" } }]),
                ),
                &["spec.connections[0].wasb.accountUrl", "24 characters"],
            ),
            (
                connections(json!([with_extra("extra__wasb__tenant_id")])),
                &["spec.connections[0].extra[0].name", "credential"],
            ),
            (
                connections(json!([{ "id": "a", "azure": {} }, { "id": "a", "azure": {} }])),
                &["spec.connections", "IDs must differ"],
            ),
            (
                connections(json!([{ "id": "lake", "azure": {} }, { "id": "LAKE", "azure": {} }])),
                &["spec.connections", "upper case"],
            ),
            (
                connections(json!([{ "id": "a" }])),
                &["spec.connections[0]", "exactly one connection type"],
            ),
            (
                connections(json!([{ "id": "a", "azure": null }])),
                &["spec.connections[0]", "exactly one connection type"],
            ),
            (
                connections(json!([{ "id": "a", "azure": { "subscriptionId": "x" } }])),
                &["spec.connections[0].azure.subscriptionId", "uuid"],
            ),
            (
                connections(json!([{ "id": "a", "blob": {} }])),
                &["spec.connections[0].blob", "unknown field"],
            ),
            (
                json!({ "connectionSecret": { "format": "Csv" } }),
                &["spec.connectionSecret.format", "\"Environment\""],
            ),
            (json!({ "idntity": {} }), &["spec.idntity", "unknown field"]),
        ];
        for (spec, words) in table {
            refused(&world, &world.object("wrong", spec), words).await;
        }
    });
}

#[test]
fn wrong_grants_are_refused() {
    run(async {
        let world = World::bare("schema-grant").await;
        let grant = |spec: Value| {
            json!({
                "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant",
                "metadata": { "name": "wrong" }, "spec": spec,
            })
        };
        let group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data";
        let names = json!({ "names": ["a"] });
        let uuid = "aaaaaaaa-0000-0000-0000-00000000000a";
        let table: Vec<(Value, &[&str])> = vec![
            (
                json!({ "identities": [], "namespaces": names }),
                &["spec.identities"],
            ),
            (
                json!({ "identities": [{}], "namespaces": names }),
                &["spec.identities[0]", "exactly one"],
            ),
            (
                json!({ "identities": [{ "resourceId": world.identity, "resourceGroupId": group }], "namespaces": names }),
                &["spec.identities[0]", "exactly one"],
            ),
            (
                json!({ "identities": [{ "resourceId": world.identity, "appId": uuid }], "namespaces": names }),
                &["spec.identities[0]", "exactly one"],
            ),
            (
                json!({ "identities": [{ "appId": "*" }], "namespaces": names }),
                &["spec.identities[0].appId", "uuid"],
            ),
            (
                json!({ "identities": [{ "resourceGroupId": world.identity }], "namespaces": names }),
                &["spec.identities[0].resourceGroupId", "az group show"],
            ),
            (
                json!({ "identities": [{ "resourceId": group }], "namespaces": names }),
                &["spec.identities[0].resourceId", "az identity show"],
            ),
            (
                json!({ "identities": [{ "resourceId": world.identity }], "namespaces": {} }),
                &["spec.namespaces", "set names, or a selector"],
            ),
        ];
        for (spec, words) in table {
            refused(&world, &grant(spec), words).await;
        }
    });
}

#[test]
fn the_smallest_object_gets_every_default() {
    run(async {
        let world = World::bare("defaults").await;
        let mut smallest = world.object("prod", json!({}));
        smallest["spec"].as_object_mut().unwrap().remove("airflow");
        world.apply(&smallest).await.unwrap();
        let spec = world
            .kubectl("get awi prod -o jsonpath={.spec}")
            .await
            .unwrap();
        let spec: Value = serde_json::from_str(&spec).unwrap();
        assert_eq!(
            spec,
            json!({
                "identity": { "managedIdentity": { "resourceId": world.identity } },
                "airflow": { "components": ["scheduler", "triggerer", "worker"], "serviceAccounts": [] },
                "federation": { "deletionPolicy": "Delete", "existingCredentials": "Use" },
                "connections": [{ "id": "azure_default", "azure": {} }],
                "connectionSecret": { "format": "Environment", "readerRole": false },
                "pods": { "connections": "Inject", "restart": "Never" },
                "suspend": false,
            })
        );
    });
}

#[test]
fn explain_reads_like_documentation() {
    run(async {
        let world = World::bare("explain").await;
        for (field, words) in [
            ("awi", "without a password"),
            (
                "awi.spec.identity.managedIdentity.resourceId",
                "az identity show",
            ),
            ("awi.spec.airflow.components", "get the identity"),
            (
                "awi.spec.connections.azure.subscriptionId",
                "subscription that Airflow's hooks work in",
            ),
            (
                "awi.spec.connections.wasb.account",
                "storage account's name",
            ),
            ("awi.spec.connections.extra", "provider's documentation"),
            (
                "awi.spec.airflow.workloadSelector",
                "any other installation",
            ),
            (
                "awi.status.serviceAccounts.subject",
                "system:serviceaccount:",
            ),
            (
                "aig.spec.namespaces.selector",
                "empty selector matches every namespace",
            ),
        ] {
            // The API server publishes what it has of a kind a moment after it takes objects.
            let text = world
                .eventually("explained", async || {
                    world.lab.kubectl(&["explain", field]).await.ok()
                })
                .await;
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(words), "{field}: {text}");
        }
    });
}

/// Who may write a status may forge one; but none that makes the object unreadable, and keeps it so
/// from being revoked.
#[test]
fn no_status_holds_a_time_that_nobody_can_reckon_with() {
    run(async {
        let world = World::bare("forged-times").await;
        world.prod(json!({})).await;
        let late = "9999-12-31T23:59:59Z";
        let account = json!({ "name": "a", "subject": "system:serviceaccount:forged-times:a" });
        let with = |field: &str, value: Value| {
            let mut account = account.clone();
            account[field] = value;
            json!({ "serviceAccounts": [account] })
        };
        let condition = json!({ "type": "Ready", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": late });
        for (field, status) in [
            ("federatedAt", with("federatedAt", json!(late))),
            ("since", with("injection", json!({ "since": late }))),
            ("lastTransitionTime", json!({ "conditions": [condition] })),
        ] {
            let patch = json!({ "status": status });
            let forged = format!("patch awi prod --subresource=status --type=merge -p {patch}");
            let refusal = world.kubectl(&forged).await.unwrap_err().to_string();
            assert!(refusal.contains(field), "{field}: {refusal}");
        }
    });
}
