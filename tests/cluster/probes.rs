//! What the kubelet is told.

use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::json;

use crate::world::{World, awi, run};

#[test]
fn an_operator_without_its_crds_is_alive_and_says_what_it_waits_for() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let crd = "crd/azureidentitygrants.airflow-workload-identity.io";
        lab.kubectl(&["delete", crd]).await.unwrap();
        let options = OperatorOptions {
            extra_args: vec!["--leader-election".into()],
            ..OperatorOptions::default()
        };
        let operator = lab.start_operator(awi(), options.clone()).await.unwrap();
        let world = World::of(&lab, &operator, "probes").await;
        let probe = async |path| operator.get(path).await.unwrap();

        world
            .eventually("it says that the CRD is missing", async || {
                let (status, body) = probe("/readyz").await;
                let told = body.contains("azureidentitygrants")
                    && body.contains("kubectl apply --server-side -k crds/");
                (status == 503 && told).then_some(())
            })
            .await;
        assert_eq!(probe("/livez").await, (200, "ok\n".into()));

        // A second one waits for the first one's Lease, and is as ready as it can be.
        let follower = lab.start_operator(awi(), options).await.unwrap();
        world
            .eventually("the follower is ready", async || {
                (follower.get("/readyz").await.unwrap().0 == 200).then_some(())
            })
            .await;
        let metrics = follower.get("/metrics").await.unwrap().1;
        assert!(metrics.contains("\nawi_leader 0\n"), "{metrics}");

        let crds = lab::repository().join("crds");
        lab.kubectl(&["apply", "--server-side", "-k", crds.to_str().unwrap()])
            .await
            .unwrap();
        world
            .eventually("it is ready", async || {
                (probe("/readyz").await == (200, "ok\n".into())).then_some(())
            })
            .await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
    });
}
