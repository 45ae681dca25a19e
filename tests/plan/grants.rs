//! A tenant may not federate what it was not given.

use airflow_workload_identity::{
    api::{AzureIdentityGrant, ConditionType, Reason},
    observe::{Guarded, Snapshot, Stores, Watched},
    plan::plan,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, runtime::watcher::Event};
use serde_json::{Value, json};

use crate::given::*;

#[test]
fn without_a_grant_nothing_is_written_and_the_message_holds_the_grant() {
    let mut world = fresh();
    world.grants.clear();
    world.azure.clear();
    let plan = plan(&world);
    assert!(plan.steps.is_empty());
    let problem = &plan.blocked[&ConditionType::Granted];
    assert_eq!(problem.reason, Reason::NotGranted);
    for words in [
        "kind: AzureIdentityGrant",
        "userAssignedIdentities/airflow",
        "names: [\"airflow\"]",
    ] {
        assert!(problem.message.contains(words), "{}", problem.message);
    }
}

#[test]
fn a_grant_that_is_taken_away_takes_credentials_and_annotations_with_it_even_if_they_are_to_be_retained()
 {
    let mut world = converged();
    world.object = {
        let mut object = object(json!({ "federation": { "deletionPolicy": "Retain" } }));
        object.status = world.object.status.clone();
        object
    };
    world.grants.clear();
    let steps = planned(&world);
    assert_eq!(
        steps
            .iter()
            .filter(|s| s.starts_with("delete federated credential"))
            .count(),
        2,
        "{steps:?}"
    );
    assert_eq!(
        steps
            .iter()
            .filter(|s| s.starts_with("take the annotations"))
            .count(),
        2,
        "{steps:?}"
    );
    assert_eq!(steps.len(), 4);
}

#[test]
fn a_grant_for_some_accounts_leaves_the_others_out() {
    let mut world = fresh();
    world.grants.get_mut(&id("airflow")).unwrap()[0].service_accounts =
        vec!["airflow-worker".into()];
    let plan = plan(&world);
    assert_eq!(
        problem_of(&plan, "airflow-scheduler").unwrap().reason,
        Reason::NotGranted
    );
    let message = &plan.blocked[&ConditionType::Granted].message;
    assert!(
        message.contains("serviceAccounts: [\"airflow-scheduler\"]"),
        "{message}"
    );
    let steps = planned(&world);
    assert!(steps.iter().any(|s| s.contains("airflow-worker")));
    assert!(
        !steps.iter().any(|s| s.contains("airflow-scheduler")),
        "{steps:?}"
    );
}

#[test]
fn an_identity_that_is_not_granted_takes_nothing_from_the_one_that_is() {
    let mut world = converged();
    world.identity = Ok(id("airflow-dev"));
    world.grants.insert(id("airflow-dev"), Vec::new());
    assert_eq!(planned(&world), Vec::<String>::new());
    assert_eq!(
        plan(&world).blocked[&ConditionType::Granted].reason,
        Reason::NotGranted
    );
    world.grants.clear();
    assert_eq!(planned(&world).len(), 4, "{:?}", planned(&world));
}

#[test]
fn one_that_is_granted_keeps_no_account_that_it_does_not_let_in() {
    let released = |world: &Snapshot| {
        let steps = planned(world);
        let released = steps
            .iter()
            .filter(|s| s.starts_with("take the annotations"));
        released.count()
    };
    let mut moved = converged();
    moved.identity = Ok(id("airflow-dev"));
    moved.grants.insert(id("airflow-dev"), Vec::new());
    assert_eq!(released(&moved), 0);
    let mut world = moved.clone();
    // On record, and not there.
    azure(&mut world, "airflow", Vec::clear);
    assert_eq!(released(&world), 2);
    // There, but nobody goes by it.
    let mut world = moved.clone();
    for account in ["airflow-scheduler", "airflow-worker"] {
        crate::given::account(&mut world, account, |state| {
            state.client_id.value = Some("the client ID of airflow-dev".into());
        });
    }
    assert_eq!(released(&world), 2);
    unreachable(&mut moved, "airflow");
    assert_eq!(released(&moved), 0);
}

#[test]
fn suspending_is_no_way_to_keep_what_is_no_longer_granted() {
    let mut world = converged();
    world.object.spec.suspend = true;
    assert_eq!(planned(&world), Vec::<String>::new());
    world.grants.clear();
    let steps = planned(&world);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(
        steps
            .iter()
            .all(|step| step.starts_with("delete federated credential"))
    );
    settle(&mut world);
    let told = world.object.status.unwrap();
    assert_eq!(told.accounts.as_deref(), Some("0/2"));
    let mut accounts = told.service_accounts.iter();
    assert!(accounts.all(|account| !account.federated && account.injection.is_none()));
}

type Told = fn(Guarded<AzureIdentityGrant>) -> Event<Guarded<AzureIdentityGrant>>;

/// A grant of the identity `airflow` to these namespaces.
fn grant(version: u64, namespaces: &Value) -> Guarded<AzureIdentityGrant> {
    let grant = json!({
        "metadata": { "name": "airflow", "resourceVersion": version.to_string() },
        "spec": { "identities": [{ "resourceId": id("airflow").to_string() }], "namespaces": namespaces },
    });
    Guarded(Ok(serde_json::from_value(grant).unwrap()))
}

#[test]
fn a_grant_that_is_made_changed_or_taken_away_counts_from_then_on() {
    let namespace: Namespace = serde_json::from_value(
        json!({ "metadata": { "name": "airflow", "labels": { "team": "data" } } }),
    )
    .unwrap();
    let grants = Watched::default();
    let stores = Stores {
        grants: grants.clone().into(),
        namespaces: Watched::listed(&[namespace], |namespace| namespace.labels().clone()),
        ..nothing_watched()
    };
    let data = json!({ "matchLabels": { "team": "data" } });
    let other = json!({ "matchLabels": { "team": "other" } });
    let named = json!({ "names": ["airflow"] });
    let told: [(&str, Told, Value, bool); 7] = [
        (
            "it names another",
            Event::Apply,
            json!({ "names": ["else", "where"] }),
            false,
        ),
        (
            "it names it, too",
            Event::Apply,
            json!({ "names": ["else", "airflow"] }),
            true,
        ),
        (
            "its label is selected",
            Event::Apply,
            json!({ "selector": data }),
            true,
        ),
        (
            "another label is",
            Event::Apply,
            json!({ "selector": other }),
            false,
        ),
        (
            "named, whatever is selected",
            Event::Apply,
            json!({ "names": ["airflow"], "selector": other }),
            true,
        ),
        ("deleted", Event::Delete, named.clone(), false),
        ("made anew", Event::Apply, named, true),
    ];
    for (version, (what, event, namespaces, is_granted)) in (1..).zip(told) {
        grants.apply(&event(grant(version, &namespaces)), Clone::clone);
        let is = stores.is_granted(&id("airflow"), "airflow", "airflow-worker");
        assert_eq!(is, is_granted, "{what}");
    }
}
