//! Answers of Microsoft Graph, to each call that the operator makes.

use airflow_workload_identity::model::IdentityId;
use uuid::Uuid;

use crate::{
    answers::{Script, client, holds, is_whole, run},
    arm::wanted,
};

const ORIGIN: &str = "https://graph.microsoft.com";

/// As with Resource Manager; and only our own description marks a credential as ours.
pub fn check(input: &[u8]) {
    let script = Script::read(input);
    let call = script.call.clone();
    let server = script.server();
    let client = client(server.clone());
    let id = IdentityId::Application(Uuid::from_u128(10));
    match call.as_str() {
        "list" => {
            let listed = holds(&server, ORIGIN, run(client.credentials(&id)));
            if let Some(all) = listed {
                is_whole(&server, &all);
                assert!(all.iter().all(|one| one.is_marked.is_some()));
            }
        }
        "put" => {
            let (name, properties) = wanted();
            let put = run(client.put_credential(&id, &name, &properties));
            if let Some(written) = holds(&server, ORIGIN, put) {
                // An update is answered without a body, so nothing is taken from it.
                assert!(written.trusts(&properties.issuer, &properties.subject));
                assert_eq!(
                    (written.name, written.is_marked),
                    (name.to_string(), Some(true))
                );
            }
        }
        "delete" => {
            holds(
                &server,
                ORIGIN,
                run(client.delete_credential(&id, "awi-airflow-worker")),
            );
        }
        _ => {
            let read = holds(&server, ORIGIN, run(client.identity(&id)));
            assert!(read.is_none_or(|application| application.tenant_id.is_none()));
        }
    }
    if call != "list" {
        assert_eq!(server.asked().len(), 1);
    }
}
