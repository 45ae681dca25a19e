//! Our own kinds: defaults, pruning, validation, the status, and finalizers.

use serde_json::{Value, json};

use crate::both::{Both, apply, create, delete, get, named, patch, replace};

const API: &str = "/apis/airflow-workload-identity.io/v1alpha1";
const VERSION: &str = "airflow-workload-identity.io/v1alpha1";
const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";

fn spec(more: Value) -> Value {
    let mut spec = json!({ "identity": { "managedIdentity": { "resourceId": ID } } });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

pub async fn compare(both: &mut Both) {
    let all = format!("{API}/namespaces/here/airflowworkloadidentities");
    let prod = format!("{all}/prod");
    let status = format!("{prod}/status");
    both.run([
        create(format!("{all}?fieldManager=us"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity",
            "metadata": named("prod", json!({ "generation": 7 })),
            "spec": spec(json!({ "unknown": 1, "connections": [{ "id": "a", "azure": {}, "unknown": 1 }] })),
            "status": { "clientId": "not taken" },
            "unknown": true,
        })).save("prod"),
        create(all.clone(), json!({ "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("prod", json!({})), "spec": spec(json!({})) })),
        get(prod.clone()),
        get(prod.clone()).metadata(),
        get(format!("{prod}/status")),
        // The finalizer, guarded as the operator does it.
        patch(format!("{prod}?fieldManager=op"), json!({ "metadata": {
            "uid": "<prod/metadata/uid>", "resourceVersion": "<prod/metadata/resourceVersion>",
            "finalizers": ["airflow-workload-identity.io/credentials"],
        }})).metadata().save("held"),
        patch(format!("{prod}?fieldManager=op"), json!({ "metadata": {
            "uid": "<prod/metadata/uid>", "resourceVersion": "<prod/metadata/resourceVersion>",
            "finalizers": [],
        }})).metadata(),
        patch(prod.clone(), json!({ "metadata": { "uid": "00000000-0000-0000-0000-000000000000" } })),
        // The status, by its endpoint only.
        patch(format!("{status}?fieldManager=op"), json!({
            "metadata": { "uid": "<prod/metadata/uid>", "resourceVersion": "<held/metadata/resourceVersion>" },
            "status": {
                "observedGeneration": 1, "clientId": "c", "unknown": 1,
                "conditions": [{ "type": "Ready", "status": "False", "reason": "A", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "credentials": [{ "identity": "i", "issuer": "s", "name": "n", "subject": "u" }],
            },
        })).save("told"),
        patch(format!("{status}?fieldManager=op"), json!({
            "metadata": { "uid": "<prod/metadata/uid>", "resourceVersion": "<held/metadata/resourceVersion>" },
            "status": { "clientId": "d" },
        })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": { "clientId": "c" } })),
        patch(format!("{status}?fieldManager=op"), json!({ "spec": { "suspend": true }, "metadata": { "labels": { "a": "b" } }, "status": { "clientId": "e" } })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "reason": "B", "message": "", "lastTransitionTime": "2026-01-02T00:00:00Z" },
            { "type": "Granted", "status": "True", "reason": "B", "message": "", "lastTransitionTime": "2026-01-02T00:00:00Z" },
        ] } })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": { "conditions": null, "clientId": null } })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": null })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": { "conditions": [{ "type": "Ready" }] } })),
        patch(prod.clone(), json!({ "status": { "clientId": "not taken" } })),
        patch(prod.clone(), json!({ "spec": { "suspend": true } })),
        patch(prod.clone(), json!({ "spec": { "suspend": true, "unknown": 1 } })),
        patch(prod.clone(), json!({ "spec": { "suspend": null, "connections": null } })),
        patch(prod.clone(), json!({ "metadata": { "annotations": { "a": "b" } } })),
        get(prod.clone()).save("now"),
        replace(prod.clone(), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity",
            "metadata": named("prod", json!({ "resourceVersion": "<now/metadata/resourceVersion>" })),
            "spec": spec(json!({ "suspend": true })),
        })),
        replace(prod.clone(), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity",
            "metadata": named("prod", json!({})), "spec": spec(json!({})),
        })),
        // Applied.
        apply(format!("{all}/gitops?fieldManager=argo"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("gitops", json!({})),
            "spec": spec(json!({ "connections": [{ "id": "a", "azure": {} }, { "id": "b", "azure": {} }] })),
        })),
        apply(format!("{all}/gitops?fieldManager=argo"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("gitops", json!({})),
            "spec": spec(json!({ "connections": [{ "id": "c", "azure": {} }, { "id": "b", "azure": {} }], "suspend": true })),
        })),
        apply(format!("{all}/gitops?fieldManager=person"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("gitops", json!({})),
            "spec": { "suspend": false, "connections": [{ "id": "d", "azure": {} }] },
        })),
        apply(format!("{all}/gitops?fieldManager=person&force=true"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("gitops", json!({})),
            "spec": { "suspend": false, "connections": [{ "id": "d", "azure": {} }] },
        })),
        apply(format!("{all}/gitops?fieldManager=argo"), json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("gitops", json!({})), "spec": spec(json!({})),
        })),
        // Finalizers.
        delete(prod.clone(), json!({ "preconditions": { "uid": "00000000-0000-0000-0000-000000000000" } })),
        patch(prod.clone(), json!({ "metadata": { "finalizers": ["a.io/b"] } })),
        delete(prod.clone(), json!(null)).save("ending"),
        delete(prod.clone(), json!(null)),
        get(prod.clone()),
        create(all.clone(), json!({ "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("prod", json!({})), "spec": spec(json!({})) })),
        patch(prod.clone(), json!({ "metadata": { "finalizers": ["a.io/b", "a.io/c"] } })),
        patch(format!("{status}?fieldManager=op"), json!({ "status": { "clientId": "z" } })),
        patch(prod.clone(), json!({ "metadata": { "finalizers": [] } })).metadata(),
        get(prod.clone()),
        patch(prod.clone(), json!({ "metadata": { "finalizers": [] } })),
        patch(status.clone(), json!({ "status": { "clientId": "z" } })),
        delete(prod.clone(), json!(null)),
        delete(format!("{all}/gitops"), json!(null)),
    ])
    .await;
    refused(both, &all).await;

    let grants = format!("{API}/azureidentitygrants");
    both.run([
        create(grants.clone(), json!({
            "apiVersion": VERSION, "kind": "AzureIdentityGrant", "metadata": named("grant", json!({})),
            "spec": { "identities": [{ "resourceId": ID }], "namespaces": { "names": ["here"] } },
        })),
        create(grants.clone(), json!({
            "apiVersion": VERSION, "kind": "AzureIdentityGrant", "metadata": named("bad", json!({})),
            "spec": { "identities": [], "namespaces": { "names": ["here", "here"] } },
        })),
        patch(format!("{grants}/grant"), json!({ "spec": { "namespaces": { "names": ["here", "there"] }, "serviceAccounts": ["a"] } })),
        get(format!("{grants}/grant")),
        get(grants.clone()),
        get(format!("{grants}/grant/status")),
        delete(format!("{grants}/grant"), json!({ "propagationPolicy": "Background" })),
    ])
    .await;
    both.watch(&all, "identities", false).await;
    both.watch(
        &format!("{API}/airflowworkloadidentities?fieldSelector=metadata.name%3Dprod"),
        "identities",
        true,
    )
    .await;
}

