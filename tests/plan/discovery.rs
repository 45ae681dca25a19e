//! What is said when the accounts are not found, or not as the user may think.

use std::collections::BTreeSet;

use airflow_workload_identity::{
    api::{Component, ConditionType, Reason},
    observe::{Discovery, Install, InstallSelector, Snapshot, Stores, Watched},
    plan::plan,
};
use k8s_openapi::api::core::v1::ConfigMap;
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

/// What an object with this `spec.airflow` asks for that knew the worker's account, where there is nothing but a pod
/// template.
fn asked(airflow: &Value, template: &str) -> Discovery {
    let mut object = object(json!({ "airflow": airflow }));
    object.status = Some(serde_json::from_value(json!({ "serviceAccounts": [{
        "name": "worker", "subject": "system:serviceaccount:airflow:worker", "components": ["worker"],
        "federated": true, "annotated": true,
    }] })).unwrap());
    let config: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "config", "namespace": "airflow", "labels": { "tier": "airflow" } },
        "data": { "pod_template_file.yaml": template },
    }))
    .unwrap();
    let stores = Stores {
        configs: vec![Watched::listed(&[config], |config| config.into())],
        ..nothing_watched()
    };
    stores.discover("airflow", &object)
}

#[test]
fn what_a_selector_found_stays_while_the_selector_or_the_template_cannot_be_read() {
    let by_label = json!({ "workloadSelector": { "matchLabels": { "run": "tasks" } } });
    let senseless =
        json!({ "matchExpressions": [{ "key": "run", "operator": "in", "values": ["tasks"] }] });
    let readable = "{ metadata: { labels: { run: other } }, spec: { serviceAccountName: other } }";
    let broken = "metadata: [";
    for (airflow, template, expected) in [
        (by_label.clone(), readable, false),
        (by_label, broken, true),
        (json!({ "workloadSelector": senseless }), readable, true),
        (
            json!({ "serviceAccountSelector": senseless }),
            readable,
            true,
        ),
        (json!({ "serviceAccounts": ["other"] }), broken, false),
    ] {
        let found = asked(&airflow, template);
        assert_eq!(found.asks_for("worker"), expected, "{airflow} {template}");
    }
}
