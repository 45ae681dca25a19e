//! What `awi plan` prints.

use airflow_workload_identity::{
    api::ExistingCredentials,
    azure::AzureErrorKind,
    cli::{
        Found,
        plan::{ObjectReport, Origin, Report, Verb},
    },
    observe::{SecretState, Snapshot},
    plan::plan,
};
use jiff::Timestamp;

use crate::given::*;

fn report(world: &Snapshot) -> Report {
    report_of(world, Origin::Applied)
}

fn report_of(world: &Snapshot, origin: Origin) -> Report {
    let object = ObjectReport::new(world, &plan(world), origin, Timestamp::UNIX_EPOCH);
    Report::new(vec![object], Vec::new())
}

/// The changes, without their details.
fn changes(world: &Snapshot) -> Vec<(Verb, &'static str, String)> {
    let objects = report(world).objects.into_iter();
    objects
        .flat_map(|object| object.changes)
        .map(|change| (change.action, change.kind, change.object))
        .collect()
}

#[test]
fn a_new_object_shows_everything_in_the_order_in_which_it_is_done() {
    let mut world = fresh();
    world.history.clear();
    let scheduler = derived("airflow-scheduler");
    let worker = derived("airflow-worker");
    let expected = format!(
        "\
AirflowWorkloadIdentity prod in namespace airflow (not applied yet)
  + add finalizer airflow-workload-identity.io/cleanup
  ~ remember issuer https://oidc.example/cluster/ in the operator's ConfigMap airflow-workload-identity-issuers
  + write federated credential {scheduler} for system:serviceaccount:airflow:airflow-scheduler to identity airflow
  + write federated credential {worker} for system:serviceaccount:airflow:airflow-worker to identity airflow
  ~ annotate ServiceAccount airflow-scheduler with client ID {CLIENT} (after FederatedCredential {scheduler})
  ~ annotate ServiceAccount airflow-worker with client ID {CLIENT} (after FederatedCredential {worker})
  + write Secret prod-airflow-connections with AIRFLOW_CONN_AZURE_DEFAULT

4 to create, 3 to change, 0 to delete, 0 to adopt, 0 to leave; nothing stands in the way.
"
    );
    let report = report_of(&world, Origin::New);
    assert_eq!(report.to_string(), expected);
    assert_eq!(report.found(), Found::Changes);
}

#[test]
fn an_object_that_is_as_it_should_be_has_no_changes() {
    let report = report(&converged());
    assert_eq!(report.to_string(), "No changes: prod is as it should be.\n");
    assert_eq!(report.found(), Found::Nothing);
}

