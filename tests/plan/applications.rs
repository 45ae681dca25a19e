//! Entra applications: the same rules, and ownership by description.

use airflow_workload_identity::{
    api::{
        AirflowWorkloadIdentity, Application, ConditionType, CredentialRecord, ExistingCredentials,
        Reason,
    },
    azure::{AzureError, AzureErrorKind, AzureIdentity, View},
    model::{FederatedCredential, IdentityId},
    observe::Snapshot,
    plan::{Ids, plan},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::given::*;

fn app() -> IdentityId {
    IdentityId::Application(CLIENT.parse().unwrap())
}

fn of_application(object: &mut AirflowWorkloadIdentity) {
    let identity = &mut object.spec.identity;
    identity.managed_identity = None;
    identity.application = Some(Application {
        app_id: CLIENT.parse().unwrap(),
    });
    identity.tenant_id = Some(TENANT.parse().unwrap());
}

/// A granted object for an application, before anything was done for it.
fn fresh_application() -> Snapshot {
    let mut world = fresh();
    of_application(&mut world.object);
    let grant =
        json!({ "identities": [{ "appId": CLIENT }], "namespaces": { "names": ["airflow"] } });
    let view = View {
        identity: Ok(AzureIdentity {
            client_id: CLIENT.parse().unwrap(),
            tenant_id: None,
        }),
        ..world.azure[&id("airflow")].clone()
    };
    world.identity = Ok(app());
    world.grants = [(app(), vec![serde_json::from_value(grant).unwrap()])].into();
    world.azure = [(app(), view)].into();
    world
}

fn on_record(world: &Snapshot) -> Vec<CredentialRecord> {
    world.object.status.clone().unwrap().credentials
}

/// One for the worker that somebody else wrote, under this name.
fn theirs(name: &str) -> FederatedCredential {
    let mut theirs = credential(name, "airflow-worker");
    theirs.is_marked = Some(false);
    theirs
}

#[test]
fn the_tenant_is_the_specs_because_azure_does_not_tell_it() {
    let mut world = fresh_application();
    let ids = Ids {
        client: CLIENT.parse().unwrap(),
        tenant: TENANT.parse().unwrap(),
    };
    assert_eq!(plan(&world).ids, Some(ids));
    world.object.spec.identity.tenant_id = None;
    let problem = &plan(&world).blocked[&ConditionType::IdentityResolved];
    assert_eq!(problem.reason, Reason::InvalidSpec);
    assert!(problem.message.contains("spec.identity.tenantId"));
}

#[test]
fn a_converged_application_needs_nothing() {
    let mut world = fresh_application();
    settle(&mut world);
    assert_eq!(planned(&world), Vec::<String>::new());
    let identities: Vec<String> = on_record(&world).into_iter().map(|r| r.identity).collect();
    let app = format!("applications/{CLIENT}");
    assert_eq!(identities, [app.clone(), app]);
}

#[test]
fn one_without_our_description_is_used_but_never_ours_whatever_its_name() {
    let mut world = fresh_application();
    live(&mut world, &app()).push(theirs(&derived("airflow-worker")));
    settle(&mut world);
    assert_eq!(on_record(&world).len(), 1, "the scheduler's");
    assert_eq!(planned(&world), Vec::<String>::new());
}

#[test]
fn one_of_ours_whose_description_was_changed_is_somebody_elses_from_then_on() {
    let mut world = fresh_application();
    settle(&mut world);
    for credential in live(&mut world, &app()) {
        credential.is_marked = Some(!credential.subject.ends_with("airflow-worker"));
        credential.audiences = vec!["api://other".into()];
    }
    let steps = planned(&world);
    let repaired = |account: &str| {
        let mut steps = steps.iter();
        steps.any(|s| s.starts_with("write federated") && s.contains(account))
    };
    assert!(repaired("airflow-scheduler"), "{steps:?}");
    assert!(!repaired("airflow-worker"), "{steps:?}");

    world.object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let steps = planned(&world);
    let deleted: Vec<_> = steps
        .iter()
        .filter(|s| s.starts_with("delete federated"))
        .collect();
    assert_eq!(deleted.len(), 1, "{steps:?}");
    assert!(deleted[0].contains("airflow-scheduler"), "{steps:?}");
}

#[test]
fn one_that_is_adopted_gets_our_description() {
    let mut world = fresh_application();
    live(&mut world, &app()).push(theirs("guide-worker"));
    world.object.spec.federation.existing_credentials = ExistingCredentials::Adopt;
    let steps = planned(&world);
    assert!(
        steps
            .iter()
            .any(|s| s.starts_with("write federated credential guide-worker")),
        "{steps:?}"
    );
    settle(&mut world);
    assert_eq!(planned(&world), Vec::<String>::new());
    assert!(on_record(&world).iter().any(|r| r.name == "guide-worker"));
}

#[test]
fn messages_name_the_commands_for_applications() {
    let mut world = fresh_application();
    let mut other = theirs(&derived("airflow-worker"));
    other.subject = "system:serviceaccount:other:x".into();
    live(&mut world, &app()).push(other);
    let outcome = plan(&world);
    let text = format!("{:?}", outcome.accounts);
    let command = format!("az ad app federated-credential delete --id {CLIENT}");
    assert!(text.contains(&command), "{text}");

    for (kind, words) in [
        (AzureErrorKind::Forbidden, "Application.ReadWrite.OwnedBy"),
        (AzureErrorKind::NotFound, "spec.identity.application.appId"),
        (AzureErrorKind::ApplicationsOff, "docs/azure.md"),
    ] {
        let error = AzureError {
            kind,
            status: None,
            code: None,
            message: String::new(),
            retry_after: None,
        };
        let view = world.azure.get_mut(&app()).unwrap();
        view.identity = Err(error.clone());
        view.credentials = Err(error);
        let problem = &plan(&world).blocked[&ConditionType::IdentityResolved];
        assert!(problem.message.contains(words), "{}", problem.message);
    }
}

#[test]
fn a_grant_of_a_managed_identity_is_none_of_an_application() {
    let mut world = fresh_application();
    world.grants.insert(app(), Vec::new());
    let plan = plan(&world);
    let problem = &plan.blocked[&ConditionType::Granted];
    let yaml = format!("identities:\n  - appId: {CLIENT}\n");
    assert!(problem.message.contains(&yaml), "{}", problem.message);
    assert!(plan.steps.is_empty());
}

#[test]
fn one_that_graph_does_not_list_yet_is_waited_for_and_not_forgotten() {
    let mut world = fresh_application();
    settle(&mut world);
    live(&mut world, &app()).clear();
    let fresh = on_record(&world).into_iter().map(|r| r.subject);
    world.settling = fresh.collect();
    for is_deleted in [true, false] {
        if is_deleted {
            world.object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        } else {
            world.object.metadata.deletion_timestamp = None;
            world.grants.insert(app(), Vec::new());
        }
        let waiting = plan(&world);
        assert!(waiting.forgotten.is_empty(), "{waiting:?}");
        let problem = &waiting.blocked[&ConditionType::CredentialsFederated];
        assert!(problem.message.contains("does not list credential"));
    }
    world.settling.clear();
    assert_eq!(plan(&world).forgotten.len(), 2);
}

#[test]
fn one_with_a_name_that_we_could_not_write_is_used_as_it_is() {
    let mut world = fresh_application();
    live(&mut world, &app()).push(theirs("my.worker~1"));
    world.object.spec.federation.existing_credentials = ExistingCredentials::Adopt;
    settle(&mut world);
    let accounts = &world.object.status.as_ref().unwrap().service_accounts;
    assert!(accounts.iter().all(|a| a.federated), "{accounts:?}");
    assert_eq!(on_record(&world).len(), 1, "the scheduler's");
}

#[test]
fn a_description_alone_gives_us_what_lets_our_account_in_and_no_more() {
    let mut world = fresh_application();
    world.object.spec.federation.credential_name = Some("prod".into());
    let mut marked = credential("prod-worker", "other-worker");
    marked.is_marked = Some(true);
    marked.audiences = vec!["api://other".into()];
    live(&mut world, &app()).push(marked);
    let writes = |world: &Snapshot| {
        let mut steps = planned(world);
        steps.retain(|s| s.starts_with("write federated credential prod-worker"));
        steps.len()
    };
    assert_eq!(writes(&world), 0, "another object's");
    live(&mut world, &app())[0].subject = "system:serviceaccount:airflow:airflow-worker".into();
    assert_eq!(writes(&world), 1, "restored from a backup");
}
