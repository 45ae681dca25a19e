//! The Secrets in every format, as the cluster has them.

use airflow_workload_identity::api::SecretStatus;
use serde_json::json;

use crate::world::{World, run};

const LABEL: &str = "airflow.apache.org/connection-id";

/// The names of the Secrets that the operator wrote.
async fn ours(world: &World<'_>) -> Vec<String> {
    let selector = "get secrets -l app.kubernetes.io/managed-by=airflow-workload-identity -o jsonpath={.items[*].metadata.name}";
    let names = world.kubectl(selector).await.unwrap();
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_changed_format_or_name_moves_cleanly() {
    run(async {
        let world = World::new("formats").await;
        let connections = json!([{ "id": "azure_default", "azure": {} }, { "id": "lake", "adls": { "account": "mylake" } }]);
        world.ready(json!({ "connections": connections })).await;
        assert_eq!(ours(&world).await, ["prod-airflow-connections"]);

        let moves: [(&str, &str, &[&str]); 3] = [
            (
                "SecretsBackend",
                "conns",
                &["conns-azure-default", "conns-lake"],
            ),
            ("File", "conns", &["conns"]),
            ("Environment", "other", &["other"]),
        ];
        for (format, name, expected) in moves {
            world
                .ready(json!({ "connections": connections, "connectionSecret": { "format": format, "name": name } }))
                .await;
            world
                .becomes(
                    expected.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
                    async || ours(&world).await,
                )
                .await;
            let status = world.get("prod").await.unwrap().status.unwrap();
            let names = |secrets: &[SecretStatus]| {
                secrets.iter().map(|s| s.name.clone()).collect::<Vec<_>>()
            };
            assert_eq!(names(&status.secrets), expected, "{format}");
        }
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert!(ours(&world).await.is_empty());
    });
}

#[test]
fn a_secret_that_lost_its_label_is_found_when_it_is_no_longer_wanted() {
    run(async {
        let world = World::new("unlabelled").await;
        world.ready(json!({})).await;
        // While suspended, or the label would be put back.
        world.prod(json!({ "suspend": true })).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        world
            .kubectl("label secret prod-airflow-connections app.kubernetes.io/managed-by-")
            .await
            .unwrap();
        world
            .ready(json!({ "suspend": false, "connectionSecret": { "name": "new" } }))
            .await;
        world
            .becomes(true, async || {
                world.secret("prod-airflow-connections").await.is_none()
            })
            .await;
    });
}

#[test]
fn a_secret_of_the_backend_is_put_back_with_its_label() {
    run(async {
        let world = World::new("backend").await;
        let spec = json!({ "connectionSecret": { "format": "SecretsBackend" } });
        world.ready(spec).await;
        let name = "prod-airflow-connections-azure-default";
        let label = async || {
            let secret = world.secret(name).await?;
            secret.metadata.labels?.get(LABEL).cloned()
        };
        assert_eq!(label().await.as_deref(), Some("azure_default"));
        world
            .kubectl(&format!("label secret {name} {LABEL}-"))
            .await
            .unwrap();
        world.becomes(Some("azure_default".to_owned()), label).await;
        world
            .kubectl(&format!("delete secret {name}"))
            .await
            .unwrap();
        world.becomes(Some("azure_default".to_owned()), label).await;
    });
}

#[test]
fn a_connection_that_airflow_could_find_elsewhere_is_a_conflict_until_it_is_gone() {
    run(async {
        let world = World::new("rival").await;
        let rival = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "theirs", "namespace": "rival", "labels": { LABEL: "azure_default" } },
            "stringData": { "value": "{}" },
        });
        world.apply(&rival).await.unwrap();
        // Who hears of this one, which came later, has heard of the rival.
        let later = "prod-airflow-connections";
        world
            .kubectl(&format!("create secret generic {later}"))
            .await
            .unwrap();
        world.prod(json!({})).await;
        world
            .until_told("prod", "ConnectionsWritten", "False", "Conflict", later)
            .await;
        world
            .prod(json!({ "connectionSecret": { "format": "SecretsBackend" } }))
            .await;
        world
            .until_told(
                "prod",
                "ConnectionsWritten",
                "False",
                "Conflict",
                "kubectl label secret theirs",
            )
            .await;
        assert!(ours(&world).await.is_empty());
        world
            .kubectl(&format!("label secret theirs {LABEL}-"))
            .await
            .unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_secret_that_somebody_made_immutable_is_written_anew_once_it_is_deleted() {
    run(async {
        let world = World::new("immutable").await;
        world.ready(json!({})).await;
        let secret = "secret prod-airflow-connections";
        let immutable = format!("patch {secret} -p {{\"immutable\":true}}");
        world.kubectl(&immutable).await.unwrap();
        let more = json!([{ "id": "azure_default", "azure": {} }, { "id": "lake", "adls": { "account": "lake" } }]);
        world.prod(json!({ "connections": more })).await;
        let way_out = format!("kubectl delete {secret} -n immutable");
        // Not as long as it only changed in the meantime.
        world
            .until_told(
                "prod",
                "ConnectionsWritten",
                "False",
                "ClusterError",
                &way_out,
            )
            .await;
        world.kubectl(&format!("delete {secret}")).await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_rival_that_comes_later_is_told_too() {
    run(async {
        let world = World::new("late-rival").await;
        let spec = json!({ "connectionSecret": { "format": "SecretsBackend" } });
        world.ready(spec).await;
        world
            .kubectl("create secret generic theirs --from-literal=value={}")
            .await
            .unwrap();
        world
            .kubectl(&format!("label secret theirs {LABEL}=azure_default"))
            .await
            .unwrap();
        world
            .until("prod", "ConnectionsWritten", "False", "Conflict")
            .await;
    });
}

#[test]
fn the_accounts_may_list_secrets_only_while_that_is_asked_for() {
    run(async {
        let world = World::new("reader").await;
        let may_list = async || {
            let account = "system:serviceaccount:reader:airflow-worker";
            let answer = world
                .kubectl(&format!("auth can-i list secrets --as {account}"))
                .await;
            answer.is_ok_and(|answer| answer.trim() == "yes")
        };
        let spec = |reader_role: bool| json!({ "connectionSecret": { "format": "SecretsBackend", "readerRole": reader_role } });
        world.ready(spec(false)).await;
        assert!(!may_list().await);
        world.ready(spec(true)).await;
        world.becomes(true, may_list).await;

        // Somebody empties it.
        let role = "role prod-airflow-connections-reader";
        world
            .kubectl(&format!(r#"patch {role} --type=merge -p {{"rules":[]}}"#))
            .await
            .unwrap();
        let resources = format!("get {role} -o jsonpath={{.rules[*].resources[*]}}");
        world
            .becomes("secrets".to_owned(), async || {
                world.kubectl(&resources).await.unwrap()
            })
            .await;
        world.becomes(true, may_list).await;

        // A right does not outlive the grant.
        world
            .lab
            .kubectl(&["delete", "aig", "reader"])
            .await
            .unwrap();
        world.becomes(false, may_list).await;
        world.grant(json!({})).await;
        world.becomes(true, may_list).await;

        world.ready(spec(false)).await;
        world.becomes(false, may_list).await;
        assert!(world.kubectl(&format!("get {role}")).await.is_err());
    });
}

#[test]
fn a_role_that_someone_else_made_is_left_alone() {
    run(async {
        let world = World::new("foreign-role").await;
        world
            .kubectl("create role prod-airflow-connections-reader --verb=get --resource=pods")
            .await
            .unwrap();
        world
            .prod(json!({ "connectionSecret": { "format": "SecretsBackend", "readerRole": true } }))
            .await;
        let message = world
            .until("prod", "ConnectionsWritten", "False", "Conflict")
            .await;
        assert!(message.contains("readerRole"), "{message}");
        let verbs = world
            .kubectl("get role prod-airflow-connections-reader -o jsonpath={.rules[*].verbs}")
            .await
            .unwrap();
        assert_eq!(verbs, r#"["get"]"#);
    });
}

#[test]
fn the_settings_of_the_key_vault_backend_come_and_go() {
    run(async {
        let world = World::new("key-vault").await;
        let vault = json!({ "keyVaultBackend": { "vaultUrl": "https://one.vault.azure.net" } });
        world.ready(vault).await;
        let settings = world.connections("prod-airflow-key-vault").await.unwrap();
        assert_eq!(
            settings["AIRFLOW__SECRETS__BACKEND_KWARGS"]["managed_identity_client_id"],
            json!(world.client_id)
        );
        world.ready(json!({ "keyVaultBackend": null })).await;
        world
            .becomes(vec!["prod-airflow-connections".to_owned()], async || {
                ours(&world).await
            })
            .await;
    });
}