async fn refused(both: &mut Both, all: &str) {
    for bad in [
        json!({ "spec": {} }),
        json!({}),
        json!({ "spec": spec(json!({ "suspend": "yes" })) }),
        json!({ "spec": spec(json!({ "pods": { "restart": "Always" } })) }),
        json!({ "spec": spec(json!({ "federation": { "credentialName": "a" } })) }),
        json!({ "spec": spec(json!({ "federation": { "credentialName": "a b c" } })) }),
        json!({ "spec": spec(json!({ "connections": [{ "azure": {} }] })) }),
        json!({ "spec": spec(json!({ "airflow": { "components": ["worker", "worker", "cook"] } })) }),
        json!({ "spec": spec(json!({ "airflow": { "helmRelease": "x".repeat(60) } })) }),
        json!({ "spec": { "identity": { "application": { "appId": "x" }, "tenantId": "00000000-0000-0000-0000-000000000001" } } }),
    ] {
        let mut object = json!({
            "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": named("bad", json!({})),
        });
        if let (Value::Object(object), Value::Object(bad)) = (&mut object, bad) {
            object.extend(bad);
        }
        both.run([create(all, object)]).await;
    }
    both.run([
        create(all, json!({ "apiVersion": VERSION, "kind": "Secret", "metadata": named("bad", json!({})) })).only(&["/reason"]),
        create(all, json!({ "apiVersion": VERSION, "kind": "AirflowWorkloadIdentity", "metadata": {}, "spec": spec(json!({})) })),
    ])
    .await;
}
