//! What the user reads.

use airflow_workload_identity::{
    api::{AirflowWorkloadIdentityStatus, Reason},
    apply::{Outcome, StepResult},
    azure::AzureErrorKind,
    observe::{SecretState, Snapshot},
    plan::plan,
    problem::Problem,
    status::{problems, settles_in, status, truncated},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::given::*;

fn read(world: &Snapshot, result: &StepResult) -> AirflowWorkloadIdentityStatus {
    let plan = plan(world);
    let outcome = Outcome {
        results: vec![result.clone(); plan.steps.len()],
        ..Outcome::default()
    };
    status(world, &plan, &outcome, Timestamp::MAX)
}

fn condition(status: &AirflowWorkloadIdentityStatus, type_: &str) -> (String, String) {
    let condition = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn everything_done_is_ready() {
    let status = read(&fresh(), &StepResult::Done);
    assert_eq!(condition(&status, "Ready"), is("True", "Done"));
    assert_eq!(status.accounts.as_deref(), Some("2/2"));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.client_id.as_deref(), Some(CLIENT));
    assert_eq!(status.tenant_id.as_deref(), Some(TENANT));
    let secret = &status.secrets[0];
    assert_eq!(secret.name, "prod-airflow-connections");
    assert_eq!(secret.checksum.len(), 64);
    assert_eq!(
        status.issuer.as_deref(),
        Some("https://oidc.example/cluster/")
    );
    assert!(
        status
            .service_accounts
            .iter()
            .all(|a| a.federated && a.annotated && a.message.is_none())
    );
}

#[test]
fn an_airflow_that_was_only_named_is_not_remembered_and_one_that_was_seen_is() {
    let mut world = fresh();
    world.discovery.install = Some(release("misspelt"));
    assert_eq!(read(&world, &StepResult::Done).airflow, None);

    let mut world = converged();
    let seen = world.object.status.clone().unwrap().airflow;
    assert_eq!(
        seen.clone().unwrap().helm_release.as_deref(),
        Some("airflow")
    );
    world.discovery.installs.clear();
    assert_eq!(
        read(&world, &StepResult::Done).airflow,
        seen,
        "it is being reinstalled"
    );
}

#[test]
fn nothing_changed_is_the_same_status_to_the_letter() {
    let world = converged();
    assert_eq!(Some(read(&world, &StepResult::Done)), world.object.status);
}

#[test]
fn a_step_that_fails_is_the_reason_why_it_is_not_ready() {
    let problem = Problem::on_change(Reason::AzureForbidden, "no role");
    let status = read(&fresh(), &StepResult::Failed(problem));
    assert_eq!(
        condition(&status, "CredentialsFederated"),
        is("False", "AzureForbidden")
    );
    assert_eq!(condition(&status, "Ready"), is("False", "AzureForbidden"));
    assert_eq!(status.accounts.as_deref(), Some("0/2"));
    assert_eq!(status.secrets, []);
}

#[test]
fn a_moment_without_azure_takes_no_accounts_readiness_back() {
    let mut world = converged();
    unreachable(&mut world, "airflow");
    let status = read(&world, &StepResult::Done);
    assert_eq!(
        condition(&status, "CredentialsFederated"),
        is("Unknown", "AzureUnavailable")
    );
    assert_eq!(condition(&status, "Ready"), is("False", "AzureUnavailable"));
    assert_eq!(status.accounts.as_deref(), Some("2/2"));
}

#[test]
fn suspended_says_so_and_keeps_the_rest() {
    let mut world = converged();
    world.object.spec.suspend = true;
    world.object.metadata.generation = Some(2);
    let status = read(&world, &StepResult::Done);
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(status.credentials.len(), 2);
    assert_eq!(condition(&status, "Ready"), is("False", "Suspended"));
    assert_eq!(
        condition(&status, "CredentialsFederated"),
        is("True", "Done")
    );
    assert_eq!(
        status.service_accounts,
        world.object.status.unwrap().service_accounts
    );
}

#[test]
fn a_component_that_the_release_does_not_have_is_named_and_holds_nothing_up() {
    let mut world = fresh();
    world.discovery.accounts.remove(0);
    let status = read(&world, &StepResult::Done);
    let annotated = status
        .conditions
        .iter()
        .find(|c| c.type_ == "ServiceAccountsAnnotated")
        .unwrap();
    assert!(
        annotated
            .message
            .contains("no ServiceAccount was found for: scheduler"),
        "{}",
        annotated.message
    );
    assert_eq!(condition(&status, "Ready"), is("True", "Done"));
}

#[test]
fn a_deleted_credential_is_struck_from_the_record_only_when_it_is_gone() {
    let mut world = converged();
    world.discovery.accounts.remove(1);
    let names = |status: AirflowWorkloadIdentityStatus| {
        status
            .credentials
            .into_iter()
            .map(|r| r.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(read(&world, &StepResult::Done)),
        [derived("airflow-scheduler")]
    );
    let failed = StepResult::Failed(Problem::on_change(Reason::AzureLocked, "locked"));
    let status = read(&world, &failed);
    assert_eq!(
        condition(&status, "CredentialsFederated"),
        is("False", "AzureLocked")
    );
    assert_eq!(names(status).len(), 2);
}

#[test]
fn an_account_counts_only_with_both_credential_and_annotation() {
    let mut world = converged();
    world.discovery.accounts[1].state = None;
    let status = read(&world, &StepResult::Done);
    assert_eq!(status.accounts.as_deref(), Some("1/2"));
    let worker = &status.service_accounts[1];
    assert!(worker.federated && !worker.annotated);
    assert!(worker.message.as_ref().unwrap().contains("does not exist"));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut world = converged();
    let since = |status: &AirflowWorkloadIdentityStatus| {
        let ready = status
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap();
        ready.last_transition_time.0
    };
    let before = since(world.object.status.as_ref().unwrap());
    assert_eq!(since(&read(&world, &StepResult::Done)), before);
    unreachable(&mut world, "airflow");
    assert_eq!(since(&read(&world, &StepResult::Done)), Timestamp::MAX);
}

#[test]
fn ready_is_the_first_condition_and_every_step_has_one() {
    let types: Vec<_> = read(&fresh(), &StepResult::Done)
        .conditions
        .into_iter()
        .map(|c| c.type_)
        .collect();
    assert_eq!(
        types,
        [
            "Ready",
            "IdentityResolved",
            "Granted",
            "CredentialsFederated",
            "ServiceAccountsAnnotated",
            "ConnectionsWritten",
            "PodsInjected",
        ]
    );
}

#[test]
fn every_problem_has_a_say_in_when_to_try_again() {
    let reasons = |world: &Snapshot, result: &StepResult| {
        let plan = plan(world);
        let results = vec![result.clone(); plan.steps.len()];
        let problems = problems(
            &plan,
            &Outcome {
                results,
                ..Outcome::default()
            },
        );
        problems
            .into_iter()
            .map(|problem| problem.reason)
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(&converged(), &StepResult::Done), []);
    assert_eq!(reasons(&fresh(), &StepResult::Done), []);
    let failed = StepResult::Failed(Problem::on_change(Reason::AzureLocked, "locked"));
    assert_eq!(reasons(&fresh(), &failed), [Reason::AzureLocked; 5]);
    let mut world = converged();
    unreachable(&mut world, "airflow");
    assert_eq!(
        reasons(&world, &StepResult::Done),
        [Reason::AzureUnavailable; 2]
    );
    secret(&mut world, SecretState::Foreign);
    assert!(reasons(&world, &StepResult::Done).contains(&Reason::Conflict));
    world.grants.clear();
    assert!(reasons(&world, &StepResult::Done).contains(&Reason::NotGranted));
}

#[test]
fn an_object_that_is_held_says_by_what() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let problem = Problem::on_change(Reason::AzureLocked, "There is a lock.");
    let status = read(&world, &StepResult::Failed(problem));
    assert_eq!(condition(&status, "Ready"), is("False", "Deleting"));
    assert!(status.conditions[0].message.contains("There is a lock."));
    assert_eq!(status.credentials.len(), 2);
}

#[test]
fn an_annotation_outlives_a_credential_that_cannot_be_written_anew() {
    let mut world = converged();
    azure(&mut world, "airflow", |list| {
        let name = derived("airflow-worker");
        let taken = list.iter_mut().find(|c| c.is_named(&name)).unwrap();
        taken.subject = "system:serviceaccount:other:x".into();
    });
    let status = read(&world, &StepResult::Done);
    let [scheduler, worker] = status.service_accounts.as_slice() else {
        panic!("{status:?}")
    };
    assert!(scheduler.federated && scheduler.annotated);
    assert!(!worker.federated && worker.annotated);
    assert!(
        worker
            .message
            .as_ref()
            .unwrap()
            .contains("system:serviceaccount:other:x")
    );
    assert_eq!(status.accounts.as_deref(), Some("1/2"));

    let status = read(
        &fresh(),
        &StepResult::Failed(Problem::on_change(Reason::AzureForbidden, "no")),
    );
    assert!(
        status
            .service_accounts
            .iter()
            .all(|a| !a.federated && !a.annotated)
    );
}

#[test]
fn a_message_is_cut_between_characters() {
    let table = [
        ("", 3, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "\u{2026}"),
        ("abcdef", 5, "ab\u{2026}"),
        ("\u{e4}\u{e4}\u{e4}\u{e4}", 6, "\u{e4}\u{2026}"),
    ];
    for (text, max, cut) in table {
        assert_eq!(truncated(text, max), cut, "{text} {max}");
    }
}

#[test]
fn a_condition_tells_every_problem_once_and_what_waits_last() {
    let mut world = fresh();
    world.discovery.accounts[0].state = None;
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("helm", false, "theirs");
    });
    let status = read(&world, &StepResult::Done);
    let annotated = status
        .conditions
        .iter()
        .find(|c| c.type_ == "ServiceAccountsAnnotated")
        .unwrap();
    assert_eq!(annotated.reason, "ServiceAccountMissing");
    let lines: Vec<_> = annotated.message.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("theirs"));

    // The credential's own condition says why; the annotation's only that it waits.
    let failed = StepResult::Failed(Problem::on_change(Reason::AzureForbidden, "no role"));
    let mut world = fresh();
    secret(&mut world, SecretState::Foreign);
    let status = read(&world, &failed);
    assert_eq!(
        condition(&status, "CredentialsFederated"),
        is("False", "AzureForbidden")
    );
    assert_eq!(
        condition(&status, "ConnectionsWritten"),
        is("False", "Conflict")
    );
    assert_eq!(status.conditions[3].message, "no role");
}

