//! Events, which have two faces.

use serde_json::{Value, json};

use crate::both::{Both, create, get, named, patch};

fn event(name: &str, more: Value) -> Value {
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": named(name, json!({ "namespace": "here" })),
        "regarding": { "apiVersion": "v1", "kind": "ServiceAccount", "name": "worker", "namespace": "here" },
        "action": "Reconcile", "reason": "Ready", "note": "All is well.", "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "airflow-workload-identity", "reportingInstance": "awi-1",
    });
    if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
        event.extend(more);
    }
    event
}

pub async fn compare(both: &mut Both) {
    let events = "/apis/events.k8s.io/v1/namespaces/here/events";
    let old = "/api/v1/namespaces/here/events";
    let mut again = event(
        "one",
        json!({
            "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" },
        }),
    );
    both.run([
        create(events, event("one", json!({}))),
        create(events, event("one", json!({}))),
        patch(format!("{events}/one"), again.clone()),
        get(format!("{old}/one")),
        get(format!("{old}?fieldSelector=involvedObject.name%3Dworker")),
        get(format!("{events}?fieldSelector=regarding.name%3Dnobody")),
        create(
            events,
            event("two", json!({ "action": "", "note": "x".repeat(1025) })),
        ),
        create(events, event("two", json!({ "eventTime": null }))),
    ])
    .await;
    again["series"]["count"] = 1.into();
    again["note"] = "Something else.".into();
    both.run([
        patch(format!("{events}/one"), again),
        create(
            old,
            json!({
                "metadata": named("classic", json!({ "namespace": "here" })),
                "involvedObject": { "kind": "Pod", "name": "p", "namespace": "here" },
                "reason": "Old", "message": "m", "type": "Warning", "count": 1,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
                "source": { "component": "kubelet" },
            }),
        ),
        get(format!("{events}/classic")),
    ])
    .await;
}
