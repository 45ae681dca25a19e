//! What the built-in kinds fill in.

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use serde_json::{Value, json};

use super::{
    kinds::{
        DAEMON_SETS, DEPLOYMENTS, Kind, NAMESPACES, PODS, ROLE_BINDINGS, SECRETS, STATEFUL_SETS,
        ZERO_TEMPLATE,
    },
    strategy::complete,
};

pub(super) fn fill_in(kind: &Kind, object: &mut Value) {
    match kind.store {
        NAMESPACES => {
            if let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) {
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
            }
        }
        SECRETS => {
            absent(object, "type", || "Opaque".into());
            if let Value::Object(texts) = object["stringData"].take() {
                for (key, text) in texts {
                    let text = text.as_str().unwrap_or_default();
                    object["data"][key] = STANDARD.encode(text).into();
                }
            }
            drop_null(object, "stringData");
        }
        ROLE_BINDINGS => {
            let group = || "rbac.authorization.k8s.io".into();
            absent(&mut object["roleRef"], "apiGroup", group);
            for subject in items(&mut object["subjects"]) {
                if subject["kind"] != "ServiceAccount" {
                    absent(subject, "apiGroup", group);
                }
            }
            drop_null(object, "subjects");
        }
        PODS => {
            pod_spec(&mut object["spec"]);
            absent(&mut object["spec"], "enableServiceLinks", || true.into());
        }
        DEPLOYMENTS | STATEFUL_SETS | DAEMON_SETS => workload(kind, &mut object["spec"]),
        _ => {}
    }
}

/// What a pod is when it is created.
pub(super) fn pod_status() -> Value {
    json!({ "phase": "Pending", "qosClass": "BestEffort" })
}

fn workload(kind: &Kind, spec: &mut Value) {
    absent(spec, "revisionHistoryLimit", || 10.into());
    match kind.store {
        DEPLOYMENTS => {
            absent(spec, "replicas", || 1.into());
            absent(spec, "progressDeadlineSeconds", || 600.into());
            absent(&mut spec["strategy"], "type", || "RollingUpdate".into());
            if spec["strategy"]["type"] == "RollingUpdate" {
                let update = &mut spec["strategy"]["rollingUpdate"];
                absent(update, "maxSurge", || "25%".into());
                absent(update, "maxUnavailable", || "25%".into());
            }
        }
        STATEFUL_SETS => {
            absent(spec, "replicas", || 1.into());
            absent(spec, "podManagementPolicy", || "OrderedReady".into());
            let retention = &mut spec["persistentVolumeClaimRetentionPolicy"];
            absent(retention, "whenDeleted", || "Retain".into());
            absent(retention, "whenScaled", || "Retain".into());
            absent(&mut spec["updateStrategy"], "type", || {
                "RollingUpdate".into()
            });
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                let update = &mut spec["updateStrategy"]["rollingUpdate"];
                absent(update, "partition", || 0.into());
                absent(update, "maxUnavailable", || 1.into());
            }
        }
        _ => {
            absent(&mut spec["updateStrategy"], "type", || {
                "RollingUpdate".into()
            });
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                let update = &mut spec["updateStrategy"]["rollingUpdate"];
                absent(update, "maxSurge", || 0.into());
                absent(update, "maxUnavailable", || 1.into());
            }
        }
    }
    let template = &mut spec["template"];
    complete(template, &ZERO_TEMPLATE);
    pod_spec(&mut template["spec"]);
}

fn pod_spec(spec: &mut Value) {
    absent(spec, "restartPolicy", || "Always".into());
    absent(spec, "dnsPolicy", || "ClusterFirst".into());
    absent(spec, "schedulerName", || "default-scheduler".into());
    absent(spec, "terminationGracePeriodSeconds", || 30.into());
    absent(spec, "securityContext", || json!({}));
    // The old name of the same.
    let name = |key: &str| spec[key].as_str().map(str::to_owned);
    if let Some(account) = name("serviceAccountName").or_else(|| name("serviceAccount")) {
        spec["serviceAccountName"] = account.clone().into();
        spec["serviceAccount"] = account.into();
    }
    for list in ["containers", "initContainers"] {
        for container in items(&mut spec[list]) {
            absent(container, "terminationMessagePath", || {
                "/dev/termination-log".into()
            });
            absent(container, "terminationMessagePolicy", || "File".into());
            absent(container, "resources", || json!({}));
            let image = container["image"].as_str().unwrap_or_default();
            let name = image.rsplit('/').next().unwrap_or_default();
            let is_latest = !name.contains([':', '@']) || name.ends_with(":latest");
            let policy = if is_latest { "Always" } else { "IfNotPresent" };
            absent(container, "imagePullPolicy", || policy.into());
            for port in items(&mut container["ports"]) {
                absent(port, "protocol", || "TCP".into());
            }
            drop_null(container, "ports");
            drop_null(container, "image");
        }
    }
    drop_null(spec, "initContainers");
}

fn absent(object: &mut Value, key: &str, value: impl FnOnce() -> Value) {
    if !object.is_object() {
        *object = json!({});
    }
    if object[key].is_null() {
        object[key] = value();
    }
}

/// Looking at a field that is not there puts null in its place.
fn drop_null(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut()
        && map.get(key).is_some_and(Value::is_null)
    {
        map.remove(key);
    }
}

fn items(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}
