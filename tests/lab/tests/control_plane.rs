//! The lab itself: a cluster that works, and nothing left of it.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use lab::{Lab, LabOptions};

#[tokio::test]
async fn a_cluster_that_survives_an_outage_and_leaves_nothing() {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let scratch = lab.scratch().to_owned();

    lab.kubectl(&["create", "namespace", "kept"]).await.unwrap();
    lab.stop_apiserver().await;
    assert!(
        lab.kubectl(&["get", "namespaces", "--request-timeout=1s"])
            .await
            .is_err()
    );
    lab.start_apiserver().await.unwrap();

    let namespaces: Api<Namespace> = Api::all(lab.client().await.unwrap());
    let names = namespaces.list(&ListParams::default()).await.unwrap();
    assert!(
        names
            .iter()
            .any(|one| one.metadata.name.as_deref() == Some("kept"))
    );

    let created = lab
        .audit_log()
        .unwrap()
        .into_iter()
        .filter(|entry| entry.verb == "create");
    assert!(
        created
            .into_iter()
            .any(|entry| entry.resource == "namespaces" && entry.name == "kept")
    );

    drop(lab);
    assert!(!scratch.exists());
}
