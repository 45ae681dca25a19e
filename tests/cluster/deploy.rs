//! What the README tells to apply is taken by the API server, Pod Security included, and applied
//! again it changes nothing.

use lab::{Lab, LabOptions};

use crate::world::run;

const NAMESPACE: &str = "airflow-workload-identity";

fn path(below: &str) -> String {
    lab::repository().join(below).display().to_string()
}

/// The CRDs of the Prometheus operator, from its Go module.
fn prometheus_operator() -> String {
    let module = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
    let folder = lab::go_module(module).unwrap();
    let folder = folder.join("example/prometheus-operator-crd");
    let file = |kind: &str| {
        let file = folder.join(format!("monitoring.coreos.com_{kind}.yaml"));
        std::fs::read_to_string(file).unwrap()
    };
    format!(
        "{}\n---\n{}",
        file("prometheusrules"),
        file("servicemonitors")
    )
}

#[test]
fn each_overlay_is_taken_its_pods_are_admitted_and_applied_again_it_changes_nothing() {
    run(async {
        for overlay in ["namespaced", "policies", "monitoring"] {
            let lab = Lab::start(LabOptions::default()).await.unwrap();
            lab.kubectl(&["create", "namespace", "airflow"])
                .await
                .unwrap();
            let crds = lab.scratch().join("prometheus-operator.yaml");
            std::fs::write(&crds, prometheus_operator()).unwrap();
            lab.apply(&crds).await.unwrap();
            lab.until_kinds_are_served().await.unwrap();

            let folder = path(&format!("deploy/overlays/{overlay}"));
            lab.kubectl(&["apply", "--server-side", "-k", &folder])
                .await
                .unwrap();
            lab.kubectl(&["apply", "-f", &path("deploy/samples")])
                .await
                .unwrap();
            let replicas = "--for=jsonpath={.status.replicas}=2";
            let deployment = format!("deployment/{NAMESPACE}");
            let args = [
                "wait",
                replicas,
                &deployment,
                "-n",
                NAMESPACE,
                "--timeout=90s",
            ];
            lab.kubectl(&args).await.unwrap();
            // Exits with 1 where anything would change.
            lab.kubectl(&["diff", "--server-side", "-k", &folder])
                .await
                .unwrap();
            lab.kubectl(&["diff", "-f", &path("deploy/samples")])
                .await
                .unwrap();
        }
    });
}

#[test]
fn the_status_of_an_object_is_the_operators_alone_once_it_is_guarded() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let folder = path("deploy/overlays/policies");
        lab.kubectl(&["apply", "--server-side", "-k", &folder])
            .await
            .unwrap();
        for line in [
            "create namespace airflow",
            "create serviceaccount tenant -n airflow",
            "create clusterrole writes-status --verb=get,patch --resource=airflowworkloadidentities,airflowworkloadidentities/status",
            "create rolebinding tenant -n airflow --clusterrole=writes-status --serviceaccount=airflow:tenant",
            "create rolebinding operator -n airflow --clusterrole=writes-status --serviceaccount=airflow-workload-identity:airflow-workload-identity",
        ] {
            lab.kubectl(&line.split(' ').collect::<Vec<_>>())
                .await
                .unwrap();
        }
        lab.kubectl(&["apply", "-f", &path("deploy/samples")])
            .await
            .unwrap();
        let write = async |user: &[&str]| {
            let patch = r#"patch awi prod -n airflow --subresource=status --type=merge -p {"status":{"accounts":"9/9"}}"#;
            let args: Vec<&str> = patch.split(' ').chain(user.iter().copied()).collect();
            lab.kubectl(&args).await
        };
        let tenant = "--as=system:serviceaccount:airflow:tenant";
        // The policy takes a moment until it is in force.
        let mut refused = String::new();
        for _ in 0..100 {
            if let Err(error) = write(&[tenant]).await {
                refused = error.to_string();
            }
            if refused.contains("ValidatingAdmissionPolicy") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(refused.contains("ValidatingAdmissionPolicy"), "{refused}");
        let operator = format!("--as=system:serviceaccount:{NAMESPACE}:{NAMESPACE}");
        write(&[&operator]).await.unwrap();
        // Whoever may grant identities need not forge anything.
        write(&[]).await.unwrap();
    });
}
