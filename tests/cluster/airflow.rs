//! Real Airflow reads the Secret that the operator wrote.

use std::process::Command;

use serde_json::{Value, json};

use crate::world::{World, run};

#[test]
fn airflow_finds_the_connection_in_its_environment() {
    run(async {
        let world = World::new("airflow-reads").await;
        let subscription = "33333333-3333-3333-3333-333333333333";
        world.ready(json!({ "connections": [
            { "id": "azure_default", "azure": {} },
            { "id": "Billing", "azure": { "subscriptionId": subscription, "useAzureIdentityObject": true } },
        ]})).await;
        let secret = world.secret("prod-airflow-connections").await.unwrap();
        let environment = secret
            .data
            .unwrap()
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8(value.0).unwrap()));

        let python = lab::python("airflow", "tests/airflow/requirements.txt").unwrap();
        let home = world.lab.scratch().join("airflow-home");
        let output = Command::new(python)
            .arg(lab::repository().join("tests/airflow/read_connections.py"))
            .args(["azure_default", "Billing"])
            .env("AIRFLOW_HOME", home)
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .envs(environment)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let read: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));

        let ids = json!({ "managed_identity_client_id": world.client_id, "workload_identity_tenant_id": world.tenant_id });
        assert_eq!(
            read["azure_default"],
            json!({ "conn_type": "azure", "extra": ids, "credential": "AzureIdentityCredentialAdapter" })
        );
        let mut extra = ids;
        extra["subscriptionId"] = json!(subscription);
        extra["use_azure_identity_object"] = json!(true);
        assert_eq!(
            read["Billing"],
            json!({ "conn_type": "azure", "extra": extra, "credential": "DefaultAzureCredential" })
        );
    });
}
