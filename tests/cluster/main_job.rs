//! The main job: one manifest, and everything else follows.

use std::collections::BTreeMap;

use serde_json::json;

use crate::world::{World, all, labels, run};

#[test]
fn one_object_federates_annotates_and_writes_the_connection() {
    run(async {
        let world = World::new("main-job").await;
        world.ready(json!({})).await;

        let ids = [Some(world.client_id.clone()), Some(world.tenant_id.clone())];
        let expected = all(&["scheduler", "triggerer", "worker"]);
        assert_eq!(
            world.annotations().await,
            expected.iter().map(|a| (a.clone(), ids.clone())).collect()
        );
        assert_eq!(world.federated().await, expected);
        for credential in world.credentials_of(&world.identity).await.into_values() {
            assert_eq!(credential.audiences, ["api://AzureADTokenExchange"]);
        }
        assert_eq!(
            world.connections("prod-airflow-connections").await.unwrap(),
            BTreeMap::from([(
                "AIRFLOW_CONN_AZURE_DEFAULT".to_owned(),
                json!({ "conn_type": "azure", "extra": {
                    "managed_identity_client_id": world.client_id,
                    "workload_identity_tenant_id": world.tenant_id,
                }}),
            )])
        );

        let status = world.get("prod").await.unwrap().status.unwrap();
        assert_eq!(status.accounts.as_deref(), Some("3/3"));
        assert_eq!(status.issuer.as_deref(), Some(world.lab.issuer()));
        assert!(
            status.issuer.unwrap().ends_with('/'),
            "the issuer is kept byte for byte"
        );
        let secret = world.secret("prod-airflow-connections").await.unwrap();
        let checksum = status.secrets[0].checksum.clone();
        assert_eq!(
            secret.metadata.annotations.unwrap()["airflow-workload-identity.io/checksum"],
            checksum
        );
    });
}

#[test]
fn a_token_of_each_account_is_exchanged_and_that_of_another_is_not() {
    run(async {
        let world = World::new("exchange").await;
        assert!(world.exchange("airflow-worker").await.is_err());
        world.ready(json!({})).await;
        for account in all(&["scheduler", "triggerer", "worker"]) {
            world.exchange(&account).await.unwrap();
        }
        let refused = format!("{:#}", world.exchange("default").await.unwrap_err());
        assert!(refused.contains("AADSTS700213"), "{refused}");
    });
}

#[test]
fn what_a_user_sees_in_a_list() {
    run(async {
        let world = World::new("list").await;
        world.ready(json!({})).await;
        let row = async |number: usize| {
            let table = world.kubectl("get awi").await.unwrap();
            let words = table.lines().nth(number).unwrap().split_whitespace();
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            row(0).await,
            [
                "NAME", "READY", "REASON", "CLIENT", "ID", "ACCOUNTS", "PODS", "AGE"
            ]
        );
        // The pods were there before the object; or come meanwhile, which wakes nobody.
        let expected = ["prod", "True", "Done", &world.client_id, "3/3", "False"];
        world
            .becomes(expected.map(str::to_owned).to_vec(), async || {
                row(1).await[..6].to_vec()
            })
            .await;
    });
}

#[test]
fn accounts_are_found_through_workloads_and_labels_and_never_by_formula() {
    run(async {
        let world = World::bare("discovery").await;
        world.grant(json!({})).await;
        // A worker under an account that the chart did not create, and that has no labels.
        world.account("custom", &json!({})).await;
        world.workload("worker", "airflow", "custom").await;
        // An account of the KubernetesExecutor: labels, but no workload.
        world
            .account("odd-name", &labels("airflow", "worker"))
            .await;
        // Not asked for: another component, another release, a namespace's default account.
        world
            .account("airflow-statsd", &labels("airflow", "statsd"))
            .await;
        world
            .account("other-worker", &labels("other", "worker"))
            .await;
        world.account("airflow-worker", &json!({})).await;
        world.workload("scheduler", "airflow", "default").await;
        world.heard().await;
        world.ready(json!({})).await;
        assert_eq!(world.federated().await, ["custom", "odd-name"]);
    });
}

#[test]
fn an_account_that_is_named_may_appear_later() {
    run(async {
        let world = World::bare("named").await;
        world.grant(json!({})).await;
        let spec = json!({ "airflow": { "helmRelease": null, "serviceAccounts": ["etl"] } });
        world.prod(spec).await;
        let message = world
            .until(
                "prod",
                "ServiceAccountsAnnotated",
                "False",
                "ServiceAccountMissing",
            )
            .await;
        assert!(message.contains("etl"), "{message}");
        assert_eq!(world.federated().await, ["etl"]);
        world.account("etl", &json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(
            world.client_id_of("etl").await.as_ref(),
            Some(&world.client_id)
        );
    });
}

#[test]
fn names_of_credentials_may_be_the_guides() {
    run(async {
        let world = World::new("guide").await;
        world
            .ready(json!({ "federation": { "credentialName": "prod" } }))
            .await;
        let names: Vec<_> = world
            .credentials_of(&world.identity)
            .await
            .into_keys()
            .collect();
        assert_eq!(names, ["prod-scheduler", "prod-triggerer", "prod-worker"]);
    });
}

#[test]
fn writes_of_several_objects_to_one_identity_never_overlap() {
    run(async {
        let world = World::new("serial").await;
        for (name, component) in [("a", "scheduler"), ("b", "triggerer"), ("c", "worker")] {
            let spec = json!({ "airflow": { "components": [component] } });
            world.apply(&world.object(name, spec)).await.unwrap();
        }
        for name in ["a", "b", "c"] {
            world.until(name, "Ready", "True", "Done").await;
        }
        let requests = world.lab.emulator().requests(0).await.unwrap();
        let writes: Vec<u16> = requests
            .iter()
            .filter(|request| request.operation.as_deref() == Some("credential.put"))
            .filter(|request| request.path.contains(&world.identity))
            .map(|request| request.status)
            .collect();
        assert_eq!(writes, [201, 201, 201]);
    });
}

#[test]
fn every_effect_is_an_event() {
    run(async {
        let world = World::new("events").await;
        world.ready(json!({})).await;
        for reason in [
            "CredentialsWritten",
            "ServiceAccountsAnnotated",
            "ConnectionsWritten",
            "Ready",
        ] {
            world
                .eventually(reason, async || {
                    world
                        .event_reasons("prod")
                        .await
                        .contains(&reason.to_owned())
                        .then_some(())
                })
                .await;
        }
    });
}
