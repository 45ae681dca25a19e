//! Objects as the watch reads them: an `AirflowWorkloadIdentity`, then grants and more objects, each
//! a JSON text after a line `---`. An input that is no JSON chooses among what the schemas admit.

use airflow_workload_identity::{
    api::{AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, AzureIdentityGrant, Reason},
    apply::{Outcome, StepResult},
    model::Subject,
    observe::{Guarded, Snapshot},
    plan::{Action, Plan, plan},
    status::{exchanges_in, problems, settles_in, status},
};
use arbitrary::Unstructured;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{given, schema, world::seen};

type Object = Guarded<AirflowWorkloadIdentity>;
type Grant = Guarded<AzureIdentityGrant>;

/// Whatever the API server may hold is read or refused by name, and taken through a pass: no panic,
/// nothing is given that is not granted, and what is told is what the schema takes.
pub fn check(input: &[u8]) {
    let (objects, grants) = if input.first() == Some(&b'{') {
        written(input)
    } else {
        // Bytes that end too soon make a smaller world.
        let bytes = &mut Unstructured::new(input);
        chosen(bytes).unwrap_or_default()
    };
    for guard in &grants {
        names_the_field(guard);
    }
    for guard in &objects {
        names_the_field(guard);
    }
    let Some(Guarded(Ok(object))) = objects.first() else {
        return;
    };
    let mut object = object.clone();
    for _ in 0..3 {
        object.status = Some(pass(&object, &objects, &grants));
        let finalizers = &mut object.metadata.finalizers;
        *finalizers = Some(vec![airflow_workload_identity::api::FINALIZER.to_owned()]);
    }
}

fn written(input: &[u8]) -> (Vec<Object>, Vec<Grant>) {
    let (mut objects, mut grants) = (Vec::new(), Vec::new());
    let text = String::from_utf8_lossy(input);
    for text in text.split("\n---\n") {
        if text.contains("AzureIdentityGrant") {
            grants.extend(serde_json::from_str(text).ok());
        } else {
            objects.extend(serde_json::from_str(text).ok());
        }
    }
    // The API server holds nothing without a name, and no object of ours with one of more than 63 characters.
    let may_be = |name: &String| name.len() <= 63;
    objects.retain(|object: &Object| object.meta().name.as_ref().is_some_and(may_be));
    grants.retain(|grant: &Grant| grant.meta().name.is_some());
    (objects, grants)
}

fn chosen(bytes: &mut Unstructured) -> arbitrary::Result<(Vec<Object>, Vec<Grant>)> {
    let mut objects = Vec::new();
    for name in ["prod", "other"] {
        let mut object = schema::admitted(&schema::OBJECT, bytes)?;
        object["metadata"] = json!({ "name": name, "namespace": "airflow", "uid": format!("uid-of-{name}"), "generation": 1 });
        if schema::is_so(1, 5, bytes)? {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        of_one_type(&mut object);
        objects.push(readable(&object));
    }
    let mut grant = schema::admitted(&schema::GRANT, bytes)?;
    grant["metadata"] = json!({ "name": "grant" });
    let identity = given::id("airflow").to_string();
    let all = json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant", "metadata": { "name": "all" },
        "spec": { "identities": [{ "resourceId": identity }], "namespaces": { "names": ["airflow"] } },
    });
    let mut grants = vec![readable(&grant)];
    if schema::is_so(2, 3, bytes)? {
        grants.push(readable(&all));
    }
    Ok((objects, grants))
}

/// A connection has exactly one type: a rule in CEL without which it is none.
fn of_one_type(object: &mut Value) {
    let connections = object["spec"]["connections"].as_array_mut();
    for connection in connections.into_iter().flatten() {
        let connection = connection.as_object_mut().unwrap();
        let of_all = ["id", "extra"];
        let mut types = connection
            .keys()
            .filter(|key| !of_all.contains(&key.as_str()));
        let first = types.next().cloned();
        connection.retain(|key, _| of_all.contains(&key.as_str()) || Some(key) == first.as_ref());
        if first.is_none() {
            connection.insert("azure".into(), json!({}));
        }
    }
}

