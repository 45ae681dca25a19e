//! Creating, replacing and patching, by the example of Secrets, ConfigMaps and Leases.

use serde_json::json;

use crate::both::{Both, create, delete, get, named, patch, replace};

const SECRETS: &str = "/api/v1/namespaces/here/secrets";
const CONFIGS: &str = "/api/v1/namespaces/here/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/here/leases";

pub async fn compare(both: &mut Both) {
    let one = format!("{SECRETS}/one");
    let by_us = format!("{SECRETS}?fieldManager=us");
    both.run([
        get(one.clone()),
        create(by_us.clone(), json!({
            "metadata": named("one", json!({ "labels": { "a": "1" }, "annotations": { "b": "2" } })),
            "data": { "x": "eA==" },
        })).save("one"),
        create(by_us.clone(), json!({ "metadata": named("one", json!({})) })),
        create(by_us.clone(), json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "generateName": "made-" } })),
        create(by_us.clone(), json!({ "metadata": {} })),
        create(by_us.clone(), json!({ "metadata": named("elsewhere", json!({ "namespace": "default" })) })),
        create("/api/v1/namespaces/nowhere/secrets", json!({ "metadata": named("one", json!({})) })),
        create("/api/v1/secrets", json!({ "metadata": named("one", json!({})) })),
        create(SECRETS, json!({ "metadata": named("empty", json!({ "labels": {}, "annotations": null })), "data": {} })),
        get(one.clone()),
        get(one.clone()).metadata(),
        get(format!("{one}?resourceVersion=0")),
        get(format!("{one}?resourceVersion=<one/metadata/resourceVersion>")),
        get(format!("{SECRETS}/two")),
        get(format!("{SECRETS}/one/status")),
        // A replace with the version that was read, without one, and with an old one.
        replace(format!("{one}?fieldManager=us"), json!({
            "metadata": named("one", json!({
                "resourceVersion": "<one/metadata/resourceVersion>", "labels": { "a": "1" },
            })),
            "data": { "x": "eQ==", "y": "eQ==" },
        })).save("second"),
        replace(format!("{one}?fieldManager=us"), json!({
            "metadata": named("one", json!({
                "resourceVersion": "<one/metadata/resourceVersion>",
            })),
        })),
        replace(format!("{one}?fieldManager=them"), json!({
            "metadata": named("one", json!({ "labels": { "a": "1" } })),
            "data": { "x": "eQ==", "z": "eQ==" },
        })).save("third"),
        // The same again changes nothing, whoever says it.
        replace(format!("{one}?fieldManager=them"), json!({
            "metadata": named("one", json!({ "labels": { "a": "1" } })),
            "data": { "x": "eQ==", "z": "eQ==" },
        })),
        replace(format!("{one}?fieldManager=others"), json!({
            "metadata": named("one", json!({ "labels": { "a": "1" } })),
            "data": { "x": "eQ==", "z": "eQ==" },
        })),
        replace(format!("{SECRETS}/two"), json!({ "metadata": named("two", json!({})) })),
        replace(one.clone(), json!({ "metadata": named("two", json!({})) })),
        replace(one.clone(), json!({
            "metadata": named("one", json!({ "uid": "00000000-0000-0000-0000-000000000000" })),
        })),
        replace(one.clone(), json!({
            "metadata": named("one", json!({ "uid": "<one/metadata/uid>" })), "data": { "x": "eQ==", "z": "eQ==" },
        })),
        // Merge patches.
        patch(one.clone(), json!({ "metadata": { "labels": { "a": null, "c": "3" } }, "data": { "z": null } })),
        patch(format!("{one}?fieldManager=us"), json!({ "metadata": { "labels": { "c": "3" } } })),
        patch(one.clone(), json!({ "metadata": { "labels": { "c": "4" } } })).metadata(),
        patch(one.clone(), json!({ "metadata": { "resourceVersion": "<one/metadata/resourceVersion>", "labels": { "d": "4" } } })),
        patch(one.clone(), json!({ "metadata": { "uid": "00000000-0000-0000-0000-000000000000", "labels": { "d": "4" } } })),
        patch(one.clone(), json!({ "metadata": { "uid": "<one/metadata/uid>", "labels": { "d": "4" } } })),
        patch(one.clone(), json!({ "metadata": { "name": "two" } })),
        patch(one.clone(), json!({ "metadata": { "labels": null, "annotations": {} } })),
        patch(one.clone(), json!({ "metadata": { "managedFields": [] } })),
        patch(format!("{SECRETS}/two"), json!({ "metadata": { "labels": { "d": "4" } } })),
        get(one.clone()).save("last"),
    ])
    .await;

    both.run([
        create(CONFIGS, json!({ "metadata": named("config", json!({})), "data": { "issuers": "a\nb" } })).save("config"),
        replace(format!("{CONFIGS}/config?fieldManager=us"), json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": named("config", json!({ "resourceVersion": "<config/metadata/resourceVersion>" })),
            "data": { "issuers": "a\nb\nc" },
        })),
        get(format!("{CONFIGS}/config")),
        delete(format!("{CONFIGS}/config"), json!(null)),
        get(format!("{CONFIGS}/config")),
    ])
    .await;

    both.run([
        create(CONFIGS, json!({ "metadata": named("agents", json!({})), "data": { "a": "1" } })).by("kubectl/v1.37.1 (linux/amd64)"),
        patch(format!("{CONFIGS}/agents"), json!({ "data": { "b": "1" } })).by(""),
        delete(format!("{CONFIGS}/agents"), json!(null)),
        create(SECRETS, json!({ "metadata": named("texts", json!({})), "data": { "a": "eA==" }, "stringData": { "a": "y", "b": "z" } })),
        delete(format!("{SECRETS}/texts"), json!(null)),
    ])
    .await;

    let lease = format!("{LEASES}/lease");
    both.run([
        create(format!("{LEASES}?fieldManager=us"), json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": named("lease", json!({})),
            "spec": {
                "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
                "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z",
            },
        })).save("lease"),
        create(LEASES, json!({ "metadata": named("lease", json!({})), "spec": {} })),
        replace(format!("{lease}?fieldManager=us"), json!({
            "metadata": named("lease", json!({ "resourceVersion": "<lease/metadata/resourceVersion>" })),
            "spec": {
                "holderIdentity": "b", "leaseDurationSeconds": 15, "leaseTransitions": 1,
                "acquireTime": "2026-01-01T00:00:01.000000Z", "renewTime": "2026-01-01T00:00:01.000000Z",
            },
        })).save("renewed"),
        replace(lease.clone(), json!({
            "metadata": named("lease", json!({ "resourceVersion": "<lease/metadata/resourceVersion>" })),
            "spec": { "holderIdentity": "c" },
        })),
        replace(lease.clone(), json!({ "metadata": named("lease", json!({})), "spec": { "holderIdentity": "c" } })),
        replace(lease.clone(), json!({
            "metadata": named("lease", json!({
                "resourceVersion": "<renewed/metadata/resourceVersion>",
                "managedFields": [{
                    "apiVersion": "coordination.k8s.io/v1", "manager": "us", "operation": "Update",
                    "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:spec": { "f:holderIdentity": {} } },
                }],
            })),
            "spec": { "leaseDurationSeconds": 15, "leaseTransitions": 1 },
        })),
        get(lease),
    ])
    .await;
}
