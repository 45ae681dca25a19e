//! What is somebody else's is left alone and reported, with what to do.

use axum::http::Method;
use lab::{
    Lab, LabOptions,
    proxy::{Fate, Proxy, Seen},
};
use serde_json::json;

use crate::world::{CLIENT_ID, World, all, awi, patient, run};

#[test]
fn a_credential_of_our_name_with_a_foreign_subject() {
    run(async {
        let world = World::new("foreign-credential").await;
        let name = world.credential_name("airflow-worker");
        let azure = world.azure().await;
        azure
            .put_credential(
                &world.identity,
                &name,
                world.lab.issuer(),
                "system:serviceaccount:other:x",
            )
            .await
            .unwrap();
        let before = world.credentials_of(&world.identity).await[&name].clone();

        world.prod(json!({})).await;
        let message = world
            .until("prod", "CredentialsFederated", "False", "Conflict")
            .await;
        for words in [
            &name,
            "system:serviceaccount:other:x",
            "spec.federation.credentialName",
            "az identity federated-credential delete",
        ] {
            assert!(message.contains(words), "{message}");
        }
        world
            .becomes(all(&["scheduler", "triggerer"]), async || {
                world.federated().await
            })
            .await;
        assert_eq!(world.client_id_of("airflow-worker").await, None);

        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.credentials_of(&world.identity).await[&name], before);
    });
}

#[test]
fn a_role_that_somebody_makes_while_azure_is_slow() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let proxy = Proxy::start(&lab).unwrap();
        let put = |seen: &Seen| {
            seen.method == Method::PUT && seen.path.contains("/federatedIdentityCredentials/")
        };
        proxy.rule(move |seen| if put(seen) { Fate::Hold } else { Fate::Pass });
        let options = patient().through(&proxy);
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "late-role").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world
            .prod(json!({ "connectionSecret": { "format": "SecretsBackend", "readerRole": true } }))
            .await;
        proxy.held(put).await;
        let name = "prod-airflow-connections-reader";
        world
            .kubectl(&format!("create role {name} --verb=get --resource=pods"))
            .await
            .unwrap();
        let role = async || world.kubectl(&format!("get role {name} -o json")).await;
        let before = role().await.unwrap();

        proxy.rule(|_| Fate::Pass);
        world
            .until("prod", "ConnectionsWritten", "False", "Conflict")
            .await;
        assert_eq!(role().await.unwrap(), before);
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(role().await.unwrap(), before);
    });
}

