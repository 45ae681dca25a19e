//! Federated identity credentials: written, repaired, shared, replaced; and never anybody else's.

use airflow_workload_identity::{
    api::{ABANDON_ANNOTATION, ConditionType, DeletionPolicy, ManagedIdentity, Reason},
    apply::Outcome,
    azure::AzureErrorKind,
    observe::Snapshot,
    plan::{Action, Progress, plan},
    status::status,
};
use serde_json::json;

use crate::given::*;

fn worker(verb: &str) -> String {
    let to = match verb {
        "write" => "to",
        "leave" => "on",
        _ => "from",
    };
    format!(
        "{verb} federated credential {} for system:serviceaccount:airflow:airflow-worker {to} identity airflow",
        derived("airflow-worker")
    )
}

fn only_the_scheduler_loses_its_old_one(world: &Snapshot) {
    let steps = planned(world);
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
    let mut named = world.discovery.accounts[0].clone();
    named.name = "etl".into();
    named.components.clear();
    world.discovery.accounts.push(named);
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
    view.identity = Err(azure_error(AzureErrorKind::NotFound));
    view.credentials = Err(azure_error(AzureErrorKind::NotFound));
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
    let claim = record("airflow", &derived("airflow-worker"), "airflow-worker");
    world.claimed_by_others = vec![(id("airflow"), claim)];
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    assert!(!steps.contains(&worker("delete")));
    assert!(steps.iter().any(|s| s.starts_with(&format!(
        "delete federated credential {}",
        derived("airflow-scheduler")
    ))));
}

#[test]
fn one_that_another_object_has_on_record_for_another_account_does_not_outlive_this_one() {
    let mut world = converged();
    let claim = record("airflow", &derived("airflow-worker"), "another");
    world.claimed_by_others = vec![(id("airflow"), claim)];
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert!(planned(&world).contains(&worker("delete")));
}

#[test]
fn what_is_no_longer_granted_goes_whoever_else_has_it_on_record() {
    let mut world = converged();
    let claim = record("airflow", &derived("airflow-worker"), "airflow-worker");
    world.claimed_by_others = vec![(id("airflow"), claim)];
    world.grants.insert(id("airflow"), Vec::new());
    assert!(planned(&world).contains(&worker("delete")));
}

/// The worker runs as `new`, under the name that its former account had.
fn handed_over() -> Snapshot {
    let mut world = fresh();
    world.object = object(json!({ "federation": { "credentialName": "prod" } }));
    settle(&mut world);
    world.discovery.accounts[1].name = "new".into();
    world
}

#[test]
fn a_name_that_went_to_another_account_is_not_deleted_for_the_sake_of_the_former_one() {
    let mut world = handed_over();
    settle(&mut world);
    let subjects: Vec<String> = live(&mut world, &id("airflow"))
        .iter()
        .map(|c| format!("{} {}", c.name, c.subject))
        .collect();
    let new = "prod-worker system:serviceaccount:airflow:new".to_owned();
    assert!(subjects.contains(&new), "{subjects:?}");
    let records = world.object.status.as_ref().unwrap().credentials.clone();
    assert_eq!(
        records.len(),
        2,
        "the former account's is struck: {records:?}"
    );

    // Even if it were not.
    let stale = record("airflow", "prod-worker", "airflow-worker");
    let status = world.object.status.as_mut().unwrap();
    status.credentials.push(stale.clone());
    let plan = plan(&world);
    assert!(plan.steps.is_empty(), "{plan:?}");
    assert!(plan.forgotten.contains(&stale));
}

#[test]
fn two_objects_with_the_same_names_do_not_take_them_from_each_other() {
    let mut world = fresh();
    world.object = object(json!({ "federation": { "credentialName": "prod" } }));
    settle(&mut world);
    let theirs = credential("prod-worker", "other-worker");
    azure(&mut world, "airflow", |list| {
        list.retain(|c| c.name != "prod-worker");
        list.push(theirs);
    });
    let claim = record("airflow", "prod-worker", "other-worker");
    world.claimed_by_others = vec![(id("airflow"), claim)];
    assert_eq!(planned(&world), Vec::<String>::new());
    let text = format!("{:?}", plan(&world).accounts);
    assert!(
        text.contains("prod-worker") && text.contains("Conflict"),
        "{text}"
    );
}

