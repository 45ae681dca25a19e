//! Workloads and pods, as far as the operator reads them.

use serde_json::{Value, json};

use crate::both::{Both, create, delete, get, named, patch};

const APPS: &str = "/apis/apps/v1/namespaces/here";
const PODS: &str = "/api/v1/namespaces/here/pods";

fn workload(name: &str, kind: &str, more: Value) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": name } },
        "template": {
            "metadata": { "labels": { "app": name } },
            "spec": {
                "serviceAccountName": "worker",
                "containers": [{
                    "name": "base", "image": "apache/airflow:3.0.0",
                    "env": [{ "name": "A", "value": "b" }],
                    "ports": [{ "containerPort": 80 }],
                }],
            },
        },
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": named(name, json!({})), "spec": spec })
}

fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({
        "serviceAccountName": "worker",
        "containers": [{ "name": "base", "image": "apache/airflow", "resources": { "limits": { "cpu": "1" } } }],
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    json!({ "metadata": named(name, json!({ "labels": { "run": name } })), "spec": spec })
}

/// Their controllers write the status, whenever they come to it, and annotations.
const WITHOUT_STATUS: &[&str] = &["/spec", "/metadata/generation", "/metadata/name", "/kind"];

/// What admission adds is not all there.
const OF_A_POD: &[&str] = &[
    "/kind",
    "/message",
    "/reason",
    "/details",
    "/metadata/name",
    "/metadata/labels",
    "/metadata/generation",
    "/metadata/deletionGracePeriodSeconds",
    "/metadata/resourceVersion",
    "/spec/serviceAccountName",
    "/spec/serviceAccount",
    "/spec/restartPolicy",
    "/spec/nodeName",
    "/status/phase",
];

pub async fn compare(both: &mut Both) {
    let restart = |change: &str| json!({ "spec": { "template": { "metadata": { "annotations": { "restarted": change } } } } });
    let guarded = |name: &str| {
        let mut patch = restart("2");
        patch["metadata"] = json!({ "uid": format!("<{name}/metadata/uid>") });
        patch
    };
    both.run([
        create(
            format!("{APPS}/daemonsets?fieldManager=us"),
            workload("ds", "DaemonSet", json!({})),
        )
        .save("ds")
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/daemonsets/ds?fieldManager=op"),
            guarded("ds"),
        )
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/daemonsets/ds?fieldManager=op"),
            guarded("ds"),
        )
        .metadata()
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/daemonsets/ds"),
            json!({ "metadata": { "annotations": { "a": "b" } } }),
        )
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/daemonsets/ds/status"),
            json!({ "status": { "observedGeneration": 2 }, "spec": { "revisionHistoryLimit": 1 } }),
        )
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/daemonsets/ds"),
            json!({ "status": { "observedGeneration": 3 } }),
        )
        .only(WITHOUT_STATUS),
        delete(format!("{APPS}/daemonsets/ds"), json!(null)),
        create(
            format!("{APPS}/deployments"),
            workload("d", "Deployment", json!({ "replicas": 0 })),
        )
        .only(WITHOUT_STATUS)
        .save("d"),
        patch(format!("{APPS}/deployments/d"), guarded("d")).only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/deployments/d"),
            json!({ "spec": { "replicas": 0 } }),
        )
        .only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/deployments/d"),
            json!({ "metadata": { "labels": { "x": "y" } } }),
        )
        .only(&["/spec", "/metadata/labels"]),
        create(
            format!("{APPS}/statefulsets"),
            workload(
                "s",
                "StatefulSet",
                json!({ "replicas": 0, "serviceName": "s" }),
            ),
        )
        .only(WITHOUT_STATUS)
        .save("s"),
        patch(format!("{APPS}/statefulsets/s"), guarded("s")).only(WITHOUT_STATUS),
        patch(
            format!("{APPS}/statefulsets/s"),
            json!({ "metadata": { "uid": "00000000-0000-0000-0000-000000000000" } }),
        ),
        patch(format!("{APPS}/statefulsets/none"), restart("1")),
        delete(format!("{APPS}/statefulsets/s"), json!(null)),
        delete(format!("{APPS}/deployments/d"), json!(null)),
    ])
    .await;

    let bound = json!({ "nodeName": "node" });
    both.run([
        create(PODS, pod("homeless", json!({ "serviceAccountName": "nobody" }))).only(OF_A_POD),
        create(PODS, pod("waits", json!({}))).only(OF_A_POD),
        create(PODS, pod("runs", bound.clone())).only(OF_A_POD),
        create(PODS, pod("ended", bound.clone())).only(OF_A_POD),
        patch(format!("{PODS}/ended/status"), json!({ "status": { "phase": "Succeeded" } })).only(OF_A_POD),
        patch(format!("{PODS}/runs"), json!({ "metadata": { "labels": { "x": "y" } } })).only(OF_A_POD),
        get(format!("{PODS}?fieldSelector=spec.serviceAccountName%3Dworker,status.phase!%3DSucceeded,status.phase!%3DFailed&limit=100"))
            .only(&["/items/0/metadata/name", "/items/1/metadata/name", "/items/2/metadata/name", "/kind"]),
        get(format!("{PODS}?fieldSelector=spec.serviceAccountName%3Dother")),
        delete(format!("{PODS}/waits"), json!(null)).only(OF_A_POD),
        get(format!("{PODS}/waits")),
        delete(format!("{PODS}/runs"), json!(null)).only(OF_A_POD),
        delete(format!("{PODS}/runs"), json!(null)).only(OF_A_POD),
        delete(format!("{PODS}/runs"), json!({ "gracePeriodSeconds": 5 })).only(OF_A_POD),
        get(format!("{PODS}/runs")).only(OF_A_POD),
        delete(format!("{PODS}/runs"), json!({ "gracePeriodSeconds": 0 })).only(OF_A_POD),
        get(format!("{PODS}/runs")),
        delete(format!("{PODS}/ended"), json!(null)).only(OF_A_POD),
        get(format!("{PODS}/ended")),
    ])
    .await;
}
