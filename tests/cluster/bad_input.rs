//! Wrong specs and a refusing Azure: a clear condition, and recovery without a restart.

use serde_json::json;

use crate::world::{World, often, own, resource_id, run};

#[test]
fn an_identity_that_does_not_exist() {
    run(async {
        let world = World::new("missing-identity").await;
        let missing = resource_id("created-later");
        world
            .grant(json!({ "identities": [{ "resourceId": missing }] }))
            .await;
        world
            .prod(json!({ "identity": { "managedIdentity": { "resourceId": missing } } }))
            .await;
        let message = world
            .until("prod", "IdentityResolved", "False", "IdentityNotFound")
            .await;
        assert!(
            message.contains("created-later") && message.contains("resourceId"),
            "{message}"
        );
        world.azure().await.put_identity(&missing).await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn a_pinned_client_id_that_is_not_the_identitys() {
    run(async {
        let world = World::new("pinned").await;
        let wrong = "99999999-9999-9999-9999-999999999999";
        world
            .prod(json!({ "identity": { "clientId": wrong } }))
            .await;
        let message = world
            .until("prod", "IdentityResolved", "False", "IdentityMismatch")
            .await;
        assert!(
            message.contains(wrong) && message.contains(&world.client_id),
            "{message}"
        );
        assert_eq!(world.federated().await, Vec::<String>::new());
        world
            .ready(json!({ "identity": { "clientId": world.client_id } }))
            .await;
    });
}

#[test]
fn a_role_that_is_missing() {
    run(async {
        let world = World::new("forbidden").await;
        let fault = json!({
            "operation": "credential.put", "pathContains": world.identity, "status": 403, "code": "AuthorizationFailed",
            "message": "The client does not have authorization to perform action 'write'", "times": 20, "action": "respond",
        });
        world.lab.emulator().fault(&fault).await.unwrap();
        world.prod(json!({})).await;
        let message = world
            .until("prod", "CredentialsFederated", "False", "AzureForbidden")
            .await;
        for words in [
            "AuthorizationFailed",
            "az role assignment create",
            &world.identity,
        ] {
            assert!(message.contains(words), "{message}");
        }
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn an_azure_that_is_busy_slow_and_broken_for_a_while() {
    run(async {
        let world = World::new("faults").await;
        for (status, code, action, retry_after) in [
            (
                409,
                "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
                "respond",
                None,
            ),
            (429, "TooManyRequests", "respond", Some(1)),
            (503, "ServiceUnavailable", "respond", None),
            (200, "", "garbage", None),
            (200, "", "reset", None),
            (200, "", "hang", None),
        ] {
            let mut fault = json!({
                "operation": "credential.put", "pathContains": world.identity, "status": status,
                "code": code, "message": "for a while", "times": 1, "action": action,
            });
            if let Some(seconds) = retry_after {
                fault["retryAfter"] = json!(seconds);
            }
            world.lab.emulator().fault(&fault).await.unwrap();
        }
        world.ready(json!({})).await;
        assert_eq!(world.federated().await.len(), 3);
    });
}

#[test]
fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "unreadable").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        // A component that this operator does not know, stored when the schema was another.
        let crd = "crd/airflowworkloadidentities.airflow-workload-identity.io";
        let items = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/airflow/properties/components/items";
        // With an end to their length, or the rule on them may cost too much.
        let patch = json!([
            { "op": "remove", "path": format!("{items}/enum") },
            { "op": "add", "path": format!("{items}/maxLength"), "value": 20 },
        ]);
        let patch = patch.to_string();
        lab.kubectl(&["patch", crd, "--type=json", "-p", &patch])
            .await
            .unwrap();
        let unreadable = world.object(
            "unreadable",
            json!({ "airflow": { "components": ["unheard-of"] } }),
        );
        world
            .eventually("the loose schema is served", async || {
                world.apply(&unreadable).await.ok()
            })
            .await;

        world.ready(json!({})).await;
        let reasons = async || world.event_reasons("unreadable").await;
        world.becomes(vec!["InvalidSpec".to_owned()], reasons).await;
    });
}

#[test]
fn an_identity_of_another_tenant() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "foreign-tenant").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        let elsewhere = json!({ "operation": "identity.get", "status": 401, "code": "InvalidAuthenticationTokenTenant", "message": "The access token is from the wrong issuer", "action": "respond" });
        lab.emulator().fault(&elsewhere).await.unwrap();
        world.prod(json!({})).await;
        let message = world
            .until("prod", "Ready", "False", "AzureWrongTenant")
            .await;
        assert!(message.contains("another Entra tenant"), "{message}");
    });
}
