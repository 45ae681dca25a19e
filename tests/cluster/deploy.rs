//! What the README tells to apply is taken by the API server, Pod Security included.

use lab::{Lab, LabOptions, OperatorOptions};

use crate::world::{World, awi, run};

#[test]
fn the_manifests_of_deploy_are_taken_and_their_pods_are_admitted() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let deploy = lab::repository().join("deploy");
        let deploy = deploy.to_str().unwrap();
        lab.kubectl(&["apply", "-k", deploy]).await.unwrap();
        lab.kubectl(&["create", "namespace", "airflow"])
            .await
            .unwrap();
        lab.kubectl(&["apply", "-f", &format!("{deploy}/samples")])
            .await
            .unwrap();

        let operator = lab
            .start_operator(awi(), OperatorOptions::default())
            .await
            .unwrap();
        let world = World::of(&lab, &operator, "install").await;
        let pods = "get pods -o jsonpath={.items[*].spec.serviceAccountName}";
        let args: Vec<&str> = pods
            .split(' ')
            .chain(["-n", "airflow-workload-identity"])
            .collect();
        world
            .eventually("the operator's two pods", async || {
                let accounts = lab.kubectl(&args).await.ok()?;
                let both = ["airflow-workload-identity"; 2].join(" ");
                (accounts == both).then_some(())
            })
            .await;
    });
}
