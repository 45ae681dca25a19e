//! Two objects have the same credential on record: each may leave it to the other, but not both.

use std::collections::BTreeSet;

use airflow_workload_identity::{
    api::AirflowWorkloadIdentity,
    observe::{Guarded, Objects, Stores},
};
use serde_json::json;

use crate::given::*;

/// An object that has the worker's credential of identity `airflow` on record.
fn object(name: &str, identity: &str, account: &str) -> AirflowWorkloadIdentity {
    let object = json!({
        "metadata": { "name": name, "namespace": "airflow", "uid": format!("uid-of-{name}") },
        "spec": {
            "identity": { "managedIdentity": { "resourceId": id(identity).to_string() } },
            "airflow": { "serviceAccounts": [account] },
        },
        "status": { "credentials": [record("airflow", "worker", "airflow-worker")] },
    });
    serde_json::from_value(object).unwrap()
}

fn stores(objects: &[&AirflowWorkloadIdentity]) -> Stores {
    let objects = objects.iter().map(|object| Guarded(Ok((*object).clone())));
    Stores {
        objects: Objects::listed(objects.collect()),
        ..nothing_watched()
    }
}

fn leaves(stores: &Stores, object: &AirflowWorkloadIdentity) -> bool {
    let record = record("airflow", "worker", "airflow-worker");
    let credential = credential("worker", "airflow-worker");
    stores.leave(object, &id("airflow"), &record, &credential)
}

#[test]
fn one_is_left_to_whoever_goes_by_it_and_to_nobody_else() {
    let moves = object("one", "other", "airflow-worker");
    let stays = object("two", "airflow", "airflow-worker");
    let asks_no_longer = object("two", "airflow", "airflow-scheduler");
    assert!(leaves(&stores(&[&moves, &stays]), &moves));
    assert!(!leaves(&stores(&[&moves, &asks_no_longer]), &moves));
}

#[test]
fn while_one_moves_on_and_the_other_asks_no_longer_only_the_first_leaves_it() {
    let moves = object("one", "other", "airflow-worker");
    let asks_no_longer = object("two", "airflow", "airflow-scheduler");
    let stores = stores(&[&moves, &asks_no_longer]);
    // The first still goes by it: it is not let in yet where it moves to.
    assert!(leaves(&stores, &asks_no_longer));
    assert!(!leaves(&stores, &moves));
}

#[test]
fn what_was_left_to_an_object_that_then_asks_no_longer_is_not_left_back() {
    let moves = object("one", "other", "airflow-worker");
    let stays = object("two", "airflow", "airflow-worker");
    let stores = stores(&[&moves, &stays]);
    assert!(leaves(&stores, &moves));
    let asks_no_longer = object("two", "airflow", "airflow-scheduler");
    stores.objects.written(asks_no_longer.clone());
    assert!(
        !leaves(&stores, &asks_no_longer),
        "the first's status does not tell yet that it was left"
    );
    // Whose next pass decides anew.
    stores.objects.forgets(&moves, &BTreeSet::new());
    assert!(leaves(&stores, &asks_no_longer));
}

#[test]
fn one_is_not_left_to_an_object_that_found_it_gone() {
    let moves = object("one", "other", "airflow-worker");
    let asks_no_longer = object("two", "airflow", "airflow-scheduler");
    let stores = stores(&[&moves, &asks_no_longer]);
    let gone = record("airflow", "worker", "airflow-worker");
    stores.objects.forgets(&moves, &BTreeSet::from([gone]));
    assert!(!leaves(&stores, &asks_no_longer));
}
