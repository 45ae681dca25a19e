//! What is under way when the operator is asked to end.

use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::json;

use crate::world::{World, all, awi, run};

#[test]
fn a_write_in_flight_is_finished_and_recorded_and_none_begins_after_it() {
    run(async {
        // Each write to an identity takes its time.
        let emulator_args = ["--write-window-ms", "8000"].map(str::to_owned).into();
        let options = LabOptions {
            emulator_args,
            ..LabOptions::default()
        };
        let lab = Lab::start(options).await.unwrap();
        let options = OperatorOptions {
            extra_args: vec!["--leader-election".into()],
            ..OperatorOptions::default()
        };
        let mut operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "shutdown").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.prod(json!({})).await;
        world
            .eventually("a write begins", async || {
                let counts = lab.emulator().counts().await.unwrap();
                (counts.of("credential.put") > 0).then_some(())
            })
            .await;
        drop(world);
        let ended = operator.stop().await.unwrap();
        assert!(ended.success(), "{ended}\n{}", operator.log());

        let world = World::existing(&lab, &operator, "shutdown").await;
        let written = world.federated().await;
        assert_eq!(written.len(), 1, "one was in flight, and no other began");
        let lease = "get lease airflow-workload-identity -o jsonpath={.spec.holderIdentity}";
        let lease: Vec<&str> = lease.split(' ').collect();
        let lease = [&lease[..], &["-n", "airflow-workload-identity"]].concat();
        assert_eq!(lab.kubectl(&lease).await.unwrap(), "", "handed back");
        drop(world);

        let options = OperatorOptions::default();
        let next = lab.start_operator(awi(), options).await.unwrap();
        let world = World::existing(&lab, &next, "shutdown").await;
        world.until("prod", "Ready", "True", "Done").await;
        let accounts = all(&["scheduler", "triggerer", "worker"]);
        assert_eq!(world.federated().await, accounts);
    });
}

#[test]
fn an_operator_that_waits_for_its_cluster_ends_when_it_is_asked_to() {
    run(async {
        let options = LabOptions {
            without_crds: true,
            ..LabOptions::default()
        };
        let lab = Lab::start(options).await.unwrap();
        // No API server; no CRDs; only one of them.
        let nowhere = OperatorOptions {
            api_server: Some("https://127.0.0.1:9".into()),
            ..OperatorOptions::default()
        };
        let mut cut_off = lab.start_operator(awi(), nowhere).await.unwrap();
        let here = OperatorOptions::default();
        let mut without = lab.start_operator(awi(), here.clone()).await.unwrap();
        let crd = lab::repository().join("crds/airflowworkloadidentities.yaml");
        for operator in [&mut cut_off, &mut without] {
            operator.url().await.unwrap();
            assert!(operator.stop().await.unwrap().success());
        }
        lab.apply(&crd).await.unwrap();
        lab.until_kinds_are_served().await.unwrap();
        let mut half = lab.start_operator(awi(), here).await.unwrap();
        let world = World::of(&lab, &half, "half").await;
        world.prod(json!({})).await;
        world
            .eventually("the object waits", async || {
                let ready = half.get("/readyz").await.unwrap().1;
                (ready.lines().count() == 1 && ready.starts_with("azureidentitygrants"))
                    .then_some(())
            })
            .await;
        drop(world);
        assert!(half.stop().await.unwrap().success());
    });
}
