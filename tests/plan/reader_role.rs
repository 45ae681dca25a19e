//! The Role for the Kubernetes secrets backend.

use airflow_workload_identity::{
    api::Reason,
    observe::{ReaderRole, Snapshot},
    plan::{Progress, plan},
    problem::Problem,
};

use serde_json::json;

use crate::given::*;

const WRITE: &str =
    "write Role prod-airflow-connections-reader for airflow-scheduler, airflow-worker";

fn asked() -> Snapshot {
    let mut world = fresh();
    world.object =
        object(json!({ "connectionSecret": { "format": "SecretsBackend", "readerRole": true } }));
    world
}

fn of_role(world: &Snapshot) -> Vec<String> {
    let mut steps = planned(world);
    steps.retain(|step| step.contains("Role"));
    steps
}

#[test]
fn it_is_bound_to_the_granted_accounts_and_follows_them() {
    let mut world = asked();
    assert_eq!(of_role(&world), [WRITE]);
    settle(&mut world);
    assert_eq!(planned(&world), Vec::<String>::new());
    assert!(world.object.status.as_ref().unwrap().reader_role);
    world.discovery.accounts.remove(0);
    assert_eq!(
        of_role(&world),
        ["write Role prod-airflow-connections-reader for airflow-worker"]
    );
    let changed = ReaderRole::Ours {
        accounts: ["airflow-worker".to_owned()].into(),
        is_right: false,
    };
    for state in [ReaderRole::Incomplete, changed] {
        world.reader_role = Ok(Some(state));
        assert_eq!(of_role(&world).len(), 1);
    }
}

#[test]
fn nobody_gets_it_before_there_is_a_grant() {
    let mut world = asked();
    world.grants.clear();
    world.reader_role = Ok(Some(ReaderRole::Incomplete));
    assert_eq!(of_role(&world), Vec::<String>::new());
}

#[test]
fn it_goes_when_it_is_no_longer_asked_for_or_granted() {
    let mut world = asked();
    settle(&mut world);
    let gone = ["delete Role prod-airflow-connections-reader"];
    for suspend in [false, true] {
        let mut revoked = world.clone();
        revoked.grants.clear();
        revoked.object.spec.suspend = suspend;
        assert_eq!(of_role(&revoked), gone);
    }
    let mut nobody = world.clone();
    nobody.discovery.accounts.clear();
    assert_eq!(of_role(&nobody), gone);
    world.object.spec.connection_secret.reader_role = false;
    assert_eq!(of_role(&world), gone);
    settle(&mut world);
    assert!(!world.object.status.unwrap().reader_role);
}

#[test]
fn while_suspended_it_is_taken_from_those_that_are_no_longer_granted() {
    let mut world = asked();
    settle(&mut world);
    world.object.spec.suspend = true;
    assert_eq!(of_role(&world), Vec::<String>::new());
    world.grants.get_mut(&id("airflow")).unwrap()[0].service_accounts =
        vec!["airflow-worker".into()];
    assert_eq!(
        of_role(&world),
        ["write Role prod-airflow-connections-reader for airflow-worker"]
    );
    // Somebody deleted the Role, or changed it.
    let Ok(Some(ReaderRole::Ours { is_right, .. })) = &mut world.reader_role else {
        panic!("it is there")
    };
    *is_right = false;
    assert_eq!(
        of_role(&world),
        ["delete Role prod-airflow-connections-reader"]
    );
    // Its binding went, and then the operator died.
    world.reader_role = Ok(Some(ReaderRole::Incomplete));
    assert_eq!(
        of_role(&world),
        ["delete Role prod-airflow-connections-reader"]
    );
    world
        .grants
        .insert(id("airflow"), vec![grant_of("airflow")]);
    assert_eq!(of_role(&world), Vec::<String>::new());
}

#[test]
fn one_that_cannot_be_taken_away_is_told() {
    let mut world = asked();
    settle(&mut world);
    world.object.spec.connection_secret.reader_role = false;
    let refused = Problem::on_change(Reason::ClusterError, "403");
    world.reader_role = Err(refused.clone());
    assert_eq!(plan(&world).reader_role, Some(Progress::Blocked(refused)));
}

#[test]
fn one_that_someone_else_made_is_left_alone() {
    let mut world = asked();
    world.reader_role = Ok(Some(ReaderRole::Foreign));
    assert_eq!(of_role(&world), Vec::<String>::new());
    let Some(Progress::Blocked(problem)) = plan(&world).reader_role else {
        panic!("it is not reported")
    };
    assert_eq!(problem.reason, Reason::Conflict);
    world.object.spec.connection_secret.reader_role = false;
    assert_eq!(of_role(&world), Vec::<String>::new());
}
