//! Lists: selectors, pages and versions.

use serde_json::json;

use crate::both::{Both, create, delete, get, named, patch};

const CONFIGS: &str = "/api/v1/namespaces/here/configmaps";

pub async fn compare(both: &mut Both) {
    for (name, labels) in [
        ("l1", json!({ "app": "x", "tier": "web" })),
        ("l2", json!({ "app": "x" })),
        ("l3", json!({ "app": "y", "tier": "db" })),
        ("l4", json!({ "app": "z", "tier": "web" })),
    ] {
        both.run([create(
            CONFIGS,
            json!({ "metadata": named(name, json!({ "labels": labels })) }),
        )
        .save("l4")])
            .await;
    }
    for selector in [
        "app%3Dx",
        "app%3D%3Dx,tier",
        "app!%3Dx,app",
        "app%20in%20(x,y)",
        "app%20in%20(x,y),tier%20notin%20(db)",
        "!tier,app",
        "app%20in%20(q)",
    ] {
        both.run([get(format!("{CONFIGS}?labelSelector={selector}"))])
            .await;
    }
    let selected = format!("{CONFIGS}?labelSelector=app");
    both.run([
        get(selected.clone()).metadata_list(),
        get(format!("{CONFIGS}?labelSelector=app%20near%20(x)")).only(&["/reason"]),
        get(format!("{CONFIGS}?fieldSelector=metadata.name%3Dl2")),
        get(format!(
            "{CONFIGS}?fieldSelector=metadata.name!%3Dl2&labelSelector=app"
        )),
        get(format!("{CONFIGS}?fieldSelector=data.x%3Dl2")).only(&["/reason"]),
        get("/api/v1/configmaps?fieldSelector=metadata.name%3Dl2,metadata.namespace%3Dhere"),
        get(format!(
            "{selected}&resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=2"
        )),
        get(format!(
            "{selected}&resourceVersion=<l4/metadata/resourceVersion>"
        )),
        get(format!(
            "{selected}&resourceVersion=<l4/metadata/resourceVersion>&resourceVersionMatch=Exact"
        )),
        get(format!("{selected}&limit=3")).save("page"),
        get("/apis/apps/v1/namespaces/here/daemonsets?limit=2"),
        get("/api/v1/namespaces/nowhere/secrets"),
    ])
    .await;
    // What comes after the first page is as it was then.
    both.run([
        patch(format!("{CONFIGS}/l4"), json!({ "data": { "later": "1" } })),
        create(
            CONFIGS,
            json!({ "metadata": named("l5", json!({ "labels": { "app": "x" } })) }),
        ),
        get(format!(
            "{selected}&limit=3&continue=<page/metadata/continue>"
        )),
        get(format!("{selected}&limit=1&continue=nonsense")).only(&["/reason", "/code"]),
        get(format!("{CONFIGS}?labelSelector=tier%3Dweb&limit=1")),
        get("/api/v1/namespaces/here/secrets?limit=1")
            .only(&["/metadata/continue", "/metadata/remainingItemCount"]),
        get("/apis/nothing.io/v1/things").only(&[]),
        get("/apis/apps/v1/things").only(&[]),
        get("/api/v1/namespaces/here/things/a").only(&[]),
    ])
    .await;
    for name in ["l1", "l2", "l3", "l4", "l5"] {
        both.run([delete(format!("{CONFIGS}/{name}"), json!(null))])
            .await;
    }
}
