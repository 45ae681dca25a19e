//! The object goes, and so do its traces.

use airflow_workload_identity::api::{ConditionType, Reason};
use airflow_workload_identity::{
    apply::Outcome,
    azure::{AzureErrorKind, Unsettled},
    plan::{Finalizer, plan},
    problem::Problem,
    status::status,
};
use jiff::Timestamp;

use crate::given::*;

#[test]
fn traces_go_in_the_reverse_of_the_order_in_which_they_came() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    let kinds: Vec<_> = steps
        .iter()
        .map(|s| s.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        kinds,
        [
            "delete Secret",
            "take the",
            "take the",
            "delete federated",
            "delete federated"
        ]
    );
    assert_eq!(plan(&world).finalizer, Finalizer::Remove);
}

#[test]
fn credentials_stay_when_they_are_to_be_retained() {
    let mut world = converged();
    world.object.spec.federation.deletion_policy =
        airflow_workload_identity::api::DeletionPolicy::Retain;
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let steps = planned(&world);
    let of_credentials: Vec<_> = steps.iter().filter(|s| s.contains("federated")).collect();
    assert_eq!(of_credentials.len(), 2, "{steps:?}");
    assert!(of_credentials.iter().all(|step| step.starts_with("leave")));
}

#[test]
fn a_suspended_object_can_be_deleted_too() {
    let mut world = converged();
    world.object.spec.suspend = true;
    assert!(plan(&world).steps.is_empty());
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert_eq!(planned(&world).len(), 5);
}

#[test]
fn an_identity_that_is_gone_has_taken_its_credentials_with_it() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    world.azure.get_mut(&id("airflow")).unwrap().credentials =
        Err(azure_error(AzureErrorKind::NotFound));
    let plan = plan(&world);
    assert!(plan.blocked.is_empty());
    assert_eq!(plan.forgotten.len(), 2);
}

#[test]
fn the_object_stays_while_azure_does_not_answer() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    unreachable(&mut world, "airflow");
    assert_eq!(
        plan(&world).blocked[&ConditionType::CredentialsFederated].reason,
        Reason::AzureUnavailable
    );
}

#[test]
fn the_object_stays_while_the_issuer_is_not_known() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    world.issuer = Err(Problem::on_change(Reason::IssuerUnknown, "?"));
    assert_eq!(
        plan(&world).blocked[&ConditionType::CredentialsFederated].reason,
        Reason::IssuerUnknown
    );
}

#[test]
fn an_object_that_only_another_finalizer_holds_is_nothing_to_the_operator() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    world.object.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let plan = plan(&world);
    assert!(plan.steps.is_empty(), "{plan:?}");
    assert_eq!(plan.finalizer, Finalizer::Keep);
    assert!(plan.forgotten.is_empty());
}

#[test]
fn the_finalizer_is_there_before_the_first_trace_and_is_added_once() {
    assert_eq!(plan(&fresh()).finalizer, Finalizer::Add);
    assert_eq!(plan(&converged()).finalizer, Finalizer::Keep);
}

#[test]
fn an_unknown_issuer_holds_up_no_object_that_never_had_a_credential() {
    let mut world = fresh();
    world.issuer = Err(Problem::on_change(Reason::IssuerUnknown, "?"));
    world.object.metadata.deletion_timestamp = Some(long_ago());
    assert!(plan(&world).blocked.is_empty());
}

#[test]
fn an_object_that_azure_holds_is_let_go_by_one_annotation() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    unreachable(&mut world, "airflow");
    let plan_before = plan(&world);
    assert!(!plan_before.blocked.is_empty());
    let said = status(&world, &plan_before, &Outcome::default(), Timestamp::MAX);
    let message = &said.conditions[0].message;
    let command = "kubectl annotate awi prod -n airflow airflow-workload-identity.io/abandon-credentials=true";
    assert!(message.contains(command), "{message}");

    let annotations = world.object.metadata.annotations.get_or_insert_default();
    annotations.insert(
        "airflow-workload-identity.io/abandon-credentials".into(),
        "true".into(),
    );
    let plan = plan(&world);
    assert!(plan.blocked.is_empty());
    let steps = planned(&world);
    let mut of_credentials = steps.iter().filter(|s| s.contains("federated credential"));
    assert!(
        of_credentials.all(|step| step.starts_with("leave")),
        "{steps:?}"
    );
}

/// A process before this one may have sent it, and died: without a record nobody would ever look for it.
#[test]
fn a_credential_that_may_still_arrive_is_not_forgotten() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    azure(&mut world, "airflow", Vec::clear);
    let records = world.records().count();
    assert_eq!(plan(&world).forgotten.len(), records);

    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::All;
    let waits = plan(&world);
    assert!(waits.forgotten.is_empty());
    let problem = &waits.blocked[&ConditionType::CredentialsFederated];
    assert_eq!(problem.reason, Reason::Waiting);
}

#[test]
fn nor_is_one_whose_name_somebody_else_has_meanwhile() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let records = world.records().count();
    azure(&mut world, "airflow", |list| {
        for credential in list {
            credential.issuer = "https://oidc.example/foreign/".into();
        }
    });
    assert_eq!(plan(&world).forgotten.len(), records);

    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::All;
    let waits = plan(&world);
    assert!(waits.forgotten.is_empty());
    assert!(!planned(&world).iter().any(|s| s.contains("federated")));
}

/// A write of before that arrives after the deletion brings it back.
#[test]
fn a_credential_that_may_come_back_stays_on_record_after_it_was_deleted() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let before = world.records().count();
    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::All;
    let deletes = plan(&world);
    let problem = &deletes.blocked[&ConditionType::CredentialsFederated];
    assert_eq!(problem.reason, Reason::Waiting);
    assert!(
        problem.message.contains("is deleted."),
        "{}",
        problem.message
    );
    settle(&mut world);
    let view = &world.azure[&id("airflow")];
    assert_eq!(view.credentials, Ok(Vec::new()));
    assert_eq!(world.records().count(), before);

    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::Nothing;
    settle(&mut world);
    assert_eq!(world.records().count(), 0);
}

#[test]
fn an_object_is_ready_while_what_it_does_not_want_may_come_back() {
    let mut world = converged();
    world.discovery.accounts.remove(0);
    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::All;
    let before = world.records().count();
    settle(&mut world);
    let looks = plan(&world);
    assert!(looks.steps.is_empty() && looks.blocked.is_empty());
    assert!(looks.look_again.is_some());
    assert_eq!(world.records().count(), before);

    world.azure.get_mut(&id("airflow")).unwrap().unsettled = Unsettled::Nothing;
    settle(&mut world);
    assert_eq!(plan(&world).look_again, None);
    assert_eq!(world.records().count(), before - 1);
}

#[test]
fn an_object_stays_while_it_cannot_be_told_which_accounts_carry_its_annotations() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let problem = Problem::on_change(Reason::ClusterError, "no answer");
    world.left_behind = Err(problem.clone());
    let stays = plan(&world);
    assert_eq!(
        stays.blocked[&ConditionType::ServiceAccountsAnnotated],
        problem
    );
}