#[test]
fn what_stands_in_the_way_is_told_with_what_to_do_and_whatever_else_waits_for_it_is_not() {
    let mut world = fresh();
    world.grants.clear();
    world.azure.clear();
    let expected = format!(
        "\
AirflowWorkloadIdentity prod in namespace airflow
  + add finalizer airflow-workload-identity.io/cleanup
  ! Granted NotGranted: No AzureIdentityGrant lets namespace airflow use identity {id}. A cluster administrator can apply:
      apiVersion: airflow-workload-identity.io/v1alpha1
      kind: AzureIdentityGrant
      metadata:
        name: airflow-airflow
      spec:
        identities:
        - resourceId: {id}
        namespaces:
          names: [\"airflow\"]

1 to create, 0 to change, 0 to delete, 0 to adopt, 0 to leave; 1 problem stands in the way.
",
        id = id("airflow")
    );
    let report = report(&world);
    assert_eq!(report.to_string(), expected);
    assert_eq!(report.found(), Found::Problems);
}

#[test]
fn what_is_refused_to_whoever_looks_may_be_allowed_to_the_operator() {
    let mut world = converged();
    let view = world.azure.get_mut(&id("airflow")).unwrap();
    view.identity = Err(azure_error(AzureErrorKind::Forbidden));
    let report = report(&world);
    assert_eq!(report.found(), Found::Problems);
    assert_eq!(report.objects[0].problems[0].reason, "AzureForbidden");
    let [note] = report.notes.as_slice() else {
        panic!("{:?}", report.notes)
    };
    assert!(note.contains("as you, not as the operator"), "{note}");
}

#[test]
fn what_others_made_as_it_should_be_is_adopted_and_not_changed() {
    let mut world = fresh();
    world.object.spec.federation.existing_credentials = ExistingCredentials::Adopt;
    world.object.spec.connections.clear();
    for name in ["airflow-scheduler", "airflow-worker"] {
        azure(&mut world, "airflow", |list| {
            list.push(credential(name, name));
        });
        account(&mut world, name, |state| {
            state.client_id = owned_by("helm", false, CLIENT);
            state.tenant_id = owned_by("helm", false, TENANT);
        });
    }
    let adopted = |kind, name: &str| (Verb::Adopt, kind, name.to_owned());
    let expected = [
        (
            Verb::Create,
            "Finalizer",
            "airflow-workload-identity.io/cleanup".to_owned(),
        ),
        adopted("FederatedCredential", "airflow-scheduler"),
        adopted("FederatedCredential", "airflow-worker"),
        adopted("ServiceAccount", "airflow-scheduler"),
        adopted("ServiceAccount", "airflow-worker"),
    ];
    assert_eq!(changes(&world), expected);
    let text = report(&world).to_string();
    for line in [
        "  = adopt federated credential airflow-worker for system:serviceaccount:airflow:airflow-worker: it stays as it is, and becomes this object's\n",
        "  = adopt the annotations of ServiceAccount airflow-worker: they stay as they are, and become this object's, too\n",
    ] {
        assert!(text.contains(line), "{text}");
    }

    // One that lacks the tenant is changed.
    account(&mut world, "airflow-worker", |state| {
        state.tenant_id.value = None;
    });
    let worker = (Verb::Change, "ServiceAccount", "airflow-worker".to_owned());
    assert!(changes(&world).contains(&worker));
}

#[test]
fn what_is_there_is_changed_and_what_is_not_is_created() {
    let mut world = converged();
    azure(&mut world, "airflow", |list| {
        for c in list.iter_mut() {
            c.audiences = vec!["api://other".into()];
        }
    });
    let state = SecretState::Ours {
        uid: "1".into(),
        checksum: "old".into(),
        is_marked: true,
        resource_version: Some("1".into()),
    };
    secret(&mut world, state);
    let verbs: Vec<Verb> = changes(&world).into_iter().map(|(verb, ..)| verb).collect();
    assert_eq!(verbs, [Verb::Change; 3]);
}

#[test]
fn an_object_that_goes_takes_everything_with_it() {
    let mut world = converged();
    world.object.metadata.deletion_timestamp = Some(long_ago());
    let kinds: Vec<_> = changes(&world)
        .into_iter()
        .map(|(verb, kind, _)| (verb, kind))
        .collect();
    let expected = [
        (Verb::Delete, "Secret"),
        (Verb::Change, "ServiceAccount"),
        (Verb::Change, "ServiceAccount"),
        (Verb::Delete, "FederatedCredential"),
        (Verb::Delete, "FederatedCredential"),
        (Verb::Delete, "Finalizer"),
    ];
    assert_eq!(kinds, expected);
    let report = report(&world);
    assert_eq!(report.found(), Found::Changes);
    assert_eq!(report.objects[0].notes, ["It is being deleted."]);
}

#[test]
fn a_suspended_object_is_not_as_it_should_be() {
    let mut world = converged();
    world.object.spec.suspend = true;
    let report = report(&world);
    assert_eq!(report.found(), Found::Problems);
    assert_eq!(report.objects[0].problems[0].reason, "Suspended");
    assert_eq!(report.objects[0].problems.len(), 1);
}

#[test]
fn json_has_the_same_in_names_that_stay() {
    let mut world = converged();
    secret(&mut world, SecretState::Absent);
    let json = serde_json::to_value(report(&world)).unwrap();
    let expected = serde_json::json!({
        "objects": [{
            "namespace": "airflow",
            "name": "prod",
            "changes": [{
                "action": "create",
                "kind": "Secret",
                "object": "prod-airflow-connections",
                "detail": "write Secret prod-airflow-connections with AIRFLOW_CONN_AZURE_DEFAULT",
                "after": [],
            }],
            "problems": [],
            "notes": [],
        }],
        "notes": [],
        "summary": { "create": 1, "change": 0, "delete": 0, "adopt": 0, "leave": 0, "problems": 0 },
    });
    assert_eq!(json, expected);
}

#[test]
fn an_object_that_cannot_be_read_is_a_problem() {
    let object = ObjectReport::unreadable("airflow", "prod".into(), "missing field `identity`");
    let report = Report::new(vec![object], Vec::new());
    assert_eq!(report.found(), Found::Problems);
    assert!(
        report
            .to_string()
            .contains("! Ready InvalidSpec: This object cannot be read")
    );
}
