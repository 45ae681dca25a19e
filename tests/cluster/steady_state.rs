//! Converged, the operator writes nothing: so say the API server's audit log and the emulator.

use lab::OperatorOptions;
use serde_json::json;

use crate::world::{World, own, run};

#[test]
fn five_resyncs_write_nothing_and_list_each_identity_once_each() {
    run(async {
        let options = OperatorOptions {
            resync: "2s".into(),
            ..OperatorOptions::default()
        };
        let (lab, operator) = own(options).await;
        let world = World::of(&lab, &operator, "steady").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.ready(json!({})).await;
        // Two more objects of the same identity.
        for name in ["b", "c"] {
            world
                .apply(&world.object(name, json!({ "airflow": { "components": ["worker"] } })))
                .await
                .unwrap();
            world.until(name, "Ready", "True", "Done").await;
        }
        // A pod that comes late is told of, too.
        for (name, pods) in [("prod", "(3): "), ("b", "(1): "), ("c", "(1): ")] {
            world
                .until_told(name, "PodsInjected", "False", "PodsOutdated", pods)
                .await;
        }
        // Events and the store's own echo of the last writes; and the first list that has the credentials, after which
        // the identity is read once more.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;

        let operator = |entry: &lab::AuditEntry| {
            entry
                .user
                .ends_with(":airflow-workload-identity:airflow-workload-identity")
        };
        let audited = lab.audit_log().unwrap().len();
        let first = lab.emulator().requests(0).await.unwrap().last().unwrap().n;
        let since = std::time::Instant::now();
        let requests = async || lab.emulator().requests(first).await.unwrap();
        world
            .eventually("five resyncs", async || {
                (requests().await.len() >= 5).then_some(())
            })
            .await;

        let entries = lab.audit_log().unwrap().split_off(audited);
        let entries: Vec<_> = entries.into_iter().filter(operator).collect();
        let writes: Vec<_> = entries.iter().filter(|entry| entry.is_write()).collect();
        assert!(writes.is_empty(), "{writes:?}");
        let requests = requests().await;
        let seconds = usize::try_from(since.elapsed().as_secs()).unwrap();
        assert!(entries.len() <= 15 + seconds, "{entries:?}");

        let operations: Vec<_> = requests
            .iter()
            .filter_map(|request| request.operation.as_deref())
            .collect();
        assert!(
            operations
                .iter()
                .all(|operation| *operation == "credential.list"),
            "{operations:?}"
        );
        // One serves all three objects.
        let lists = operations.len();
        assert!(lists <= 2 + seconds / 2, "{lists} lists in {seconds} s");
    });
}
