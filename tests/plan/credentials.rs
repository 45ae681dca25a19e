//! Federated identity credentials: written, repaired, shared, replaced; and never anybody else's.

use airflow_workload_identity::{
    api::{ConditionType, Reason},
    azure::ArmErrorKind,
    plan::{Progress, plan},
};
use serde_json::json;

use crate::given::*;

fn worker(verb: &str) -> String {
    let to = if verb == "write" { "to" } else { "from" };
    format!(
        "{verb} federated credential {} for system:serviceaccount:airflow:airflow-worker {to} identity airflow",
        derived("airflow-worker")
    )
}

#[test]
fn each_account_gets_one_and_it_is_on_record_first() {
    let plan = plan(&fresh());
    let records: Vec<_> = plan.records.iter().cloned().collect();
    assert_eq!(
        records,
        [
            record(
                "airflow",
                &derived("airflow-scheduler"),
                "airflow-scheduler"
            ),
            record("airflow", &derived("airflow-worker"), "airflow-worker"),
        ]
    );
    assert!(planned(&fresh()).contains(&worker("write")));
}

#[test]
fn one_that_was_deleted_is_written_again() {
    let mut world = converged();
    azure(&mut world, "airflow", |list| {
        list.retain(|c| !c.is_named(&derived("airflow-worker")));
    });
    assert_eq!(planned(&world), [worker("write")]);
}

#[test]
fn one_of_ours_that_was_changed_is_repaired() {
    let changes: [fn(&mut airflow_workload_identity::model::FederatedCredential); 2] = [
        |c| c.audiences = vec!["api://other".into()],
        |c| c.subject = "system:serviceaccount:airflow:someone".into(),
    ];
    for change in changes {
        let mut world = converged();
        azure(&mut world, "airflow", |list| {
            change(
                list.iter_mut()
                    .find(|c| c.is_named(&derived("airflow-worker")))
                    .unwrap(),
            );
        });
        assert_eq!(planned(&world), [worker("write")]);
    }
}

#[test]
fn one_of_our_name_that_trusts_someone_else_is_left_alone() {
    let foreign: [fn(&mut airflow_workload_identity::model::FederatedCredential); 3] = [
        |c| c.subject = "system:serviceaccount:other:airflow-worker".into(),
        |c| c.issuer = "https://oidc.example/other/".into(),
        |c| c.subject = "repo:org/repo:ref:refs/heads/main".into(),
    ];
    for (change, mut world) in foreign
        .iter()
        .flat_map(|change| [(change, fresh()), (change, converged())])
    {
        azure(&mut world, "airflow", |list| {
            list.retain(|c| !c.is_named(&derived("airflow-worker")));
            let mut credential = credential(&derived("airflow-worker"), "airflow-worker");
            change(&mut credential);
            list.push(credential);
        });
        let plan = plan(&world);
        assert_eq!(
            problem_of(&plan, "airflow-worker").unwrap().reason,
            Reason::Conflict
        );
        assert!(
            !planned(&world)
                .iter()
                .any(|step| step.contains(&derived("airflow-worker"))),
            "{:?}",
            planned(&world)
        );
    }
}

#[test]
fn one_that_someone_else_wrote_for_the_account_is_used_and_never_deleted() {
    let mut world = fresh();
    azure(&mut world, "airflow", |list| {
        list.push(credential("terraform", "airflow-worker"));
    });
    assert!(
        !planned(&world)
            .iter()
            .any(|step| step.contains("airflow-worker to identity"))
    );
    settle(&mut world);
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert!(
        !planned(&world)
            .iter()
            .any(|step| step.contains("terraform"))
    );
    assert!(
        planned(&world)
            .iter()
            .any(|step| step.contains(&derived("airflow-scheduler")))
    );
}