#[test]
fn no_problem_makes_the_record_of_credentials_go_away() {
    let mut world = converged();
    world.issuer = Err(Problem::on_change(Reason::IssuerUnknown, "?"));
    assert_eq!(read(&world, &StepResult::Done).credentials.len(), 2);
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert_eq!(read(&world, &StepResult::Done).credentials.len(), 2);
    world.identity = Err(Problem::on_change(Reason::InvalidSpec, "?"));
    world.object.metadata.deletion_timestamp = None;
    assert_eq!(read(&world, &StepResult::Done).credentials.len(), 2);
}

#[test]
fn the_ids_of_the_former_identity_are_not_shown_as_those_of_a_new_one() {
    let mut world = converged();
    move_to(&mut world, "new");
    let view = world.azure.get_mut(&id("new")).unwrap();
    view.identity = Err(azure_error(AzureErrorKind::Unavailable));
    assert_eq!(read(&world, &StepResult::Done).client_id, None);
}

#[test]
fn the_ids_of_an_identity_that_is_gone_are_not_shown() {
    let mut world = converged();
    let view = world.azure.get_mut(&id("airflow")).unwrap();
    view.identity = Err(azure_error(AzureErrorKind::NotFound));
    assert_eq!(read(&world, &StepResult::Done).client_id, None);
    world.azure.get_mut(&id("airflow")).unwrap().identity =
        Err(azure_error(AzureErrorKind::Unavailable));
    assert_eq!(
        read(&world, &StepResult::Done).client_id.as_deref(),
        Some(CLIENT)
    );
}

