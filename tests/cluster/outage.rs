//! The API server or Azure is gone for a while: nothing is lost, and nobody restarts anything.

use serde_json::json;

use crate::world::{World, all, often, own, run};

#[test]
fn azure_down() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "azure-down").await;
        world.grant(json!({})).await;
        world.release(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;

        let down = json!({ "operation": "*", "status": 503, "code": "ServiceUnavailable", "message": "down", "action": "respond" });
        lab.emulator().fault(&down).await.unwrap();
        let message = world
            .until("prod", "Ready", "False", "AzureUnavailable")
            .await;
        assert!(message.contains("503"), "{message}");
        let accounts = world.accounts("prod").await;
        assert!(
            accounts
                .iter()
                .all(|account| account.federated && account.annotated),
            "{accounts:?}"
        );

        // What needs no Azure goes on; what does, waits.
        world
            .kubectl("delete secret prod-airflow-connections")
            .await
            .unwrap();
        world
            .eventually("the Secret is back", async || {
                world.secret("prod-airflow-connections").await
            })
            .await;
        world.release(&["triggerer"]).await;
        lab.emulator().clear_faults().await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;
        world
            .becomes(all(&["scheduler", "triggerer", "worker"]), async || {
                world.federated().await
            })
            .await;
    });
}

#[test]
fn api_server_gone_for_a_minute() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "no-api-server").await;
        world.grant(json!({})).await;
        world.release(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;
        let name = world.credential_name("airflow-worker");

        lab.stop_apiserver().await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        lab.start_apiserver().await.unwrap();
        world
            .azure()
            .await
            .delete_credential(&world.identity, &name)
            .await
            .unwrap();
        world.release(&["triggerer"]).await;
        world
            .becomes(all(&["scheduler", "triggerer", "worker"]), async || {
                world.federated().await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;

        let log = operator.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(
            log.lines().count() < 500,
            "a hot loop: {} lines",
            log.lines().count()
        );
    });
}
