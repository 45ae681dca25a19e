//! The two annotations on each ServiceAccount.

use airflow_workload_identity::{
    api::Reason,
    plan::{Action, plan},
};

use crate::given::*;

const CLIENT_ID: &str = "azure.workload.identity/client-id";

#[test]
fn an_account_is_annotated_after_its_credential_is_written() {
    let plan = plan(&fresh());
    let position = |wanted: &str| {
        plan.steps
            .iter()
            .position(|s| s.action.to_string().starts_with(wanted))
            .unwrap()
    };
    let put = position("write federated credential awi-airflow-airflow-worker");
    let annotate = position("annotate ServiceAccount airflow-worker");
    assert_eq!(plan.steps[annotate].after, [put]);
    assert!(put < annotate && annotate < position("write Secret"));
}

#[test]
fn a_converged_world_needs_nothing() {
    assert_eq!(planned(&converged()), Vec::<String>::new());
}

#[test]
fn an_annotation_that_was_changed_by_hand_is_put_back_as_long_as_nobody_changes_it_again() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("kubectl-annotate", false, "other");
        state.version = 7;
    });
    assert!(
        matches!(&plan(&world).steps[0].action, Action::Annotate { account, repair: Some(7), .. } if account.name == "airflow-worker")
    );
}

#[test]
fn an_annotation_that_was_removed_is_put_back() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = Default::default();
    });
    assert_eq!(
        planned(&world),
        [format!(
            "annotate ServiceAccount airflow-worker with client ID {CLIENT}"
        )]
    );
}

#[test]
fn an_annotation_that_was_there_before_us_is_left_alone() {
    let mut world = fresh();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("helm", false, "theirs");
    });
    let plan = plan(&world);
    let problem = problem_of(&plan, "airflow-worker").unwrap();
    assert_eq!(problem.reason, Reason::Conflict);
    for words in [
        CLIENT_ID,
        "theirs",
        "helm",
        "kubectl annotate serviceaccount airflow-worker -n airflow",
    ] {
        assert!(
            problem.message.contains(words),
            "{words}: {}",
            problem.message
        );
    }
    assert!(!plan.steps.iter().any(|s| {
        s.action
            .to_string()
            .contains("annotate ServiceAccount airflow-worker")
    }));
    assert!(plan.steps.iter().any(|s| {
        s.action
            .to_string()
            .contains("annotate ServiceAccount airflow-scheduler")
    }));
}

#[test]
fn an_annotation_that_someone_declares_is_never_fought_over() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("argocd-controller", true, "theirs");
    });
    assert_eq!(planned(&world), Vec::<String>::new());
    assert_eq!(
        problem_of(&plan(&world), "airflow-worker").unwrap().reason,
        Reason::Conflict
    );
}

#[test]
fn an_account_that_another_object_claims_is_a_conflict_that_names_it() {
    let mut world = fresh();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("airflow-workload-identity/dev", true, "theirs");
    });
    let problem = problem_of(&plan(&world), "airflow-worker").unwrap();
    assert!(
        problem.message.contains("AirflowWorkloadIdentity dev"),
        "{}",
        problem.message
    );
}

#[test]
fn a_right_annotation_of_another_owner_is_owned_too_so_that_it_outlives_them() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.client_id = owned_by("helm", false, CLIENT);
        state.tenant_id = owned_by("helm", false, TENANT);
    });
    assert_eq!(planned(&world).len(), 1);
}

#[test]
fn an_account_that_does_not_exist_yet_is_federated_and_waited_for() {
    let mut world = fresh();
    world.discovery.accounts[1].state = None;
    let plan = plan(&world);
    assert_eq!(
        problem_of(&plan, "airflow-worker").unwrap().reason,
        Reason::ServiceAccountMissing
    );
    assert!(
        planned(&world)
            .iter()
            .any(|step| step.starts_with("write federated credential awi-airflow-airflow-worker"))
    );
}

#[test]
fn an_account_that_left_the_object_loses_its_annotations_and_its_credential() {
    let mut world = converged();
    let gone = world.discovery.accounts.remove(1);
    world.left_behind = Ok(vec![airflow_workload_identity::observe::Existing {
        name: gone.name,
        uid: "uid".into(),
    }]);
    assert_eq!(
        planned(&world),
        [
            "take the annotations of ServiceAccount airflow-worker back".to_owned(),
            format!(
                "delete federated credential {} for system:serviceaccount:airflow:airflow-worker from identity airflow",
                derived("airflow-worker")
            ),
        ]
    );
}

#[test]
fn annotations_are_kept_true_while_azure_is_out_of_reach() {
    let mut world = converged();
    unreachable(&mut world, "airflow");
    account(&mut world, "airflow-worker", |state| {
        state.client_id = Default::default();
    });
    assert_eq!(
        planned(&world),
        [format!(
            "annotate ServiceAccount airflow-worker with client ID {CLIENT}"
        )]
    );
}

#[test]
fn both_annotations_changed_at_once_leave_no_sign_of_us_but_the_status() {
    let change = |world: &mut airflow_workload_identity::observe::Snapshot| {
        account(world, "airflow-worker", |state| {
            state.client_id = owned_by("kubectl-annotate", false, "x");
            state.tenant_id = owned_by("kubectl-annotate", false, "y");
        });
    };
    let mut world = converged();
    change(&mut world);
    assert!(planned(&world)[0].starts_with("annotate again ServiceAccount airflow-worker"));
    for account in &mut world.object.status.as_mut().unwrap().service_accounts {
        account.annotated = account.name != "airflow-worker";
    }
    assert_eq!(planned(&world), Vec::<String>::new());
    assert_eq!(
        problem_of(&plan(&world), "airflow-worker").unwrap().reason,
        Reason::Conflict
    );
}

#[test]
fn an_account_made_again_with_somebody_elses_annotation_is_not_the_one_that_was_ours() {
    let mut world = converged();
    account(&mut world, "airflow-worker", |state| {
        state.uid = "another".into();
        state.client_id = owned_by("kubectl-replace", false, "theirs");
        state.tenant_id = airflow_workload_identity::observe::Annotation::default();
    });
    assert_eq!(planned(&world), Vec::<String>::new());
    assert_eq!(
        problem_of(&plan(&world), "airflow-worker").unwrap().reason,
        Reason::Conflict
    );
}
