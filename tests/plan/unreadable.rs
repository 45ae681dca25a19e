//! An object that cannot be read says which of its fields it is.

use airflow_workload_identity::{api::AirflowWorkloadIdentity, observe::Guarded};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::given::id;

fn read(spec: &Value) -> Guarded<AirflowWorkloadIdentity> {
    let object = json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1",
        "kind": "AirflowWorkloadIdentity",
        "metadata": { "name": "prod", "namespace": "airflow" },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn the_reason_begins_with_the_field() {
    let identity = json!({ "managedIdentity": { "resourceId": id("airflow").to_string() } });
    let table = [
        (
            json!({ "identity": identity, "airflow": { "components": ["worker", "unheard-of"] } }),
            "spec.airflow.components[1]: unknown variant `unheard-of`",
        ),
        (
            json!({ "identity": { "managedIdentity": {} } }),
            "spec.identity.managedIdentity: missing field `resourceId`",
        ),
        (
            json!({ "identity": identity, "suspend": "no" }),
            "spec.suspend: invalid type: string",
        ),
        (
            json!({ "identity": identity, "connections": [{ "id": "a", "blob": {} }] }),
            "spec.connections[0]: no variant",
        ),
        (json!({}), "spec: missing field `identity`"),
    ];
    for (spec, expected) in table {
        let guarded = read(&spec);
        assert_eq!(guarded.name_any(), "prod");
        let invalid = guarded.0.unwrap_err();
        assert!(invalid.error.starts_with(expected), "{}", invalid.error);
    }
    assert!(read(&json!({ "identity": identity })).0.is_ok());
}
