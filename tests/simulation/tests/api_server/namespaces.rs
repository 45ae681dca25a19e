//! Namespaces that end.

use serde_json::json;

use crate::both::{Both, create, delete, get, named, patch};

pub async fn compare(both: &mut Both) {
    let ends = "/api/v1/namespaces/ends";
    let held = format!("{ends}/configmaps/held");
    both.run([
        create(
            "/api/v1/namespaces?fieldManager=us",
            json!({ "metadata": named("ends", json!({ "labels": { "a": "b" } })) }),
        ),
        create(
            "/api/v1/namespaces",
            json!({ "metadata": named("ends", json!({})) }),
        ),
        patch(
            ends,
            json!({ "metadata": { "labels": { "a": null, "c": "d" } } }),
        ),
        create(
            format!("{ends}/secrets"),
            json!({ "metadata": named("goes", json!({})) }),
        ),
        create(
            format!("{ends}/configmaps"),
            json!({ "metadata": named("held", json!({ "finalizers": ["a.io/b"] })) }),
        ),
        delete(ends, json!(null)).only(&[
            "/kind",
            "/status/phase",
            "/spec",
            "/metadata/name",
            "/metadata/labels",
            "/metadata/deletionGracePeriodSeconds",
            "/metadata/generation",
        ]),
        create(
            format!("{ends}/secrets"),
            json!({ "metadata": named("late", json!({})) }),
        ),
    ])
    .await;
    both.until(&format!("{ends}/secrets/goes"), 404).await;
    both.run([
        get(held.clone()).only(&["/metadata/finalizers", "/kind"]),
        patch(held.clone(), json!({ "metadata": { "finalizers": null } }))
            .only(&["/kind", "/metadata/finalizers"]),
    ])
    .await;
    both.until(ends, 404).await;
}
