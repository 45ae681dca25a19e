//! A tenant gets only what a grant gives, on the real API server.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, all, run};

#[test]
fn without_a_grant_nothing_happens_and_the_message_is_the_grant() {
    run(async {
        let world = World::bare("no-grant").await;
        world.installed(&["scheduler", "worker"]).await;
        world.prod(json!({})).await;
        let message = world.until("prod", "Granted", "False", "NotGranted").await;
        world.until("prod", "Ready", "False", "NotGranted").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
        assert_eq!(world.annotations().await, Default::default());
        assert!(world.secret("prod-airflow-connections").await.is_none());
        let status = world.get("prod").await.unwrap().status.unwrap();
        assert_eq!(
            status.client_id, None,
            "nobody learns anything about an identity that is not theirs"
        );

        // As an administrator would: the message's YAML, applied as it is.
        let yaml = &message[message.find("apiVersion:").unwrap()..];
        let file = world.lab.scratch().join("no-grant.yaml");
        std::fs::write(&file, yaml).unwrap();
        world
            .lab
            .kubectl(&["apply", "-f", file.to_str().unwrap()])
            .await
            .unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_grant_that_goes_takes_the_credentials_with_it() {
    run(async {
        let world = World::new("revoked").await;
        world
            .ready(json!({ "federation": { "deletionPolicy": "Retain" } }))
            .await;
        world
            .lab
            .kubectl(&["delete", "aig", "revoked"])
            .await
            .unwrap();
        world.until("prod", "Granted", "False", "NotGranted").await;
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        assert_eq!(world.annotations().await, Default::default());
    });
}

#[test]
fn a_grant_may_select_namespaces_by_label_and_name_the_accounts() {
    run(async {
        let world = World::new("selected").await;
        world
            .grant(json!({
                "namespaces": { "names": [], "selector": { "matchLabels": { "airflow": "yes" } } },
                "serviceAccounts": ["airflow-worker"],
            }))
            .await;
        world.prod(json!({})).await;
        world.until("prod", "Granted", "False", "NotGranted").await;
        world
            .lab
            .kubectl(&["label", "namespace", "selected", "airflow=yes"])
            .await
            .unwrap();
        world
            .becomes(all(&["worker"]), async || world.federated().await)
            .await;
        let left_out = "lets airflow-scheduler, airflow-triggerer of namespace selected";
        world
            .until_told("prod", "Granted", "False", "NotGranted", left_out)
            .await;
    });
}

#[test]
fn a_namespace_that_is_made_again_has_only_what_its_new_labels_give() {
    run(async {
        let world = World::bare("made-again").await;
        let kubectl = async |args: &str| {
            let args: Vec<&str> = args.split(' ').collect();
            world.lab.kubectl(&args).await.unwrap();
        };
        kubectl("label namespace made-again team=data").await;
        let selector = json!({ "matchLabels": { "team": "data" } });
        world
            .grant(json!({ "namespaces": { "names": [], "selector": selector } }))
            .await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;

        kubectl("delete namespace made-again").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
        kubectl("create namespace made-again").await;
        world.release(&["worker"]).await;
        world.prod(json!({})).await;
        world.until("prod", "Granted", "False", "NotGranted").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
        assert_eq!(world.annotations().await, Default::default());
    });
}

#[test]
fn what_two_objects_share_is_taken_from_both() {
    run(async {
        let world = World::bare("accomplices").await;
        world.grant(json!({})).await;
        world.account("spy", &json!({})).await;
        let spec = json!({ "airflow": { "helmRelease": null, "serviceAccounts": ["spy"] } });
        for object in ["one", "two"] {
            world
                .apply(&world.object(object, spec.clone()))
                .await
                .unwrap();
            world
                .until(object, "CredentialsFederated", "True", "Done")
                .await;
        }
        for object in ["one", "two"] {
            world
                .becomes(1, async || world.records(object).await.len())
                .await;
        }
        let delete = ["delete", "aig", "accomplices"];
        world.lab.kubectl(&delete).await.unwrap();
        for object in ["one", "two"] {
            world.until(object, "Granted", "False", "NotGranted").await;
        }
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        world.exchange("spy").await.unwrap_err();
    });
}

#[test]
fn a_grant_in_a_message_can_be_applied_whatever_the_namespace_is_called() {
    run(async {
        for namespace in ["12345", "true", "null", "1e3"] {
            let world = World::bare(namespace).await;
            world.prod(json!({})).await;
            let message = world.until("prod", "Granted", "False", "NotGranted").await;
            let (_, yaml) = message.split_once("apply:\n").unwrap();
            let file = world.lab.scratch().join(format!("{namespace}.yaml"));
            std::fs::write(&file, yaml).unwrap();
            let apply = ["apply", "-f", file.to_str().unwrap()];
            world.lab.kubectl(&apply).await.unwrap();
            world.until("prod", "Granted", "True", "Done").await;
        }
    });
}

#[test]
fn a_grant_that_comes_and_goes_ends_in_what_it_says_last() {
    run(async {
        let world = World::bare("flickering").await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.prod(json!({})).await;
        let delete = ["delete", "aig", "flickering"];
        for round in 0..5 {
            world.grant(json!({})).await;
            // Into the middle of its writes, sooner and later.
            tokio::time::sleep(Duration::from_millis(round * 60)).await;
            world.lab.kubectl(&delete).await.unwrap();
        }
        // A new generation: NotGranted was so before the first round, too.
        world
            .prod(json!({ "pods": { "connections": "None" } }))
            .await;
        world.until("prod", "Granted", "False", "NotGranted").await;
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        // Nothing was on its way any longer.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.federated().await, Vec::<String>::new());
        assert_eq!(world.annotations().await, Default::default());
        world.grant(json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(world.federated().await.len(), 3);
    });
}

#[test]
fn a_forged_status_reaches_no_other_namespace() {
    run(async {
        let victim = World::new("victim").await;
        victim.ready(json!({})).await;
        let thief = World::new("thief").await;
        thief.ready(json!({})).await;
        let forged: Vec<_> = victim.records("prod").await;
        let patch = json!({ "status": { "credentials": forged } }).to_string();
        thief
            .kubectl(&format!(
                "patch awi prod --subresource=status --type=merge -p {patch}"
            ))
            .await
            .unwrap();
        thief.delete("prod").await;
        thief.until_gone("prod").await;
        assert_eq!(victim.federated().await.len(), 3);
    });
}

#[test]
fn what_somebody_else_writes_into_the_status_does_not_stay() {
    run(async {
        let world = World::new("status").await;
        world.ready(json!({})).await;
        let forged = json!({ "status": {
            "accounts": "9/9",
            "serviceAccounts": [{ "name": "default", "subject": "x", "federated": true, "annotated": true }],
            "conditions": [{ "type": "Extra", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z" }],
        }});
        world
            .kubectl(&format!(
                "patch awi prod --subresource=status --type=merge -p {forged}"
            ))
            .await
            .unwrap();
        world
            .becomes(Some("3/3".to_owned()), async || {
                world.get("prod").await.unwrap().status.unwrap().accounts
            })
            .await;
        let status = world.get("prod").await.unwrap().status.unwrap();
        assert_eq!(status.service_accounts.len(), 3);
        assert!(status.conditions.iter().all(|c| c.type_ != "Extra"));
    });
}

#[test]
fn a_suspended_object_loses_what_is_no_longer_granted() {
    run(async {
        let world = World::new("suspended-revoked").await;
        world.ready(json!({})).await;
        world.prod(json!({ "suspend": true })).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        world
            .lab
            .kubectl(&["delete", "aig", "suspended-revoked"])
            .await
            .unwrap();
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        world
            .becomes(0, async || world.records("prod").await.len())
            .await;
        let status = world.get("prod").await.unwrap().status.unwrap();
        assert_eq!(status.accounts.as_deref(), Some("0/3"));
        for step in ["Granted", "CredentialsFederated"] {
            world.until("prod", step, "False", "NotGranted").await;
        }
        world.until("prod", "Ready", "False", "Suspended").await;
    });
}
