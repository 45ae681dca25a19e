//! Whatever changes, by hand or by spec, ends in the right state.

use std::time::Duration;

use lab::{Lab, OperatorOptions};
use serde_json::{Value, json};

use crate::world::{CLIENT_ID, World, all, labels, list, own, resource_id, run};

#[test]
fn a_new_account_of_the_release_gets_the_identity() {
    run(async {
        let world = World::new("new-account").await;
        world.ready(json!({})).await;
        world
            .account("airflow-worker-gpu", &labels("airflow", "worker"))
            .await;
        world
            .becomes(Some(world.client_id.clone()), async || {
                world.client_id_of("airflow-worker-gpu").await
            })
            .await;
        assert_eq!(
            world.federated().await,
            all(&["scheduler", "triggerer", "worker", "worker-gpu"])
        );
    });
}

#[test]
fn a_changed_annotation_is_put_back() {
    run(async {
        let world = World::new("annotation").await;
        world.ready(json!({})).await;
        let edit = "annotate serviceaccount airflow-worker --overwrite";
        world
            .kubectl(&format!(
                "{edit} azure.workload.identity/client-id=x azure.workload.identity/tenant-id=y"
            ))
            .await
            .unwrap();
        world
            .becomes(Some(world.client_id.clone()), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
        world
            .kubectl(&format!("{edit} azure.workload.identity/client-id-"))
            .await
            .unwrap();
        world
            .becomes(Some(world.client_id.clone()), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_deleted_or_changed_secret_is_written_again() {
    run(async {
        let world = World::new("secret").await;
        world.ready(json!({})).await;
        let name = "prod-airflow-connections";
        let connections = world.connections(name).await;
        world
            .kubectl(&format!("delete secret {name}"))
            .await
            .unwrap();
        world
            .becomes(connections.clone(), async || world.connections(name).await)
            .await;
        world.kubectl(&format!("patch secret {name} --type=merge -p {{\"stringData\":{{\"AIRFLOW_CONN_AZURE_DEFAULT\":\"x\",\"MORE\":\"y\"}}}}")).await.unwrap();
        world
            .becomes(connections.clone(), async || world.connections(name).await)
            .await;
        let label = "app.kubernetes.io/managed-by";
        world
            .kubectl(&format!("label secret {name} {label}-"))
            .await
            .unwrap();
        world
            .eventually("the label is back", async || {
                world.secret(name).await?.metadata.labels?.remove(label)
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_deleted_or_changed_credential_is_written_again() {
    run(async {
        let world = World::new("credential").await;
        world.ready(json!({})).await;
        let before = world.credentials_of(&world.identity).await;
        let name = world.credential_name("airflow-worker");
        let azure = world.azure().await;
        azure
            .delete_credential(&world.identity, &name)
            .await
            .unwrap();
        world
            .becomes(before.clone(), async || {
                world.credentials_of(&world.identity).await
            })
            .await;
        let subject = format!("system:serviceaccount:{}:someone", world.ns);
        // Azure refuses it while the operator's own write is still in flight.
        world
            .eventually("somebody's change is taken", async || {
                let issuer = world.lab.issuer();
                let change = azure.put_credential(&world.identity, &name, issuer, &subject);
                change.await.ok()
            })
            .await;
        world
            .becomes(before.clone(), async || {
                world.credentials_of(&world.identity).await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}

/// Waits until the operator has met the fault: a list of the test's own would take it.
async fn is_taken(world: &World<'_>, lab: &Lab, fault: &Value) {
    let status = &fault["status"];
    world
        .eventually("Azure could not be asked", async || {
            let requests = lab.emulator().requests(0).await.unwrap();
            let mut requests = requests.iter();
            let is_it = requests.any(|one| one.is_operators() && one.status == *status);
            is_it.then_some(())
        })
        .await;
}

#[test]
fn whoever_asks_for_something_new_is_told_what_azure_has_now() {
    run(async {
        let (lab, operator) = own(OperatorOptions::default()).await;
        let fault = |status: u16, retry_after: u32| {
            json!({
                "operation": "credential.list", "times": 1, "status": status, "code": "Test",
                "message": "of a test", "retryAfter": retry_after, "action": "respond",
            })
        };
        // And if Azure cannot be asked at that moment, as soon as it can be.
        let faults = [None, Some(fault(503, 1)), Some(fault(429, 3))];
        for (name, fault) in ["now", "after-an-error", "after-a-pause"]
            .iter()
            .zip(faults)
        {
            let world = World::of(&lab, &operator, name).await;
            world.grant(json!({})).await;
            world.release(&["scheduler", "worker"]).await;
            let azure = world.azure().await;
            let subject = format!("system:serviceaccount:{name}:airflow-worker");
            azure
                .put_credential(&world.identity, "by-hand", lab.issuer(), &subject)
                .await
                .unwrap();
            world.ready(json!({})).await;
            azure
                .delete_credential(&world.identity, "by-hand")
                .await
                .unwrap();
            // What was listed is old by then, and the next resync is minutes away.
            tokio::time::sleep(Duration::from_secs(6)).await;
            if let Some(fault) = &fault {
                lab.emulator().fault(fault).await.unwrap();
            }
            world
                .prod(json!({ "federation": { "deletionPolicy": "Retain" } }))
                .await;
            if let Some(fault) = &fault {
                is_taken(&world, &lab, fault).await;
            }
            world
                .becomes(all(&["scheduler", "worker"]), async || {
                    world.federated().await
                })
                .await;
        }
    });
}

#[test]
fn whoever_had_to_go_by_what_was_listed_before_a_pause_looks_again_after_it() {
    run(async {
        let (lab, operator) = own(OperatorOptions::default()).await;
        let world = World::of(&lab, &operator, "old-list").await;
        world.grant(json!({})).await;
        let azure = world.azure().await;
        // One of them waits for Azure; what was listed does for the others.
        let names = ["one", "three", "two"];
        for name in names {
            world.account(name, &json!({})).await;
            let subject = format!("system:serviceaccount:old-list:{name}");
            azure
                .put_credential(&world.identity, name, lab.issuer(), &subject)
                .await
                .unwrap();
        }
        let objects = |policy: &str| {
            let object = |name| {
                let mut object = world.object(name, json!({}));
                object["spec"]["airflow"] = json!({ "serviceAccounts": [name] });
                object["spec"]["federation"] = json!({ "deletionPolicy": policy });
                object
            };
            list(names.map(object))
        };
        world.apply(&objects("Delete")).await.unwrap();
        world
            .becomes("True True True".to_owned(), async || {
                let ready = r#"get awi -o jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
                world.kubectl(ready).await.unwrap()
            })
            .await;
        for name in names {
            azure
                .delete_credential(&world.identity, name)
                .await
                .unwrap();
        }
        // What was listed is old by then, and the next resync is minutes away.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let pause = json!({
            "operation": "credential.list", "times": 1, "status": 429, "code": "Test",
            "message": "of a test", "retryAfter": 8, "action": "respond",
        });
        lab.emulator().fault(&pause).await.unwrap();
        world.apply(&objects("Retain")).await.unwrap();
        is_taken(&world, &lab, &pause).await;
        world
            .becomes(names.map(str::to_owned).into(), async || {
                world.federated().await
            })
            .await;
    });
}

#[test]
fn another_identity_takes_over_and_the_old_one_is_left_clean() {
    run(async {
        let world = World::new("moved").await;
        world.ready(json!({})).await;
        let other = resource_id("moved-to");
        let made = world.azure().await.put_identity(&other).await.unwrap();
        let client_id = made["properties"]["clientId"].as_str().unwrap().to_owned();
        world.grant(json!({ "identities": [{ "resourceId": world.identity }, { "resourceId": other }] })).await;

        world
            .ready(json!({ "identity": { "managedIdentity": { "resourceId": other } } }))
            .await;
        assert_eq!(
            world.federated_on(&other).await,
            all(&["scheduler", "triggerer", "worker"])
        );
        assert_eq!(
            world.client_id_of("airflow-worker").await,
            Some(client_id.clone())
        );
        let connections = world.connections("prod-airflow-connections").await.unwrap();
        assert_eq!(
            connections["AIRFLOW_CONN_AZURE_DEFAULT"]["extra"]["managed_identity_client_id"],
            json!(client_id)
        );
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        world
            .becomes(3, async || world.records("prod").await.len())
            .await;
    });
}

#[test]
fn a_removed_component_loses_annotation_and_credential() {
    run(async {
        let world = World::new("removed").await;
        world.ready(json!({})).await;
        world
            .ready(json!({ "airflow": { "components": ["scheduler", "worker"] } }))
            .await;
        assert_eq!(world.client_id_of("airflow-triggerer").await, None);
        assert_eq!(world.federated().await, all(&["scheduler", "worker"]));
        world
            .becomes(2, async || world.records("prod").await.len())
            .await;
    });
}

#[test]
fn a_renamed_secret_and_renamed_credentials_leave_nothing_behind() {
    run(async {
        let world = World::new("renamed").await;
        world.ready(json!({})).await;
        world.ready(json!({ "connectionSecret": { "name": "conns" }, "federation": { "credentialName": "new" } })).await;
        assert!(world.secret("conns").await.is_some());
        world
            .becomes(None, async || {
                world.connections("prod-airflow-connections").await
            })
            .await;
        let names: Vec<_> = world
            .credentials_of(&world.identity)
            .await
            .into_keys()
            .collect();
        assert_eq!(names, ["new-scheduler", "new-triggerer", "new-worker"]);
    });
}

#[test]
fn an_identity_that_was_made_again_while_it_carried_no_credential() {
    run(async {
        let world = World::bare("anew").await;
        world.grant(json!({})).await;
        world.prod(json!({})).await;
        world
            .until("prod", "IdentityResolved", "True", "Done")
            .await;
        let azure = world.azure().await;
        azure.delete_identity(&world.identity).await.unwrap();
        let made = azure.put_identity(&world.identity).await.unwrap();
        let client_id = made["properties"]["clientId"].as_str().unwrap().to_owned();
        assert_ne!(client_id, world.client_id);
        world.release(&["worker"]).await;
        world
            .becomes(Some(client_id), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
    });
}

#[test]
fn an_identity_that_was_deleted_and_made_again_is_found_again() {
    run(async {
        let world = World::new("reborn").await;
        world.ready(json!({})).await;
        let azure = world.azure().await;
        azure.delete_identity(&world.identity).await.unwrap();
        world
            .until("prod", "Ready", "False", "IdentityNotFound")
            .await;
        let made = azure.put_identity(&world.identity).await.unwrap();
        let client_id = made["properties"]["clientId"].as_str().unwrap().to_owned();
        assert_ne!(client_id, world.client_id);
        world
            .becomes(Some(client_id), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(world.federated().await.len(), 3);
    });
}

#[test]
fn a_workload_that_leaves_the_release_takes_its_account_along_and_late_accounts_are_seen() {
    run(async {
        // With a resync that is too late to help.
        let (lab, operator) = own(OperatorOptions::default()).await;
        let world = World::of(&lab, &operator, "relabelled").await;
        world.grant(json!({})).await;
        world.workload("scheduler", "airflow", "late").await;
        world.prod(json!({})).await;
        world
            .until(
                "prod",
                "ServiceAccountsAnnotated",
                "False",
                "ServiceAccountMissing",
            )
            .await;
        world.account("late", &json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        world
            .kubectl("label deployment airflow-scheduler release=other --overwrite")
            .await
            .unwrap();
        world
            .becomes(None, async || world.client_id_of("late").await)
            .await;
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
    });
}

#[test]
fn an_identity_made_again_behind_a_failed_write_is_read_again() {
    run(async {
        let world = World::new("reborn-unseen").await;
        world.ready(json!({})).await;
        let emulator = world.lab.emulator();
        // Of one refusal nobody would hear who does not look at once.
        let fault = json!({
            "operation": "credential.put", "pathContains": world.identity, "times": 6,
            "status": 403, "code": "AuthorizationFailed", "message": "no", "action": "respond",
        });
        emulator.fault(&fault).await.unwrap();
        world
            .account("airflow-worker-2", &labels("airflow", "worker"))
            .await;
        world
            .until("prod", "CredentialsFederated", "False", "AzureForbidden")
            .await;
        let azure = world.azure().await;
        azure.delete_identity(&world.identity).await.unwrap();
        let made = azure.put_identity(&world.identity).await.unwrap();
        let client_id = made["properties"]["clientId"].as_str().unwrap().to_owned();
        world
            .becomes(Some(client_id), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn whoever_undoes_what_we_write_is_not_fought_at_full_speed() {
    run(async {
        let world = World::new("fight").await;
        world.ready(json!({})).await;
        let mut put_back = 0;
        let start = std::time::Instant::now();
        // On a slow machine five take longer, and so do the pauses between them.
        while start.elapsed() < Duration::from_secs(12)
            || put_back < 5 && start.elapsed() < Duration::from_secs(90)
        {
            let undo =
                format!("annotate serviceaccount airflow-worker {CLIENT_ID}=theirs --overwrite");
            if world.client_id_of("airflow-worker").await.as_ref() == Some(&world.client_id) {
                put_back += 1;
                world.kubectl(&undo).await.unwrap();
            }
        }
        assert!((5..=15).contains(&put_back), "put back {put_back} times");
        world
            .becomes(Some(world.client_id.clone()), async || {
                world.client_id_of("airflow-worker").await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}
