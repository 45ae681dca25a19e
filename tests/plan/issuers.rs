//! Another issuer, another cluster: what moves, what stays, and what is never touched.

use airflow_workload_identity::{
    apply::Outcome, model::Issuer, observe::Snapshot, plan::plan, status::status,
};
use jiff::Timestamp;
use serde_json::json;

use crate::given::*;

const NEW: &str = "https://oidc.example/rotated/";

/// The cluster has a new issuer, and remembers the old one.
fn rotate(world: &mut Snapshot) {
    world.issuer = Ok(NEW.parse().unwrap());
}

fn with_status(world: &mut Snapshot, spec: serde_json::Value) {
    let status = world.object.status.take();
    let finalizers = world.object.metadata.finalizers.take();
    world.object = object(spec);
    world.object.status = status;
    world.object.metadata.finalizers = finalizers;
}

#[test]
fn a_rotated_issuer_gets_its_credentials_before_the_old_ones_go() {
    let mut world = converged();
    rotate(&mut world);
    let steps = planned(&world);
    let kinds: Vec<&str> = steps.iter().map(|s| s.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["write", "write", "delete", "delete"], "{steps:?}");
    assert!(plan(&world).issuer_is_new);

    settle(&mut world);
    let issuers: Vec<&str> = world.azure[&id("airflow")]
        .credentials
        .as_ref()
        .unwrap()
        .iter()
        .map(|c| c.issuer.as_str())
        .collect();
    assert_eq!(issuers, [NEW, NEW]);
    let records = &world.object.status.as_ref().unwrap().credentials;
    assert!(records.iter().all(|record| record.issuer == NEW));
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn chosen_names_are_taken_over_by_the_new_issuer() {
    let mut world = fresh();
    with_status(
        &mut world,
        json!({ "federation": { "credentialName": "airflow" } }),
    );
    settle(&mut world);
    rotate(&mut world);
    let steps = planned(&world);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(
        steps
            .iter()
            .all(|s| s.starts_with("write federated credential airflow-"))
    );
    settle(&mut world);
    assert_eq!(
        world.object.status.as_ref().unwrap().credentials.len(),
        2,
        "the old records are struck"
    );
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn chosen_names_survive_an_issuer_that_comes_back_before_they_were_taken_over() {
    let mut world = fresh();
    let chosen = json!({ "federation": { "credentialName": "airflow" } });
    with_status(&mut world, chosen);
    settle(&mut world);
    let before = world.object.status.clone().unwrap().credentials;
    rotate(&mut world);
    // The operator dies, or Azure refuses, when it is on record and not yet written.
    let ahead = status(&world, &plan(&world), &Outcome::default(), Timestamp::now());
    assert_eq!(ahead.credentials.len(), 4, "what is there, and what comes");
    world.object.status = Some(ahead);
    world.history.insert(NEW.parse().unwrap());
    world.issuer = Ok(issuer());
    assert_eq!(planned(&world), Vec::<String>::new());
    settle(&mut world);
    assert_eq!(world.object.status.as_ref().unwrap().credentials, before);
}

#[test]
fn an_issuer_that_the_cluster_never_had_is_another_clusters() {
    let mut world = converged();
    rotate(&mut world);
    world.history = [NEW.parse::<Issuer>().unwrap()].into();
    let steps = planned(&world);
    assert!(steps.iter().all(|s| s.starts_with("write")), "{steps:?}");
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    assert!(
        !steps.iter().any(|s| s.contains("federated credential")),
        "{steps:?}"
    );
}

#[test]
fn an_issuer_is_remembered_before_the_first_credential_and_again_where_that_was_lost() {
    let remembered = |world: &Snapshot| plan(world).issuer_to_remember().cloned();
    let own = converged().issuer.ok();
    let lost = |world: Snapshot| Snapshot {
        history: [].into(),
        ..world
    };
    assert_eq!(remembered(&converged()), None);
    assert_eq!(remembered(&lost(fresh())), own);
    assert_eq!(planned(&lost(converged())), Vec::<String>::new());
    assert_eq!(remembered(&lost(converged())), own);
    let mut suspended = lost(converged());
    suspended.object.spec.suspend = true;
    assert_eq!(remembered(&suspended), None, "nothing is written for it");
    let mut without_a_grant = lost(fresh());
    without_a_grant.grants.clear();
    assert_eq!(remembered(&without_a_grant), None, "there is nothing of it");
}

#[test]
fn two_clusters_with_the_same_accounts_share_an_identity() {
    let mut blue = converged();
    let theirs = blue.azure[&id("airflow")].credentials.clone().unwrap();
    let mut green = fresh();
    green.issuer = Ok(NEW.parse().unwrap());
    green.history = [NEW.parse::<Issuer>().unwrap()].into();
    azure(&mut green, "airflow", |list| list.extend(theirs.clone()));
    settle(&mut green);
    let both = green.azure[&id("airflow")].credentials.clone().unwrap();
    assert_eq!(both.len(), 4);
    azure(&mut blue, "airflow", |list| *list = both);
    assert_eq!(planned(&blue), Vec::<String>::new());
    green.object.metadata.deletion_timestamp = Some(long_ago());
    let deletions = planned(&green);
    let of_green = deletions
        .iter()
        .filter(|s| s.starts_with("delete federated"))
        .count();
    assert_eq!(of_green, 2);
    settle(&mut green);
    let left = green.azure[&id("airflow")].credentials.clone().unwrap();
    assert_eq!(left, theirs);
}

#[test]
fn two_objects_of_one_account_do_not_leave_the_old_credential_to_each_other() {
    let mut world = converged();
    let records = world.records();
    world.claimed_by_others = records.map(|(id, record)| (id, record.clone())).collect();
    let claimed = world.claimed_by_others.len();
    rotate(&mut world);
    let steps = planned(&world).into_iter();
    let deleted = steps.filter(|step| step.starts_with("delete federated credential"));
    assert_eq!(deleted.count(), claimed);
}