#[test]
fn one_that_the_guides_loop_wrote_under_the_chosen_name_is_used_and_never_deleted() {
    let mut world = fresh();
    world.object = object(json!({ "federation": { "credentialName": "prod" } }));
    azure(&mut world, "airflow", |list| {
        list.push(credential("prod-worker", "airflow-worker"));
    });
    settle(&mut world);
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    assert!(
        steps.iter().any(|step| step.contains("prod-scheduler")),
        "{steps:?}"
    );
    assert!(
        !steps.iter().any(|step| step.contains("prod-worker")),
        "{steps:?}"
    );
}

#[test]
fn names_are_the_guides_when_the_user_chooses_one() {
    let mut world = fresh();
    world.object = object(
        json!({ "federation": { "credentialName": "prod" }, "airflow": { "helmRelease": "airflow", "serviceAccounts": ["etl"] } }),
    );
    let mut named = world.accounts[0].clone();
    named.name = "etl".into();
    named.components.clear();
    world.accounts.push(named);
    let names: Vec<_> = plan(&world)
        .accounts
        .into_iter()
        .filter_map(|a| a.credential_name)
        .collect();
    assert_eq!(names, ["prod-scheduler", "prod-worker", "prod-etl"]);
}

#[test]
fn a_new_name_replaces_the_old_one_first_because_azure_refuses_two() {
    let mut world = converged();
    world.object.spec.federation.credential_name = Some("prod".into());
    let plan = plan(&world);
    let steps = planned(&world);
    let put = steps
        .iter()
        .position(|s| s.starts_with("write federated credential prod-worker"))
        .unwrap();
    let delete = steps.iter().position(|s| *s == worker("delete")).unwrap();
    assert_eq!(plan.steps[put].after, [delete]);
    settle(&mut world);
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn a_new_identity_gets_everything_before_the_old_one_loses_it() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    let plan = plan(&world);
    let steps = planned(&world);
    let delete = steps.iter().position(|s| *s == worker("delete")).unwrap();
    let last_write = steps
        .iter()
        .rposition(|s| !s.starts_with("delete"))
        .unwrap();
    assert!(last_write < delete, "{steps:?}");
    assert_eq!(
        plan.steps[delete].after,
        (0..=last_write).collect::<Vec<_>>()
    );
}

#[test]
fn an_old_identity_keeps_its_credentials_while_the_new_one_cannot_take_them() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    let view = world.azure.get_mut(&id("airflow-dev")).unwrap();
    view.identity = Err(arm_error(ArmErrorKind::NotFound));
    view.credentials = Err(arm_error(ArmErrorKind::NotFound));
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn the_twenty_first_is_not_attempted() {
    let mut world = fresh();
    azure(&mut world, "airflow", |list| {
        list.extend((0..19).map(|n| credential(&format!("other-{n}"), &format!("other-{n}"))));
    });
    let plan = plan(&world);
    assert!(
        problem_of(&plan, "airflow-scheduler").is_none_or(|p| p.reason != Reason::LimitReached)
    );
    let problem = problem_of(&plan, "airflow-worker").unwrap();
    assert_eq!(problem.reason, Reason::LimitReached);
    assert!(
        problem.message.contains("19 of at most 20"),
        "{}",
        problem.message
    );
}