/// What the schema admits can be read.
fn readable<K: Resource + DeserializeOwned>(value: &Value) -> Guarded<K> {
    let guard = serde_json::from_value::<Guarded<K>>(value.clone()).unwrap();
    let refusal = guard.0.as_ref().err();
    assert!(refusal.is_none(), "{}: {value}", refusal.unwrap().error);
    guard
}

fn names_the_field<K>(guard: &Guarded<K>) {
    if let Err(invalid) = &guard.0 {
        let (field, why) = invalid.error.split_once(": ").unwrap_or_default();
        let root = field.split(['.', '[']).next().unwrap_or_default();
        let is_field = ["apiVersion", "kind", "metadata", "spec", "status"].contains(&root);
        let is_missing = invalid.error.starts_with("missing field ");
        assert!(
            is_field && !why.is_empty() || is_missing,
            "{}",
            invalid.error
        );
    }
}

/// One pass, in which everything that is planned is done.
fn pass(
    object: &AirflowWorkloadIdentity,
    objects: &[Object],
    grants: &[Grant],
) -> AirflowWorkloadIdentityStatus {
    let snapshot = seen(object, objects.to_vec(), grants);
    let plan = plan(&snapshot);
    gives_only_what_is_granted(&snapshot, &plan);
    for problem in problems(&plan, &Outcome::default()) {
        assert!(!problem.message.is_empty());
        if problem.reason == Reason::InvalidSpec {
            assert!(problem.message.contains("spec."), "{}", problem.message);
        }
    }
    let done = Outcome {
        results: vec![StepResult::Done; plan.steps.len()],
        ..Outcome::default()
    };
    let told = [Outcome::default(), done].map(|outcome| {
        let status = status(&snapshot, &plan, &outcome, snapshot.now);
        let _ = settles_in(&status, snapshot.now);
        let _ = exchanges_in(&snapshot, &status);
        is_taken(object, &status);
        status
    });
    let [_, after] = told;
    after
}

/// The rules that are never broken, as far as a plan can break them.
fn gives_only_what_is_granted(snapshot: &Snapshot, plan: &Plan) {
    let namespace = &snapshot.namespace;
    for step in &plan.steps {
        match &step.action {
            Action::PutCredential {
                identity,
                name,
                properties,
                ..
            } => {
                // An account without a name, which the API server refuses, is of the namespace, too.
                let of_namespace = format!("system:serviceaccount:{namespace}:");
                let account = properties.subject.strip_prefix(&of_namespace).unwrap();
                assert!(snapshot.covers(identity, account), "{}", step.action);
                assert_eq!(properties.issuer, given::issuer().as_str());
                assert!(
                    plan.records
                        .iter()
                        .any(|record| record.name == name.as_str())
                );
            }
            // A record may be forged, so what is there decides.
            Action::DeleteCredential { record, seen, .. } => {
                assert!(snapshot.is_ours(&seen.issuer), "{}", step.action);
                assert!(Subject::account_in(&seen.subject, namespace).is_some());
                assert!(seen.is_named(&record.name) && !seen.is_named("aks-identity-binding"));
                assert!(snapshot.records().any(|(_, on_record)| on_record == record));
            }
            Action::Annotate { .. } | Action::WriteSecret { .. } => {
                assert!(snapshot.is_granted(), "{}", step.action);
            }
            _ => {}
        }
    }
}

/// A status that the API server refuses is never told at all. What it holds already, it takes; and it holds no object
/// whose spec it refuses.
fn is_taken(object: &AirflowWorkloadIdentity, status: &AirflowWorkloadIdentityStatus) {
    let spec = &schema::OBJECT["properties"]["spec"];
    if schema::refused(spec, &json!(object.spec), "spec").is_some() {
        return;
    }
    let schema = &schema::OBJECT["properties"]["status"];
    let refused =
        |status: &AirflowWorkloadIdentityStatus| schema::refused(schema, &json!(status), "status");
    if object.status.as_ref().and_then(refused).is_some() {
        return;
    }
    let refusal = refused(status);
    assert!(
        refusal.is_none(),
        "{} of {}",
        refusal.unwrap(),
        object.name_any()
    );
}
