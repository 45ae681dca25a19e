//! Deletions: preconditions, and what becomes of what is owned.

use serde_json::{Value, json};

use crate::both::{Both, create, delete, get, named, patch};

const SECRETS: &str = "/api/v1/namespaces/here/secrets";

fn owned_by(owner: &str) -> Value {
    json!({ "ownerReferences": [{
        "apiVersion": "v1", "kind": "Secret", "name": owner, "uid": format!("<{owner}/metadata/uid>"),
        "controller": true, "blockOwnerDeletion": true,
    }] })
}

pub async fn compare(both: &mut Both) {
    both.run([
        create(SECRETS, json!({ "metadata": named("once", json!({})) })).save("first"),
        delete(
            format!("{SECRETS}/once"),
            json!({ "preconditions": { "uid": "00000000-0000-0000-0000-000000000000" } }),
        ),
        patch(
            format!("{SECRETS}/once"),
            json!({ "metadata": { "labels": { "a": "b" } } }),
        ),
        delete(
            format!("{SECRETS}/once"),
            json!({ "preconditions": { "resourceVersion": "<first/metadata/resourceVersion>" } }),
        ),
        delete(
            format!("{SECRETS}/once"),
            json!({ "preconditions": { "uid": "<first/metadata/uid>" } }),
        ),
        delete(
            format!("{SECRETS}/once"),
            json!({ "preconditions": { "uid": "<first/metadata/uid>" } }),
        ),
        create(SECRETS, json!({ "metadata": named("once", json!({})) })),
        delete(
            format!("{SECRETS}/once"),
            json!({ "preconditions": { "uid": "<first/metadata/uid>" } }),
        ),
        delete("/api/v1/namespaces/here/serviceaccounts/new", json!(null)),
    ])
    .await;

    for owner in ["back", "fore", "lone"] {
        let child = format!("{owner}-child");
        both.run([
            create(SECRETS, json!({ "metadata": named(owner, json!({})) })).save(owner),
            create(
                SECRETS,
                json!({ "metadata": named(&child, owned_by(owner)) }),
            ),
        ])
        .await;
    }
    // The garbage collector has to know of them first.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    both.run([
        delete(
            format!("{SECRETS}/back"),
            json!({ "propagationPolicy": "Background" }),
        ),
        delete(
            format!("{SECRETS}/fore"),
            json!({ "propagationPolicy": "Foreground" }),
        ),
        delete(
            format!("{SECRETS}/lone"),
            json!({ "propagationPolicy": "Orphan" }),
        ),
    ])
    .await;
    for gone in ["back-child", "fore-child", "fore", "lone"] {
        both.until(&format!("{SECRETS}/{gone}"), 404).await;
    }
    both.run([get(format!("{SECRETS}/lone-child")).only(&["/metadata/ownerReferences", "/kind"])])
        .await;
    both.watch(&format!("{SECRETS}?labelSelector=a"), "secrets", false)
        .await;
    both.watch(
        &format!("{SECRETS}?fieldSelector=metadata.name%3Done"),
        "secrets",
        true,
    )
    .await;
}
