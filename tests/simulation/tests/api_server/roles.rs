//! Roles and RoleBindings, applied as the operator does it.

use serde_json::{Value, json};

use crate::both::{Both, apply, create, delete, get, named, patch, replace};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/here";
const VERSION: &str = "rbac.authorization.k8s.io/v1";

fn role(verbs: &[&str]) -> Value {
    json!({
        "apiVersion": VERSION, "kind": "Role",
        "metadata": named("reader", json!({
            "labels": { "app.kubernetes.io/managed-by": "us" },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "<owner/metadata/uid>", "controller": true,
            }],
        })),
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": verbs }],
    })
}

fn binding(accounts: &[&str]) -> Value {
    let subject =
        |name: &&str| json!({ "kind": "ServiceAccount", "name": name, "namespace": "here" });
    json!({
        "apiVersion": VERSION, "kind": "RoleBinding",
        "metadata": named("reader", json!({})),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": accounts.iter().map(subject).collect::<Vec<_>>(),
    })
}

pub async fn compare(both: &mut Both) {
    let reader = format!("{RBAC}/roles/reader");
    let bound = format!("{RBAC}/rolebindings/reader");
    let forced = |path: &str| format!("{path}?fieldManager=us&force=true");
    both.run([
        create("/api/v1/namespaces/here/configmaps", json!({ "metadata": named("owner", json!({})) })).save("owner"),
        apply(forced(&reader), role(&["list"])),
        apply(forced(&reader), role(&["list"])),
        get(reader.clone()),
        get(reader.clone()).metadata(),
        patch(reader.clone(), json!({ "rules": [], "metadata": { "labels": { "more": "1" } } })),
        apply(format!("{reader}?fieldManager=us"), role(&["list"])).only(&["/code", "/reason", "/details/causes/0/field"]),
        apply(forced(&reader), role(&["list"])),
        apply(forced(&reader), role(&["list", "get"])),
        create(format!("{RBAC}/roles"), json!({ "metadata": named("empty", json!({})) })),
        replace(format!("{RBAC}/roles/empty"), json!({ "metadata": named("empty", json!({})), "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }] })),
        apply(forced(&bound), binding(&["a", "b"])),
        apply(forced(&bound), binding(&["b"])),
        patch(bound.clone(), json!({ "subjects": [{ "kind": "User", "name": "me" }] })),
        apply(forced(&bound), binding(&["b"])),
        apply(forced(&bound), binding(&[])),
        patch(bound.clone(), json!({ "roleRef": { "name": "other" } })),
        delete(bound.clone(), json!({ "preconditions": { "uid": "00000000-0000-0000-0000-000000000000" } })),
        delete(bound.clone(), json!(null)),
        get(bound.clone()),
        delete(format!("{RBAC}/roles/empty"), json!(null)),
        delete(format!("{RBAC}/roles/empty"), json!(null)),
        // What is owned goes with its owner.
        delete("/api/v1/namespaces/here/configmaps/owner", json!(null)),
    ])
    .await;
    both.until(&reader, 404).await;
}