#[test]
fn nothing_is_deleted_because_azure_does_not_answer() {
    let mut world = converged();
    unreachable(&mut world, "airflow");
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn one_that_another_object_answers_for_too_outlives_this_one() {
    let mut world = converged();
    world
        .claimed_by_others
        .insert((id("airflow"), derived("airflow-worker")));
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    assert!(!steps.contains(&worker("delete")));
    assert!(steps.iter().any(|s| s.starts_with(&format!(
        "delete federated credential {}",
        derived("airflow-scheduler")
    ))));
}

#[test]
fn a_forged_record_reaches_nothing_outside_its_namespace() {
    let mut world = converged();
    let mut elsewhere = credential("victim", "x");
    elsewhere.subject = "system:serviceaccount:other:x".into();
    let mut issued = credential("issued", "x");
    issued.issuer = "https://oidc.example/other/".into();
    azure(&mut world, "airflow", |list| {
        list.extend([elsewhere, issued, credential("aks-identity-binding", "x")]);
    });
    let forged =
        ["victim", "issued", "aks-identity-binding"].map(|name| record("airflow", name, "x"));
    world
        .object
        .status
        .as_mut()
        .unwrap()
        .credentials
        .extend(forged);
    assert_eq!(planned(&world), Vec::<String>::new());
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    assert!(
        !steps.iter().any(|s| ["victim", "issued", "aks-identity"]
            .iter()
            .any(|n| s.contains(n))),
        "{steps:?}"
    );
}

#[test]
fn a_repair_never_lands_on_a_foreign_credential_that_took_the_new_name() {
    let mut world = converged();
    world.object.spec.federation.credential_name = Some("prod".into());
    let mut foreign = credential("prod-worker", "x");
    foreign.subject = "system:serviceaccount:other:x".into();
    azure(&mut world, "airflow", |list| {
        let ours = list
            .iter_mut()
            .find(|c| c.is_named(&derived("airflow-worker")))
            .unwrap();
        ours.audiences = vec!["api://other".into()];
        list.push(foreign.clone());
    });
    assert!(
        planned(&world).contains(&worker("write")),
        "{:?}",
        planned(&world)
    );
    settle(&mut world);
    azure(&mut world, "airflow", |list| {
        assert!(list.contains(&foreign));
    });
}

#[test]
fn an_identity_that_is_gone_has_no_credentials_left_to_speak_of() {
    let mut world = converged();
    let view = world.azure.get_mut(&id("airflow")).unwrap();
    view.identity = Err(arm_error(ArmErrorKind::NotFound));
    view.credentials = Err(arm_error(ArmErrorKind::NotFound));
    let accounts = plan(&world).accounts;
    assert!(
        accounts
            .iter()
            .all(|a| matches!(a.credential, Progress::Blocked(_))),
        "{accounts:?}"
    );
}

#[test]
fn what_an_account_had_on_its_old_identity_says_nothing_of_the_new_one() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    unreachable(&mut world, "airflow-dev");
    let accounts = plan(&world).accounts;
    assert!(
        accounts
            .iter()
            .all(|a| matches!(a.credential, Progress::Blocked(_))),
        "{accounts:?}"
    );
}

#[test]
fn a_plan_that_writes_to_azure_says_so_because_its_news_must_be_fresh() {
    assert!(plan(&fresh()).writes_to_azure());
    let mut world = converged();
    assert!(!plan(&world).writes_to_azure());
    account(&mut world, "airflow-worker", |state| {
        state.client_id = airflow_workload_identity::observe::Annotation::default();
    });
    assert!(!plan(&world).writes_to_azure());
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert!(plan(&world).writes_to_azure());
}

#[test]
fn an_account_moves_to_the_new_identity_only_if_that_can_take_it() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    let mut taken = credential(&derived("airflow-worker"), "x");
    taken.subject = "system:serviceaccount:other:x".into();
    azure(&mut world, "airflow-dev", |list| list.push(taken));
    let steps = planned(&world);
    assert!(!steps.contains(&worker("delete")), "{steps:?}");
    let scheduler = format!(
        "delete federated credential {}",
        derived("airflow-scheduler")
    );
    assert!(
        steps.iter().any(|step| step.starts_with(&scheduler)),
        "{steps:?}"
    );
}

#[test]
fn nothing_is_written_for_an_identity_that_is_not_the_pinned_one() {
    for (pinned, is_right) in [(CLIENT, true), (TENANT, false)] {
        let mut world = fresh();
        world.object.spec.identity.client_id = Some(pinned.parse().unwrap());
        let plan = plan(&world);
        let blocked = plan.blocked.get(&ConditionType::IdentityResolved);
        assert_eq!(
            blocked.map(|p| p.reason),
            (!is_right).then_some(Reason::IdentityMismatch)
        );
        assert_eq!(plan.steps.is_empty(), !is_right);
    }
}
