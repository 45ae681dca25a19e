//! Answers of Azure Resource Manager, to each call that the operator makes.

use airflow_workload_identity::{
    azure::CredentialProperties,
    model::{CredentialName, IdentityId, ResourceId},
};

use crate::answers::{Script, client, holds, is_whole, run};

const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";
const ORIGIN: &str = "https://management.azure.com";

/// No answer makes the client panic, ask for ever, or send its token elsewhere; and each error is
/// of a kind that fits its status.
pub fn check(input: &[u8]) {
    let script = Script::read(input);
    let call = script.call.clone();
    let server = script.server();
    let client = client(server.clone());
    let resource: ResourceId = ID.parse().unwrap();
    let id = IdentityId::from(resource.clone());
    match call.as_str() {
        "list" => {
            let listed = holds(&server, ORIGIN, run(client.credentials(&id)));
            if let Some(all) = listed {
                is_whole(&server, &all);
            }
        }
        "put" => {
            let (name, properties) = wanted();
            let put = run(client.put_credential(&id, &name, &properties));
            holds(&server, ORIGIN, put);
        }
        "delete" => {
            holds(
                &server,
                ORIGIN,
                run(client.delete_credential(&id, "awi-airflow-worker")),
            );
        }
        "permissions" => {
            holds(&server, ORIGIN, run(client.may_write(&resource)));
        }
        _ => {
            let read = holds(&server, ORIGIN, run(client.identity(&id)));
            // Resource Manager tells the tenant, and nothing else passes for it.
            assert!(read.is_none_or(|identity| identity.tenant_id.is_some()));
        }
    }
    if call != "list" && call != "permissions" {
        assert_eq!(server.asked().len(), 1);
    }
}

/// A credential to write.
pub(crate) fn wanted() -> (CredentialName, CredentialProperties) {
    let properties = CredentialProperties {
        issuer: "https://oidc.example/".into(),
        subject: "system:serviceaccount:airflow:worker".into(),
        audiences: vec!["api://AzureADTokenExchange".into()],
    };
    ("awi-airflow-worker".parse().unwrap(), properties)
}