#[test]
fn a_fresh_credential_is_ready_and_its_propagation_is_told_until_it_is_over() {
    let mut world = fresh();
    let plan_now = plan(&world);
    let outcome = Outcome {
        results: vec![StepResult::Done; plan_now.steps.len()],
        ..Outcome::default()
    };
    let then = Timestamp::UNIX_EPOCH;
    let first = status(&world, &plan_now, &outcome, then);
    let message = |status: &AirflowWorkloadIdentityStatus| {
        let mut all = status.conditions.iter();
        let federated = all.find(|c| c.type_ == "CredentialsFederated").unwrap();
        (federated.status.clone(), federated.message.clone())
    };
    let (is_true, text) = message(&first);
    assert_eq!(is_true, "True");
    assert!(text.contains("AADSTS70021"), "{text}");
    assert_eq!(condition(&first, "Ready"), is("True", "Done"));
    let wait = settles_in(&first, then).unwrap();

    settle(&mut world);
    world.object.status = Some(first);
    let later = then + wait;
    let after = status(&world, &plan(&world), &Outcome::default(), later);
    assert!(!message(&after).1.contains("AADSTS70021"));
    assert_eq!(settles_in(&after, later), None);
}

#[test]
fn that_an_identity_is_nearly_full_is_told_when_its_credentials_have_settled_so_the_status_is_written_once()
 {
    let mut world = converged();
    let now = Timestamp::UNIX_EPOCH;
    let message = |world: &Snapshot, now: Timestamp| {
        let after = status(world, &plan(world), &Outcome::default(), now);
        let mut all = after.conditions.into_iter();
        let federated = all.find(|c| c.type_ == "CredentialsFederated").unwrap();
        federated.message
    };
    for account in &mut world.object.status.as_mut().unwrap().service_accounts {
        account.federated_at = Some(Time(now));
    }
    let before = message(&world, now);
    azure(&mut world, "airflow", |list| {
        list.extend((0..17).map(|n| credential(&format!("other{n}"), &format!("other{n}"))));
    });
    assert_eq!(message(&world, now), before);
    let settled = now + settles_in(world.object.status.as_ref().unwrap(), now).unwrap();
    let told = message(&world, settled);
    assert!(told.contains("18 or more of at most 20"), "{told}");
}

#[test]
fn what_waits_for_its_turn_says_so_before_it_is_written() {
    let world = fresh();
    let status = status(
        &world,
        &plan(&world),
        &Outcome::default(),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(condition(&status, "Ready"), is("False", "Waiting"));
    for step in [
        "CredentialsFederated",
        "ServiceAccountsAnnotated",
        "ConnectionsWritten",
    ] {
        assert_eq!(condition(&status, step), is("Unknown", "Waiting"), "{step}");
    }
    assert_eq!(
        status.credentials.len(),
        2,
        "on record before the first write"
    );
}