#[test]
fn an_annotation_of_another_manager() {
    run(async {
        let world = World::new("foreign-annotation").await;
        world
            .kubectl(&format!(
                "annotate serviceaccount airflow-worker {CLIENT_ID}=theirs"
            ))
            .await
            .unwrap();
        world.prod(json!({})).await;
        let message = world
            .until("prod", "ServiceAccountsAnnotated", "False", "Conflict")
            .await;
        for words in [
            "airflow-worker",
            "theirs",
            "kubectl-annotate",
            "kubectl annotate serviceaccount airflow-worker -n foreign-annotation",
        ] {
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(
            world.client_id_of("airflow-worker").await.as_deref(),
            Some("theirs")
        );
        world
            .becomes(Some(world.client_id.clone()), async || {
                world.client_id_of("airflow-scheduler").await
            })
            .await;

        // As the message says.
        world
            .kubectl(&format!(
                "annotate serviceaccount airflow-worker {CLIENT_ID}-"
            ))
            .await
            .unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_secret_that_someone_else_made() {
    run(async {
        let world = World::new("foreign-secret").await;
        let name = "prod-airflow-connections";
        world
            .kubectl(&format!(
                "create secret generic {name} --from-literal=mine=x"
            ))
            .await
            .unwrap();
        world.prod(json!({})).await;
        let message = world
            .until("prod", "ConnectionsWritten", "False", "Conflict")
            .await;
        assert!(
            message.contains(name) && message.contains("spec.connectionSecret.name"),
            "{message}"
        );
        world.delete("prod").await;
        world.until_gone("prod").await;
        let keys: Vec<_> = world.connections(name).await.unwrap().into_keys().collect();
        assert_eq!(keys, ["mine"]);
    });
}

#[test]
fn a_credential_that_someone_else_wrote_for_the_account_is_used_as_it_is() {
    run(async {
        let world = World::new("shared-credential").await;
        let subject = format!("system:serviceaccount:{}:airflow-worker", world.ns);
        world
            .azure()
            .await
            .put_credential(&world.identity, "terraform", world.lab.issuer(), &subject)
            .await
            .unwrap();
        world.ready(json!({})).await;
        assert_eq!(world.federated().await.len(), 3);
        world.delete("prod").await;
        world.until_gone("prod").await;
        let names: Vec<_> = world
            .credentials_of(&world.identity)
            .await
            .into_keys()
            .collect();
        assert_eq!(names, ["terraform"]);
    });
}

#[test]
fn two_objects_share_an_identity_and_what_both_need_outlives_either() {
    run(async {
        let world = World::new("two-objects").await;
        world.ready(json!({})).await;
        world
            .apply(&world.object("second", json!({ "airflow": { "components": ["worker"] } })))
            .await
            .unwrap();
        world.until("second", "Ready", "True", "Done").await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.federated().await, all(&["worker"]));
        assert_eq!(
            world.client_id_of("airflow-worker").await.as_ref(),
            Some(&world.client_id)
        );
        assert_eq!(world.client_id_of("airflow-scheduler").await, None);
        world.delete("second").await;
        world.until_gone("second").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
    });
}

#[test]
fn what_an_object_goes_by_until_it_has_moved_outlives_another_that_goes() {
    run(async {
        let world = World::new("moving").await;
        world.ready(json!({})).await;
        let worker = json!({ "airflow": { "components": ["worker"] } });
        world.apply(&world.object("second", worker)).await.unwrap();
        world.until("second", "Ready", "True", "Done").await;

        let [refuses, other] = ["moving-b", "moving-c"].map(crate::world::resource_id);
        let azure = world.azure().await;
        for identity in [&refuses, &other] {
            azure.put_identity(identity).await.unwrap();
        }
        let fault = json!({
            "operation": "credential.put", "pathContains": refuses, "status": 403, "code": "AuthorizationFailed",
            "message": "no", "action": "respond",
        });
        world.lab.emulator().fault(&fault).await.unwrap();
        world.grant(json!({ "identities": [{ "resourceId": world.identity }, { "resourceId": refuses }, { "resourceId": other }] })).await;
        let move_to = async |identity: &str| {
            let spec = json!({ "identity": { "managedIdentity": { "resourceId": identity } }, "airflow": { "components": ["worker"] } });
            world.apply(&world.object("second", spec)).await.unwrap();
        };
        move_to(&refuses).await;
        world
            .until("second", "CredentialsFederated", "False", "AzureForbidden")
            .await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.federated().await, all(&["worker"]));

        move_to(&other).await;
        world.until("second", "Ready", "True", "Done").await;
        assert_eq!(world.federated().await, Vec::<String>::new());
    });
}

#[test]
fn two_identities_cannot_share_an_account() {
    run(async {
        let world = World::new("two-identities").await;
        world.ready(json!({})).await;
        let other = crate::world::resource_id("two-identities-b");
        world.azure().await.put_identity(&other).await.unwrap();
        world.grant(json!({ "identities": [{ "resourceId": world.identity }, { "resourceId": other }] })).await;
        let second = world.object("second", json!({ "identity": { "managedIdentity": { "resourceId": other } }, "airflow": { "components": ["worker"] } }));
        world.apply(&second).await.unwrap();
        let message = world
            .until("second", "ServiceAccountsAnnotated", "False", "Conflict")
            .await;
        assert!(
            message.contains("AirflowWorkloadIdentity prod"),
            "{message}"
        );
        world.delete("prod").await;
        world.until("second", "Ready", "True", "Done").await;
    });
}

#[test]
fn an_identity_with_twenty_credentials_has_no_room() {
    run(async {
        let world = World::new("full").await;
        let azure = world.azure().await;
        for n in 0..18 {
            azure
                .put_credential(
                    &world.identity,
                    &format!("other-{n}"),
                    "https://elsewhere.example",
                    &format!("s{n}"),
                )
                .await
                .unwrap();
        }
        world.prod(json!({})).await;
        let message = world
            .until("prod", "CredentialsFederated", "False", "LimitReached")
            .await;
        assert!(message.contains("of at most 20"), "{message}");
        assert!(
            message.contains("issuer https://elsewhere.example (18)"),
            "{message}"
        );
        world
            .becomes(20, async || {
                world.credentials_of(&world.identity).await.len()
            })
            .await;
        azure
            .delete_credential(&world.identity, "other-0")
            .await
            .unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn what_the_guides_loop_wrote_is_adopted_when_asked_for() {
    run(async {
        let world = World::new("adopted").await;
        let azure = world.azure().await;
        for component in ["scheduler", "triggerer", "worker"] {
            let subject = format!("system:serviceaccount:adopted:airflow-{component}");
            azure
                .put_credential(
                    &world.identity,
                    &format!("airflow-{component}"),
                    world.lab.issuer(),
                    &subject,
                )
                .await
                .unwrap();
        }
        world
            .ready(json!({ "federation": { "existingCredentials": "Adopt" } }))
            .await;
        let names: Vec<String> = world
            .credentials_of(&world.identity)
            .await
            .into_keys()
            .collect();
        assert_eq!(
            names,
            all(&["scheduler", "triggerer", "worker"]),
            "nothing was added"
        );
        assert_eq!(world.records("prod").await.len(), 3);
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert!(world.federated().await.is_empty());
    });
}