/// It moved away from there, and back, before what it had there was struck from the record.
#[test]
fn what_is_told_of_one_identity_is_not_believed_of_another_that_is_on_record_too() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    let view = world.azure.get_mut(&id("airflow-dev")).unwrap();
    view.identity.as_mut().unwrap().client_id = uuid::Uuid::from_u128(7);
    let records = &mut world.object.status.as_mut().unwrap().credentials;
    let mut others = records.clone();
    for record in &mut others {
        record.identity = id("airflow-dev").to_string();
    }
    records.extend(others);
    unreachable(&mut world, "airflow-dev");
    // Nor are connections written that name it.
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn a_former_identity_that_cannot_be_read_is_told_and_let_go_by_one_annotation() {
    let mut world = converged();
    move_to(&mut world, "other");
    settle(&mut world);
    let mut world = {
        // Converged on the new one, with a record left on the old one.
        let record = record("airflow", &derived("airflow-worker"), "airflow-worker");
        let status = world.object.status.as_mut().unwrap();
        status.credentials.push(record);
        world
    };
    unreachable(&mut world, "airflow");
    let problem = &plan(&world).blocked[&ConditionType::CredentialsFederated];
    assert!(
        problem.message.contains("abandon-credentials=true"),
        "{}",
        problem.message
    );
    let annotations = [(ABANDON_ANNOTATION.to_owned(), "true".to_owned())];
    world.object.metadata.annotations = Some(annotations.into());
    let plan = plan(&world);
    assert!(plan.blocked.is_empty(), "{plan:?}");
    assert_eq!(planned(&world), [worker("leave")]);
}

#[test]
fn what_is_retained_on_a_former_identity_stays_on_record_until_everything_points_to_the_new_one() {
    let mut world = converged();
    world.object.spec.federation.deletion_policy = DeletionPolicy::Retain;
    move_to(&mut world, "other");
    let plan = plan(&world);
    let leave = plan
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::LeaveCredential { .. }));
    let others = plan.steps.len() - leave.clone().count();
    assert!(leave.clone().count() > 0, "{plan:?}");
    assert!(leave.into_iter().all(|step| step.after.len() == others));
    // So it is in the status that is written before the first credential is.
    let ahead = status(&world, &plan, &Outcome::default(), hours(0));
    let before = &world.object.status.as_ref().unwrap().credentials;
    assert!(before.iter().all(|kept| ahead.credentials.contains(kept)));
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
    view.identity = Err(azure_error(AzureErrorKind::NotFound));
    view.credentials = Err(azure_error(AzureErrorKind::NotFound));
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
fn a_plan_that_writes_to_azure_or_lets_go_of_a_record_has_to_be_sure() {
    assert!(plan(&fresh()).has_to_be_sure());
    let mut world = converged();
    assert!(!plan(&world).has_to_be_sure());
    account(&mut world, "airflow-worker", |state| {
        state.client_id = airflow_workload_identity::observe::Annotation::default();
    });
    assert!(!plan(&world).has_to_be_sure());
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert!(plan(&world).has_to_be_sure());
    for view in world.azure.values_mut() {
        view.credentials = Ok(Vec::new());
    }
    let plan = plan(&world);
    assert!(
        plan.steps
            .iter()
            .all(|step| !step.action.is_of_credential())
    );
    assert!(plan.has_to_be_sure());
}

#[test]
fn an_account_moves_to_the_new_identity_only_if_that_can_take_it() {
    let mut world = converged();
    move_to(&mut world, "airflow-dev");
    let mut taken = credential(&derived("airflow-worker"), "x");
    taken.subject = "system:serviceaccount:other:x".into();
    azure(&mut world, "airflow-dev", |list| list.push(taken));
    only_the_scheduler_loses_its_old_one(&world);
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

#[test]
fn an_old_identity_keeps_an_account_whose_annotation_cannot_be_moved() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("argocd", true, "theirs");
    });
    move_to(&mut world, "airflow-dev");
    only_the_scheduler_loses_its_old_one(&world);
}

