//! Entra applications: off unless asked for, and then by the same rules.

use std::collections::BTreeMap;

use airflow_workload_identity::azure::ARRIVES;
use lab::{Azure, Lab, Operator, OperatorOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, all, own, run};

/// An operator that was started for applications.
async fn lab() -> (Lab, Operator) {
    let args = ["--entra-applications"].map(str::to_owned);
    own(OperatorOptions {
        resync: "2s".into(),
        extra_args: args.into(),
        ..OperatorOptions::default()
    })
    .await
}

/// A new application: its client ID.
async fn application(azure: &Azure<'_>) -> String {
    let body = json!({ "displayName": "airflow" });
    let made = azure.graph(Method::POST, "applications", Some(&body)).await;
    made.unwrap()["appId"].as_str().unwrap().to_owned()
}

fn path(app: &str, name: Option<&str>) -> String {
    let name = name
        .map(|name| format!("(name='{name}')"))
        .unwrap_or_default();
    format!("applications(appId='{app}')/federatedIdentityCredentials{name}")
}

/// Subject and description of the application's credentials, by name.
async fn credentials(world: &World<'_>, app: &str) -> BTreeMap<String, (String, Value)> {
    let azure = world.azure().await;
    let list = azure.graph(Method::GET, &path(app, None), None).await;
    let list = list.unwrap()["value"].as_array().unwrap().clone();
    list.into_iter()
        .map(|one| {
            let text = |field: &str| one[field].as_str().unwrap().to_owned();
            (text("name"), (text("subject"), one["description"].clone()))
        })
        .collect()
}

fn spec(world: &World<'_>, app: &str) -> Value {
    json!({ "identity": {
        "managedIdentity": null,
        "application": { "appId": app },
        "tenantId": world.tenant_id,
    }})
}

#[test]
fn an_application_is_left_alone_by_an_operator_that_was_not_started_for_them() {
    run(async {
        let world = World::bare("applications-off").await;
        let app = application(&world.azure().await).await;
        world
            .grant(json!({ "identities": [{ "appId": app }] }))
            .await;
        world.release(&["worker"]).await;
        world.prod(spec(&world, &app)).await;
        let message = world
            .until("prod", "IdentityResolved", "False", "ApplicationsOff")
            .await;
        assert!(message.contains("--entra-applications"), "{message}");
        assert!(credentials(&world, &app).await.is_empty());
        world.delete("prod").await;
        world.until_gone("prod").await;
    });
}

#[test]
fn airflow_signs_in_as_an_application_and_what_others_wrote_stays() {
    run(async {
        let (lab, operator) = lab().await;
        let mut world = World::of(&lab, &operator, "application").await;
        let azure = lab.azure().await.unwrap();
        let app = application(&azure).await;
        let foreign = json!({ "name": "github", "issuer": "https://token.actions.example/", "subject": "repo:x", "audiences": ["api://AzureADTokenExchange"] });
        azure
            .graph(Method::POST, &path(&app, None), Some(&foreign))
            .await
            .unwrap();
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.prod(spec(&world, &app)).await;

        // Deny by default; nobody learns whether there is such an application.
        let message = world.until("prod", "Granted", "False", "NotGranted").await;
        assert!(message.contains(&format!("appId: {app}")), "{message}");
        let asked = lab.emulator().requests(0).await.unwrap();
        let by_operator = |client: &str| client.contains("airflow-wi-operator");
        assert!(
            !asked
                .iter()
                .any(|r| by_operator(&r.client) && r.path.contains(&app))
        );

        world
            .grant(json!({ "identities": [{ "appId": app }] }))
            .await;
        world.until("prod", "Ready", "True", "Done").await;
        world.client_id.clone_from(&app);
        for account in all(&["scheduler", "triggerer", "worker"]) {
            assert_eq!(world.client_id_of(&account).await.as_ref(), Some(&app));
            world.exchange(&account).await.unwrap();
            let ours = &credentials(&world, &app).await[&world.credential_name(&account)];
            assert_eq!(ours.1, "Managed by airflow-workload-identity");
        }

        // A changed subject is put back; a changed description is a goodbye.
        let worker = world.credential_name("airflow-worker");
        let scheduler = world.credential_name("airflow-scheduler");
        let change = async |name: &str, body: Value| {
            let path = path(&app, Some(name));
            azure
                .graph(Method::PATCH, &path, Some(&body))
                .await
                .unwrap();
        };
        change(
            &worker,
            json!({ "subject": "system:serviceaccount:application:other" }),
        )
        .await;
        let subject = "system:serviceaccount:application:airflow-worker";
        world
            .becomes(subject.to_owned(), async || {
                credentials(&world, &app).await[&worker].0.clone()
            })
            .await;
        change(&scheduler, json!({ "description": "Terraform" })).await;
        let changed = lab.emulator().requests(0).await.unwrap().len();
        world
            .eventually("the operator looked again", async || {
                let asked = lab.emulator().requests(0).await.unwrap();
                let lists = asked[changed..].iter().filter(|r| by_operator(&r.client));
                (lists.count() >= 2).then_some(())
            })
            .await;

        // Whatever an operator before this one sent would have arrived.
        tokio::time::sleep(ARRIVES).await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        let left: Vec<String> = credentials(&world, &app).await.into_keys().collect();
        assert_eq!(left, [scheduler, "github".to_owned()]);
        assert!(world.annotations().await.is_empty());
    });
}

#[test]
fn a_replica_of_graphs_that_lags_behind_hides_nothing_from_us() {
    run(async {
        let (lab, operator) = lab().await;
        let world = World::of(&lab, &operator, "lagging").await;
        let app = application(&world.azure().await).await;
        world
            .grant(json!({ "identities": [{ "appId": app }] }))
            .await;
        world.release(&["worker"]).await;
        world.ready(spec(&world, &app)).await;
        let unknown = json!({ "operation": "applicationCredential.delete", "times": 1, "status": 404, "code": "Request_ResourceNotFound", "message": "Resource does not exist", "action": "respond" });
        lab.emulator().fault(&unknown).await.unwrap();
        lab.kubectl(&["delete", "aig", "lagging"]).await.unwrap();
        world
            .becomes(0, async || credentials(&world, &app).await.len())
            .await;
        world
            .becomes(0, async || world.records("prod").await.len())
            .await;
    });
}

#[test]
fn airflow_moves_from_a_managed_identity_to_an_application_and_loses_nothing_between() {
    run(async {
        let (lab, operator) = lab().await;
        let world = World::of(&lab, &operator, "to-application").await;
        let app = application(&world.azure().await).await;
        let both = json!({ "identities": [{ "resourceId": world.identity }, { "appId": app }] });
        world.grant(both).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        assert_eq!(world.federated().await, all(&["worker"]));

        world.ready(spec(&world, &app)).await;
        assert_eq!(
            world.client_id_of("airflow-worker").await,
            Some(app.clone())
        );
        assert_eq!(credentials(&world, &app).await.len(), 1);
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;

        // An application that is gone has taken its credentials with it.
        let gone = format!("applications(appId='{app}')");
        let azure = world.azure().await;
        azure.graph(Method::DELETE, &gone, None).await.unwrap();
        let message = world
            .until("prod", "Ready", "False", "IdentityNotFound")
            .await;
        assert!(message.contains("appId"), "{message}");
        world.delete("prod").await;
        world.until_gone("prod").await;
    });
}
