//! Pods of the lab: they seem to run, and the real webhook hands them the identity of their ServiceAccount.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::Api;
use kube::api::ListParams;
use lab::identities::{AIRFLOW, EXCHANGE_AUDIENCE, TENANT_ID};
use lab::{Lab, LabOptions};
use serde_json::{Value, json};

const ACCOUNT: &str = "airflow-worker";

#[tokio::test]
async fn pods_run_roll_out_and_go_away() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let _node = lab.start_node().await.unwrap();
    prepare(&lab, "airflow").await;
    for kind in ["Deployment", "StatefulSet"] {
        apply(&lab, "airflow", &workload(kind, &json!({}))).await;
        let before = rolled_out(&lab, "airflow", kind).await;
        assert_eq!(phase(&before), "Running");

        let object = format!("{kind}/airflow");
        let restart = ["rollout", "restart", &object, "--namespace=airflow"];
        lab.kubectl(&restart).await.unwrap();
        let after = rolled_out(&lab, "airflow", kind).await;
        assert_ne!(uid(&before), uid(&after), "{kind}");

        let delete = ["delete", &object, "--namespace=airflow"];
        lab.kubectl(&delete).await.unwrap();
        let gone = [
            "wait",
            "--for=delete",
            "pods",
            "--all",
            "--namespace=airflow",
            "--timeout=90s",
        ];
        lab.kubectl(&gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_pods_token_names_the_pod() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let _node = lab.start_node().await.unwrap();
    prepare(&lab, "airflow").await;
    apply(&lab, "airflow", &workload("Deployment", &json!({}))).await;
    let pod = rolled_out(&lab, "airflow", "Deployment").await;
    let name = pod.metadata.name.as_deref().unwrap();

    let mint = |uid| lab.mint_pod_token("airflow", ACCOUNT, EXCHANGE_AUDIENCE, name, uid);
    let claims = claims(&mint(uid(&pod)).await.unwrap());
    assert_eq!(
        claims["sub"],
        format!("system:serviceaccount:airflow:{ACCOUNT}")
    );
    assert_eq!(claims["aud"], json!([EXCHANGE_AUDIENCE]));
    assert_eq!(
        claims["kubernetes.io"]["pod"],
        json!({"name": name, "uid": uid(&pod)})
    );
    assert!(mint("another").await.is_err());
}

#[tokio::test]
async fn the_webhook_injects_what_asks_for_it_until_it_is_stopped() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let _node = lab.start_node().await.unwrap();
    let webhook = lab.start_azure_webhook().await.unwrap();
    let label = json!({"azure.workload.identity/use": "true"});
    for namespace in ["labelled", "plain", "outside", "late"] {
        prepare(&lab, namespace).await;
    }
    lab.kubectl(&["label", "namespace", "outside", "lab/without-webhook="])
        .await
        .unwrap();

    apply(&lab, "labelled", &workload("Deployment", &label)).await;
    let labelled = rolled_out(&lab, "labelled", "Deployment").await;
    let env = env(&labelled);
    let value = |name| env.iter().find(|var| var.name == name)?.value.as_deref();
    assert_eq!(value("AZURE_CLIENT_ID"), Some(AIRFLOW.client_id));
    assert_eq!(value("AZURE_TENANT_ID"), Some(TENANT_ID));
    assert!(value("AZURE_AUTHORITY_HOST").is_some());
    assert!(value("AZURE_FEDERATED_TOKEN_FILE").is_some());
    assert_eq!(exchange_volumes(&labelled), 1);

    apply(&lab, "plain", &workload("Deployment", &json!({}))).await;
    apply(&lab, "outside", &workload("Deployment", &label)).await;
    for namespace in ["plain", "outside"] {
        let pod = rolled_out(&lab, namespace, "Deployment").await;
        assert_eq!(
            (self::env(&pod).len(), exchange_volumes(&pod)),
            (0, 0),
            "{namespace}"
        );
    }

    webhook.stop().unwrap();
    apply(&lab, "late", &workload("Deployment", &label)).await;
    let late = rolled_out(&lab, "late", "Deployment").await;
    assert_eq!((self::env(&late).len(), exchange_volumes(&late)), (0, 0));

    // It can be started again.
    let _webhook = lab.start_azure_webhook().await.unwrap();
    lab.kubectl(&[
        "rollout",
        "restart",
        "deployment/airflow",
        "--namespace=late",
    ])
    .await
    .unwrap();
    let late = rolled_out(&lab, "late", "Deployment").await;
    assert_eq!(exchange_volumes(&late), 1);
}

/// A namespace with an annotated ServiceAccount.
async fn prepare(lab: &Lab, namespace: &str) {
    lab.kubectl(&["create", "namespace", namespace])
        .await
        .unwrap();
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": ACCOUNT,
            "annotations": {"azure.workload.identity/client-id": AIRFLOW.client_id},
        },
    });
    apply(lab, namespace, &account).await;
}

/// One pod with these labels, as [`ACCOUNT`].
fn workload(kind: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["app"] = "airflow".into();
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "airflow"},
        "spec": {
            "selector": {"matchLabels": {"app": "airflow"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": ACCOUNT,
                    "containers": [{"name": "airflow", "image": "apache/airflow"}],
                },
            },
        },
    })
}

async fn apply(lab: &Lab, namespace: &str, object: &Value) {
    let file = lab.scratch().join("object.json");
    fs::write(&file, object.to_string()).unwrap();
    let file = file.to_str().unwrap();
    lab.kubectl(&["apply", "--namespace", namespace, "--filename", file])
        .await
        .unwrap();
}

/// Waits until the workload has rolled out, and returns its pod.
async fn rolled_out(lab: &Lab, namespace: &str, kind: &str) -> Pod {
    let object = format!("{kind}/airflow");
    let status = [
        "rollout",
        "status",
        &object,
        "--namespace",
        namespace,
        "--timeout=60s",
    ];
    lab.kubectl(&status).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(lab.client().await.unwrap(), namespace);
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let mut pods = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let pod = pods.next().unwrap();
    assert!(pods.next().is_none());
    pod
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().unwrap().phase.as_deref().unwrap()
}

fn env(pod: &Pod) -> Vec<EnvVar> {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].env.clone().unwrap_or_default()
}

/// How many volumes hold a token for Entra.
fn exchange_volumes(pod: &Pod) -> usize {
    let volumes = pod.spec.as_ref().unwrap().volumes.iter().flatten();
    let sources = volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten());
    sources
        .filter_map(|source| source.service_account_token.as_ref())
        .filter(|token| token.audience.as_deref() == Some(EXCHANGE_AUDIENCE))
        .count()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
