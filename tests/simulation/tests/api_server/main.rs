//! The API server in memory is what the real one is, as far as the operator can tell: both are asked
//! the same, and answer the same.

#![allow(clippy::too_many_lines, reason = "tables")]
#![allow(clippy::needless_pass_by_value, reason = "json!")]

mod both;

mod accounts;
mod deletions;
mod events;
mod history;
mod identities;
mod lists;
mod namespaces;
mod roles;
mod secrets;
mod workloads;

use both::{Both, create, get};
use lab::{Lab, LabOptions};
use serde_json::json;

#[tokio::test]
async fn the_server_in_memory_answers_as_the_real_one_does() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let mut both = Both::new(lab.client().await.unwrap());
    both.memory.set_issuer(lab.issuer());
    both.run([get("/.well-known/openid-configuration").only(&["/issuer"])])
        .await;
    both.run([
        create(
            "/api/v1/namespaces",
            json!({ "metadata": { "name": "here" } }),
        )
        .save("here"),
        get("/api/v1/namespaces/here"),
    ])
    .await;
    for (name, path) in STARTS {
        both.run([get(path).only(&["/kind", "/apiVersion"]).save(name)])
            .await;
    }
    secrets::compare(&mut both).await;
    accounts::compare(&mut both).await;
    identities::compare(&mut both).await;
    roles::compare(&mut both).await;
    workloads::compare(&mut both).await;
    events::compare(&mut both).await;
    lists::compare(&mut both).await;
    deletions::compare(&mut both).await;
    namespaces::compare(&mut both).await;
    both.memory.compact(both.memory.version());
    both.remember(
        "beginning",
        &json!({ "metadata": { "resourceVersion": "1" } }),
    );
    both.watch(IDENTITIES, "beginning", false).await;
    // The first explain the others.
    let first = &both.differences[..both.differences.len().min(30)];
    let count = both.differences.len();
    assert!(count == 0, "{count} differences:\n{}", first.join("\n"));
}

const IDENTITIES: &str = "/apis/airflow-workload-identity.io/v1alpha1/airflowworkloadidentities";

/// From where watches begin.
const STARTS: [(&str, &str); 3] = [
    ("secrets", "/api/v1/secrets?limit=1"),
    ("accounts", "/api/v1/serviceaccounts?limit=1"),
    (
        "identities",
        "/apis/airflow-workload-identity.io/v1alpha1/airflowworkloadidentities?limit=1",
    ),
];
