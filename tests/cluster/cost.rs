//! From nothing to ready, and for every account that comes later, no request more than it must take.

use std::collections::BTreeMap;

use lab::{Lab, OperatorOptions};
use serde_json::json;

use crate::world::{World, own, run};

/// What the operator asked of both APIs since a moment, by kind of request. What it lists and watches, it
/// lists and watches once, whatever there is to do; and events are news, not work.
async fn asked(lab: &Lab, audited: usize, azure: u64) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for entry in lab.audit_log().unwrap().split_off(audited) {
        let is_operators = entry
            .user
            .ends_with(":airflow-workload-identity:airflow-workload-identity");
        if !is_operators || entry.verb == "watch" || entry.resource == "events" {
            continue;
        }
        let slash = if entry.subresource.is_empty() {
            ""
        } else {
            "/"
        };
        let (verb, resource, subresource) = (entry.verb, entry.resource, entry.subresource);
        *asked
            .entry(format!("{verb} {resource}{slash}{subresource}"))
            .or_default() += 1;
    }
    for request in lab.emulator().requests(azure).await.unwrap() {
        if request.is_operators() {
            *asked.entry(request.operation.unwrap()).or_default() += 1;
        }
    }
    asked
}

/// Without what is read again before a write because it was read more than seconds ago, once for all objects:
/// the issuer, the identity and its credentials.
fn work(mut asked: BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    for kind in ["get ", "identity.get", "credential.list"] {
        let count = asked.remove(kind).unwrap_or_default();
        assert!(count <= 2, "{count} × {kind}");
    }
    asked
}

async fn mark(lab: &Lab) -> (usize, u64) {
    // Events and late passes of before.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let requests = lab.emulator().requests(0).await.unwrap();
    let last = requests.last().map_or(0, |request| request.n);
    (lab.audit_log().unwrap().len(), last)
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect()
}

#[test]
fn every_request_is_one_that_it_takes() {
    run(async {
        let (lab, operator) = own(OperatorOptions::default()).await;
        let world = World::of(&lab, &operator, "cost").await;
        world.grant(json!({})).await;
        world
            .release(&["scheduler", "triggerer", "worker", "dag-processor"])
            .await;
        let spec = |components: &[&str]| json!({ "airflow": { "components": components } });
        let three = ["scheduler", "triggerer", "worker"];
        for name in ["a", "b"] {
            world.account(name, &json!({})).await;
        }
        world.heard().await;
        // The issuer is known from now on.
        world.ready(spec(&three[..1])).await;

        let (audited, azure) = mark(&lab).await;
        for name in ["a", "b"] {
            let mut object = world.object(name, json!({}));
            object["spec"]["airflow"] = json!({ "serviceAccounts": [name] });
            world.apply(&object).await.unwrap();
            world.until(name, "Ready", "True", "Done").await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let cold = counts(&[
            ("create secrets", 2),
            ("credential.put", 2),
            ("patch airflowworkloadidentities", 2),
            ("patch airflowworkloadidentities/status", 4),
            ("patch serviceaccounts", 2),
        ]);
        assert_eq!(work(asked(&lab, audited, azure).await), cold);

        let (audited, azure) = mark(&lab).await;
        world.ready(spec(&three)).await;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let more = counts(&[
            ("credential.put", 2),
            ("patch airflowworkloadidentities/status", 2),
            ("patch serviceaccounts", 2),
        ]);
        assert_eq!(work(asked(&lab, audited, azure).await), more);
    });
}
