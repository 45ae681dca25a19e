//! What deploys by Git and waits for the outcome reads the status right.

use std::{path::PathBuf, process::Stdio};

use lab::{Lab, LabOptions, OperatorOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{World, awi, run};

#[derive(Deserialize)]
struct Verdict {
    status: String,
    message: String,
}

#[derive(Deserialize)]
struct Verdicts {
    kstatus: Verdict,
    argocd: Verdict,
}

/// What kstatus, by which Flux and Helm wait, and Argo CD make of an object.
async fn judged(lab: &Lab, object: &str) -> (String, String) {
    let args = ["get", "awi", object, "-n", "gitops", "-o", "json"];
    let object = lab.kubectl(&args).await.unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let file = lab.scratch().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let check = lab::repository().join("deploy/argocd/health-check.yaml");
    let check = std::fs::read_to_string(check).unwrap();
    let check: Value = serde_saphyr::from_str(&check).unwrap();
    let check = check["data"]
        ["resource.customizations.health.airflow-workload-identity.io_AirflowWorkloadIdentity"]
        .as_str()
        .unwrap();

    let output = tokio::process::Command::new(lab::tool("gitops").unwrap())
        .arg(file("health.lua", check))
        .stdin(std::fs::File::open(file("object.json", &object)).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    let verdicts: Verdicts = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!verdicts.argocd.message.is_empty(), "Argo CD shows nothing");
    println!(
        "{}: {} | {}: {}",
        verdicts.kstatus.status,
        verdicts.kstatus.message,
        verdicts.argocd.status,
        verdicts.argocd.message
    );
    (verdicts.kstatus.status, verdicts.argocd.status)
}

fn both(kstatus: &str, argocd: &str) -> (String, String) {
    (kstatus.into(), argocd.into())
}

#[test]
fn flux_helm_and_argo_cd_see_progress_success_and_failure_as_they_are() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let mut operator = lab
            .start_operator(awi(), OperatorOptions::default())
            .await
            .unwrap();
        operator.stop().await.unwrap();
        let world = World::of(&lab, &operator, "gitops").await;
        world.release(&["worker"]).await;
        world.prod(json!({})).await;
        let fresh = judged(&lab, "prod").await;
        assert_eq!(
            fresh,
            both("InProgress", "Progressing"),
            "nobody looked yet"
        );
        drop(world);

        let mut operator = lab
            .start_operator(awi(), OperatorOptions::default())
            .await
            .unwrap();
        let world = World::existing(&lab, &operator, "gitops").await;
        world.until("prod", "Ready", "False", "NotGranted").await;
        let barred = judged(&lab, "prod").await;
        assert_eq!(barred, both("InProgress", "Degraded"));

        world.grant(json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        let ready = judged(&lab, "prod").await;
        assert_eq!(ready, both("Current", "Healthy"));

        world
            .prod(json!({ "airflow": { "helmRelease": "later" } }))
            .await;
        world
            .until("prod", "Ready", "False", "NoServiceAccounts")
            .await;
        let early = judged(&lab, "prod").await;
        assert_eq!(
            early,
            both("InProgress", "Progressing"),
            "Airflow may come later"
        );

        world.prod(json!({ "suspend": true })).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        let suspended = judged(&lab, "prod").await;
        assert_eq!(suspended, both("InProgress", "Suspended"));

        world.ready(json!({})).await;
        drop(world);
        operator.stop().await.unwrap();
        let world = World::existing(&lab, &operator, "gitops").await;
        world
            .prod(json!({ "federation": { "credentialName": "chosen" } }))
            .await;
        let changed = judged(&lab, "prod").await;
        assert_eq!(
            changed,
            both("InProgress", "Progressing"),
            "nobody saw the change yet"
        );
        world.delete("prod").await;
        assert_eq!(judged(&lab, "prod").await.0, "Terminating");
    });
}

#[test]
fn helm_waits_until_the_object_of_a_release_is_ready() {
    run(async {
        let world = World::bare("helm-waits").await;
        world.grant(json!({})).await;
        // An Airflow that comes with its identity, in one release.
        let chart = world.lab.scratch().join("airflow-with-identity");
        let templates = chart.join("templates");
        std::fs::create_dir_all(&templates).unwrap();
        let meta = json!({ "apiVersion": "v2", "name": "airflow", "version": "1.0.0" });
        std::fs::write(chart.join("Chart.yaml"), meta.to_string()).unwrap();
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "airflow-worker", "labels": crate::world::labels("airflow", "worker") },
        });
        std::fs::write(templates.join("account.yaml"), account.to_string()).unwrap();
        let object = templates.join("identity.yaml");
        std::fs::write(&object, world.object("prod", json!({})).to_string()).unwrap();

        let chart = chart.to_str().unwrap();
        let install = async |more: &[&str]| {
            let args = [
                "upgrade",
                "--install",
                "airflow",
                chart,
                "-n",
                &world.ns,
                "--wait",
            ];
            let args: Vec<&str> = args.iter().chain(more).copied().collect();
            world.lab.helm(&args).await
        };
        install(&["--timeout", "120s"]).await.unwrap();
        let status = world.get("prod").await.unwrap().status.unwrap();
        assert_eq!(status.conditions[0].status, "True", "{status:?}");

        let nobody = json!({ "identity": { "managedIdentity": { "resourceId": world.identity.replace("helm-waits", "nobody") } } });
        std::fs::write(&object, world.object("prod", nobody).to_string()).unwrap();
        let error = install(&["--timeout", "4s"]).await.unwrap_err().to_string();
        assert!(error.contains("prod"), "{error}");
    });
}
