//! From the first finalizer to the last trace.

use serde_json::json;

use crate::world::{World, all, often, own, run};

#[test]
fn a_deleted_object_leaves_nothing_behind() {
    run(async {
        let world = World::new("deleted").await;
        world.ready(json!({})).await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.annotations().await, Default::default());
        assert_eq!(world.federated().await, Vec::<String>::new());
        assert!(world.secret("prod-airflow-connections").await.is_none());
    });
}

#[test]
fn credentials_can_be_retained() {
    run(async {
        let world = World::new("retained").await;
        world
            .ready(json!({ "federation": { "deletionPolicy": "Retain" } }))
            .await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.federated().await.len(), 3);
        assert_eq!(world.annotations().await, Default::default());
    });
}

#[test]
fn a_suspended_object_is_not_worked_for_until_it_is_resumed() {
    run(async {
        let world = World::new("suspended").await;
        world.prod(json!({ "suspend": true })).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
        assert_eq!(world.get("prod").await.unwrap().metadata.finalizers, None);
        world.ready(json!({ "suspend": false })).await;
        world.prod(json!({ "suspend": true })).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        world
            .kubectl("delete secret prod-airflow-connections")
            .await
            .unwrap();
        // Several resyncs of the shared operator.
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert!(world.secret("prod-airflow-connections").await.is_none());
        assert_eq!(world.federated().await.len(), 3);
    });
}

#[test]
fn a_deleted_namespace_takes_its_credentials_with_it() {
    run(async {
        let world = World::new("namespace").await;
        world.ready(json!({})).await;
        world
            .lab
            .kubectl(&["delete", "namespace", "namespace", "--wait=false"])
            .await
            .unwrap();
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        world.until_gone("prod").await;
    });
}

#[test]
fn deletion_waits_for_azure_and_says_so() {
    run(async {
        let world = World::new("held").await;
        world.ready(json!({})).await;
        let emulator = world.lab.emulator();
        emulator
            .lock(&json!({ "scope": world.identity }))
            .await
            .unwrap();
        world.delete("prod").await;
        let message = world
            .until_told("prod", "Ready", "False", "Deleting", "ScopeLocked")
            .await;
        assert!(message.contains("az lock list"), "{message}");
        emulator.clear_locks().await.unwrap();
        world.until_gone("prod").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
    });
}

#[test]
fn an_object_whose_identity_is_gone_can_be_deleted() {
    run(async {
        let world = World::new("orphan").await;
        world.ready(json!({})).await;
        world
            .azure()
            .await
            .delete_identity(&world.identity)
            .await
            .unwrap();
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.annotations().await, Default::default());
    });
}

#[test]
fn an_object_that_comes_before_its_airflow_waits_for_it() {
    run(async {
        let world = World::bare("early").await;
        world.grant(json!({})).await;
        world.prod(json!({})).await;
        let message = world
            .until(
                "prod",
                "ServiceAccountsAnnotated",
                "False",
                "NoServiceAccounts",
            )
            .await;
        assert!(
            message.contains("helmRelease: airflow") && message.contains("helm list -n early"),
            "{message}"
        );
        world.release(&["scheduler", "triggerer", "worker"]).await;
        world
            .becomes(Some("3/3".to_owned()), async || {
                world.get("prod").await.unwrap().status.unwrap().accounts
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(
            world.federated().await,
            all(&["scheduler", "triggerer", "worker"])
        );
    });
}

#[test]
fn whatever_holds_a_deletion_is_told_and_one_annotation_lets_go() {
    run(async {
        // Locks are lifted all at once, so this one is in a lab of its own.
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "let-go").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.ready(json!({})).await;
        let lock = json!({ "scope": world.identity });
        world.lab.emulator().lock(&lock).await.unwrap();
        world.delete("prod").await;
        let message = world
            .until_told("prod", "Ready", "False", "Deleting", "ScopeLocked")
            .await;
        for words in [
            "az lock list",
            "kubectl annotate awi prod -n let-go airflow-workload-identity.io/abandon-credentials=true",
        ] {
            assert!(message.contains(words), "{message}");
        }
        world
            .kubectl("annotate awi prod airflow-workload-identity.io/abandon-credentials=true")
            .await
            .unwrap();
        world.until_gone("prod").await;
        assert_eq!(world.federated().await.len(), 3, "they were left");
        assert!(world.annotations().await.is_empty());
    });
}

#[test]
fn a_role_that_was_taken_away_holds_a_deletion_until_it_is_given_back() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "revoked-role").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let forbidden = json!({ "operation": "credential.delete", "status": 403, "code": "AuthorizationFailed", "message": "no", "action": "respond" });
        lab.emulator().fault(&forbidden).await.unwrap();
        world.delete("prod").await;
        let words = "az role assignment create";
        world
            .until_told("prod", "Ready", "False", "Deleting", words)
            .await;
        lab.emulator().clear_faults().await.unwrap();
        world.until_gone("prod").await;
        assert!(world.federated().await.is_empty());
    });
}