#[test]
fn an_identity_written_in_other_letter_case_is_the_same_and_recorded_once() {
    let mut world = converged();
    let upper = id("airflow").to_string().to_uppercase();
    world.object.spec.identity.managed_identity = Some(ManagedIdentity {
        resource_id: upper.clone(),
    });
    world.identity = Ok(upper.parse().unwrap());
    let plan = plan(&world);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.records.len(), 2);
}

#[test]
fn what_the_guides_loop_wrote_is_adopted_only_when_asked_for_and_keeps_its_name() {
    let guides = credential("airflow-worker-fic", "airflow-worker");
    for (policy, is_ours) in [("Use", false), ("Adopt", true)] {
        let mut world = fresh();
        azure(&mut world, "airflow", |list| list.push(guides.clone()));
        world.object = object(json!({ "federation": { "existingCredentials": policy } }));
        settle(&mut world);
        let live = world.azure[&id("airflow")].credentials.clone().unwrap();
        assert!(live.contains(&guides), "{policy}: it keeps its name");
        assert_eq!(live.len(), 2, "{policy}: Azure takes no second one");
        assert_eq!(planned(&world), Vec::<String>::new(), "{policy}");

        world.object.metadata.deletion_timestamp = Some(long_ago());
        let deleted = planned(&world)
            .iter()
            .any(|step| step.contains("delete federated credential airflow-worker-fic"));
        assert_eq!(deleted, is_ours, "{policy}");
    }
}

#[test]
fn one_with_a_wrong_audience_is_repaired_only_when_adopted() {
    for (policy, steps) in [("Use", 0), ("Adopt", 1)] {
        let mut world = converged();
        azure(&mut world, "airflow", |list| {
            list[1].name = "theirs".into();
            list[1].audiences = vec!["api://Other".into()];
        });
        world.object.spec.federation.existing_credentials =
            serde_json::from_value(json!(policy)).unwrap();
        let written = planned(&world)
            .iter()
            .filter(|step| step.starts_with("write federated credential theirs"))
            .count();
        assert_eq!(written, steps, "{policy}");
    }
}

#[test]
fn nothing_that_lets_others_in_is_adopted() {
    let mut world = fresh();
    let mut other = credential("airflow-worker", "x");
    other.subject = "system:serviceaccount:other:airflow-worker".into();
    azure(&mut world, "airflow", |list| {
        list.extend([other, credential("aks-identity-binding", "airflow-worker")]);
    });
    world.object = object(json!({ "federation": {
        "existingCredentials": "Adopt", "credentialName": "airflow",
    }}));
    let plan = plan(&world);
    assert_eq!(
        plan.records
            .iter()
            .map(|r| r.name.as_str())
            .collect::<Vec<_>>(),
        ["airflow-scheduler"]
    );
}

#[test]
fn a_nearly_full_identity_is_told_early_in_words_that_stay_true_as_it_fills() {
    let mut world = converged();
    let add = |world: &mut Snapshot, range: std::ops::Range<u32>| {
        azure(world, "airflow", |list| {
            list.extend(range.map(|n| {
                let mut other = credential(&format!("other{n}"), "x");
                other.issuer = "https://oidc.example/".to_owned();
                other.subject = format!("system:serviceaccount:other:{n}");
                other
            }));
        });
    };
    add(&mut world, 0..15);
    assert!(plan(&world).notes.is_empty());
    add(&mut world, 15..16);
    let note = plan(&world).notes[&ConditionType::CredentialsFederated].clone();
    assert!(note.contains("18 or more of at most 20"), "{note}");
    add(&mut world, 16..18);
    assert_eq!(
        plan(&world).notes[&ConditionType::CredentialsFederated],
        note
    );
}
