//! What is said when the accounts are not found, or not as the user may think.

use std::collections::BTreeSet;

use airflow_workload_identity::{
    api::{Component, ConditionType, Reason},
    observe::{Discovery, Install, InstallSelector, Snapshot},
    plan::plan,
};
use serde_json::{Value, json};

use crate::given::*;

fn stackable(name: &str) -> Install {
    Install {
        selector: InstallSelector::StackableCluster,
        name: name.into(),
    }
}

/// A world with this `spec.airflow` in which nothing was found but these installs.
fn nothing_found(airflow: &Value, installs: &[Install], chosen: Option<Install>) -> Snapshot {
    let mut world = fresh();
    world.object = object(json!({ "airflow": airflow }));
    world.discovery = Discovery {
        installs: installs.iter().cloned().collect(),
        install: chosen,
        ..Discovery::default()
    };
    world
}

#[test]
fn what_was_not_found_is_told_with_what_there_is_and_the_lines_to_add() {
    let components = json!(["scheduler"]);
    #[rustfmt::skip]
    let table: [(Snapshot, Reason, &[&str]); 5] = [
        (nothing_found(&json!({}), &[], None),
         Reason::AirflowNotFound, &["namespace airflow", "workloadSelector", "serviceAccounts: [airflow]"]),
        (nothing_found(&json!({}), &[release("a"), stackable("b")], None),
         Reason::AirflowAmbiguous, &["2 Airflows", "spec: { airflow: { helmRelease: a } }", "spec: { airflow: { stackableCluster: b } }"]),
        (nothing_found(&json!({ "helmRelease": "x", "components": components }), &[release("a")], Some(release("x"))),
         Reason::NoServiceAccounts, &["components scheduler of helmRelease: x", "helm list -n airflow", "There is:\nspec: { airflow: { helmRelease: a } }"]),
        (nothing_found(&json!({ "stackableCluster": "x" }), &[], Some(stackable("x"))),
         Reason::NoServiceAccounts, &["kubectl get airflowclusters -n airflow"]),
        (nothing_found(&json!({ "workloadSelector": { "matchLabels": { "a": "b" } } }), &[], None),
         Reason::NoServiceAccounts, &["the labels that spec.airflow selects"]),
    ];
    for (world, reason, words) in table {
        let problem = &plan(&world).blocked[&ConditionType::ServiceAccountsAnnotated];
        assert_eq!(problem.reason, reason, "{}", problem.message);
        for word in words {
            assert!(
                problem.message.contains(word),
                "{word:?}: {}",
                problem.message
            );
        }
    }
}

fn note(world: &Snapshot) -> String {
    let mut notes = plan(world).notes;
    notes
        .remove(&ConditionType::ServiceAccountsAnnotated)
        .unwrap_or_default()
}

#[test]
fn components_that_run_as_default_are_told_and_hold_the_others_up_in_nothing() {
    let mut world = fresh();
    world.discovery.accounts.remove(0);
    world.discovery.on_default = Some([Component::Scheduler].into());
    let text = note(&world);
    assert!(text.contains("The pods of scheduler run under the account default"));
    assert!(!text.contains("no ServiceAccount was found"), "{text}");

    world.discovery.accounts.clear();
    let problem = &plan(&world).blocked[&ConditionType::ServiceAccountsAnnotated];
    assert_eq!(problem.reason, Reason::NoServiceAccounts);
    assert!(problem.message.contains("serviceAccount.create: true"));
    world.discovery.on_default = Some(BTreeSet::new());
    let problem = &plan(&world).blocked[&ConditionType::ServiceAccountsAnnotated];
    assert!(problem.message.starts_with("Some of Airflow's pods run"));
}

#[test]
fn the_account_default_comes_with_a_warning() {
    let mut world = fresh();
    assert_eq!(note(&world), "");
    world.discovery.accounts[0].name = "default".into();
    assert!(note(&world).contains("every pod of the namespace"));
}

#[test]
fn a_pod_template_that_cannot_be_read_is_named() {
    let mut world = fresh();
    world.discovery.unreadable = ["airflow-config".to_owned()].into();
    let text = note(&world);
    assert!(
        text.contains("ConfigMap airflow-config cannot be read"),
        "{text}"
    );
}

#[test]
fn a_selector_that_makes_no_sense_is_no_selector_that_finds_nothing() {
    let mut world = fresh();
    world.discovery.invalid = Some(("workloadSelector", "no operator".into()));
    let problem = &plan(&world).blocked[&ConditionType::ServiceAccountsAnnotated];
    assert_eq!(problem.reason, Reason::InvalidSpec);
    assert!(problem.message.contains("spec.airflow.workloadSelector"));
}

#[test]
fn accounts_asked_for_beside_an_install_are_none_of_its_own() {
    let mut world = fresh();
    world.discovery.of_install.clear();
    assert!(
        note(&world).contains(
            "Of helmRelease: airflow, no ServiceAccount was found for: scheduler, worker."
        )
    );
}

#[test]
fn one_account_for_all_components_lacks_none() {
    let mut world = fresh();
    world.discovery.accounts.truncate(1);
    assert!(
        note(&world).contains("found for: worker"),
        "its own account"
    );
    world.discovery.accounts[0].components = [Component::Scheduler, Component::Triggerer].into();
    assert_eq!(note(&world), "");
    world.discovery.accounts[0].components.clear();
    assert_eq!(note(&world), "");
}

mod reader_role {
    //! The Role for the Kubernetes secrets backend.

    use airflow_workload_identity::{
        observe::ReaderRole,
        plan::{Progress, plan},
        problem::Problem,
    };

    use super::*;

    const WRITE: &str =
        "write Role prod-airflow-connections-reader for airflow-scheduler, airflow-worker";

    fn asked() -> Snapshot {
        let mut world = fresh();
        world.object = object(
            json!({ "connectionSecret": { "format": "SecretsBackend", "readerRole": true } }),
        );
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
        for state in [ReaderRole::Incomplete, ReaderRole::Ours { accounts: None }] {
            world.reader_role = Ok(Some(state));
            assert_eq!(of_role(&world).len(), 1);
        }
    }

    #[test]
    fn nobody_gets_it_before_there_is_a_grant() {
        let mut world = asked();
        world.grants.clear();
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
}
