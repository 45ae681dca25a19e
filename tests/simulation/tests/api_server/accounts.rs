//! Server-side apply, by the example of a ServiceAccount's annotations.

use serde_json::{Value, json};

use crate::both::{Both, Step, apply, create, delete, get, named, patch, replace};

const ACCOUNTS: &str = "/api/v1/namespaces/here/serviceaccounts";

/// Who manages a request is of no use.
const TOKEN: &[&str] = &[
    "/kind",
    "/apiVersion",
    "/metadata/name",
    "/metadata/uid",
    "/spec",
    "/status",
];

/// Applies these annotations.
fn annotate(manager: &str, annotations: Value) -> Step {
    apply(
        format!("{ACCOUNTS}/worker?fieldManager={manager}"),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "annotations": annotations } }),
    )
}

fn with(manager: &str, metadata: Value) -> Step {
    apply(
        format!("{ACCOUNTS}/worker?fieldManager={manager}"),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
    )
}

pub async fn compare(both: &mut Both) {
    let worker = format!("{ACCOUNTS}/worker");
    both.run([
        create(format!("{ACCOUNTS}?fieldManager=helm"), json!({
            "metadata": named("worker", json!({ "labels": { "component": "worker" } })),
            "automountServiceAccountToken": true,
        })).save("worker"),
        with("awi.a", json!({ "uid": "<worker/metadata/uid>", "annotations": { "x/client-id": "1", "x/tenant-id": "2" } })).metadata(),
        // Again, and the same by another.
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "2" })).metadata(),
        with("awi.a", json!({ "uid": "<worker/metadata/uid>", "annotations": { "x/client-id": "1", "x/tenant-id": "2" } })),
        annotate("awi.b", json!({ "x/client-id": "1" })),
        annotate("awi.b", json!({ "x/client-id": "1", "x/tenant-id": "3" })),
        annotate("awi.b", json!({ "x/client-id": "3", "x/tenant-id": "3" })),
        // Another value by both of them, and one alone.
        annotate("awi.a", json!({ "x/client-id": "4", "x/tenant-id": "5" })),
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "5" })),
        // What one lets go of stays if another has it.
        annotate("awi.a", Value::Null),
        get(worker.clone()),
        annotate("awi.b", Value::Null),
        get(worker.clone()),
        // By hand.
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "2" })),
        patch(format!("{worker}?fieldManager=kubectl-edit"), json!({ "metadata": { "annotations": { "x/client-id": "9", "own": "y" } } })),
        patch(format!("{worker}?fieldManager=kubectl-edit"), json!({ "metadata": { "annotations": { "x/client-id": "9" } } })),
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "2" })).only(&["/code", "/reason", "/details/causes/0/field", "/details/causes/0/reason"]),
        // Forced, but only at the version that was seen.
        apply(format!("{worker}?fieldManager=awi.a&force=true"), json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {
                "resourceVersion": "<worker/metadata/resourceVersion>",
                "annotations": { "x/client-id": "1", "x/tenant-id": "2" },
            },
        })),
        apply(format!("{worker}?fieldManager=awi.a&force=true"), json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "annotations": { "x/client-id": "1", "x/tenant-id": "2" } },
        })),
        patch(format!("{worker}?fieldManager=kubectl-edit"), json!({ "metadata": { "annotations": { "x/tenant-id": null } } })),
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "2" })),
        // Helm writes the whole object without what it does not know of.
        replace(format!("{worker}?fieldManager=helm"), json!({
            "metadata": named("worker", json!({ "labels": { "component": "worker" } })),
            "automountServiceAccountToken": false,
        })),
        annotate("awi.a", json!({ "x/client-id": "1", "x/tenant-id": "2" })),
        // The last owner's end takes the annotations, not those of others.
        patch(format!("{worker}?fieldManager=kubectl-edit"), json!({ "metadata": { "annotations": { "own": "y" } } })),
        annotate("awi.a", Value::Null),
        annotate("awi.a", Value::Null),
        // Labels and finalizers are lists and maps of their own.
        with("awi.a", json!({ "labels": { "component": "worker", "more": "1" }, "finalizers": ["a.io/b"] })),
        with("awi.b", json!({ "finalizers": ["a.io/c"] })),
        with("awi.a", json!({ "labels": { "component": "other" } })),
        with("awi.a", json!({ "labels": { "component": "worker" } })),
        with("awi.b", json!({})),
        with("awi.a", json!({})),
        // What is refused.
        apply(worker.clone(), json!({ "apiVersion": "v1", "kind": "ServiceAccount" })),
        apply(format!("{worker}?fieldManager=a"), json!({ "apiVersion": "v2", "kind": "ServiceAccount" })),
        with("awi.a", json!({ "managedFields": [] })),
        with("awi.a", json!({ "uid": "00000000-0000-0000-0000-000000000000", "annotations": { "x": "y" } })),
        with("awi.a", json!({ "resourceVersion": "<worker/metadata/resourceVersion>", "annotations": { "x": "y" } })),
        with("awi.a", json!({ "name": "other" })),
        // Nothing is made of an account that is gone, but without a uid a new one is.
        apply(format!("{ACCOUNTS}/gone?fieldManager=awi.a"), json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "uid": "<worker/metadata/uid>", "annotations": { "x": "y" } },
        })),
        apply(format!("{ACCOUNTS}/new?fieldManager=awi.a"), json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "annotations": { "x": "y" } },
        })),
        apply(format!("{ACCOUNTS}/new?fieldManager=awi.a"), json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": named("new", json!({ "annotations": { "x": "y" } })),
        })),
        get(worker),
    ])
    .await;

    // An account of which nobody is known to manage anything.
    let bare = format!("{ACCOUNTS}/bare");
    both.run([
        create(ACCOUNTS, json!({ "metadata": named("bare", json!({})) })),
        patch(
            bare.clone(),
            json!({ "metadata": { "annotations": { "x/client-id": "0", "own": "y" } } }),
        ),
        apply(
            format!("{bare}?fieldManager=awi.a"),
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "annotations": { "x/client-id": "1" } },
            }),
        ),
        apply(
            format!("{bare}?fieldManager=awi.a&force=true"),
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "annotations": { "x/client-id": "1" } },
            }),
        ),
        // In and out of a selection.
        patch(
            bare.clone(),
            json!({ "metadata": { "labels": { "component": "worker" } } }),
        ),
        patch(
            bare.clone(),
            json!({ "metadata": { "labels": { "component": "other" } } }),
        ),
        patch(
            bare.clone(),
            json!({ "metadata": { "labels": { "component": "worker" } } }),
        ),
        delete(bare, json!(null)),
    ])
    .await;

    let token = format!("{ACCOUNTS}/worker/token");
    both.run([
        create(token.clone(), json!({ "spec": { "audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 600 } })).only(TOKEN),
        create(token.clone(), json!({
            "metadata": named("worker", json!({ "namespace": "here", "uid": "<worker/metadata/uid>" })),
            "spec": { "audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 600 },
        })).only(TOKEN),
        create(token, json!({
            "metadata": named("worker", json!({ "uid": "00000000-0000-0000-0000-000000000000" })),
            "spec": { "audiences": ["api://AzureADTokenExchange"] },
        })),
        create(format!("{ACCOUNTS}/none/token"), json!({ "spec": { "audiences": ["a"] } })),
    ])
    .await;
    both.watch(
        &format!("{ACCOUNTS}?labelSelector=component"),
        "accounts",
        false,
    )
    .await;
    both.watch(
        &format!("{ACCOUNTS}?labelSelector=component%3Dworker"),
        "accounts",
        true,
    )
    .await;
}
