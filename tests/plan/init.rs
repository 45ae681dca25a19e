//! From what was made by hand to the object that says the same.

use airflow_workload_identity::{
    cli::{
        init::{Description, Facts, describe, render},
        plan::{Change, ObjectReport, Origin, Verb},
    },
    observe::{Stores, Watched},
    plan::Ids,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, ServiceAccount},
};
use kube::{ResourceExt, core::PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::given::*;

/// The namespace `airflow` with these accounts and Deployments.
fn cluster(accounts: &[Value], deployments: &[Value]) -> Stores {
    let accounts: Vec<PartialObjectMeta<ServiceAccount>> = read(accounts);
    let deployments: Vec<Deployment> = read(deployments);
    let namespaces: Vec<Namespace> = read(&[json!({ "metadata": { "name": "airflow" } })]);
    Stores {
        namespaces: Watched::listed(&namespaces, |namespace| namespace.labels().clone()),
        accounts: Watched::listed(&accounts, |account| account.into()),
        deployments: Watched::listed(&deployments, |deployment| deployment.into()),
        ..nothing_watched()
    }
}

fn read<K: DeserializeOwned>(objects: &[Value]) -> Vec<K> {
    let read = |object: &Value| serde_json::from_value(object.clone()).unwrap();
    objects.iter().map(read).collect()
}

fn account(name: &str, client_id: Option<&str>) -> Value {
    let annotations = client_id.map(|id| json!({ "azure.workload.identity/client-id": id }));
    json!({ "metadata": { "name": name, "namespace": "airflow", "annotations": annotations } })
}

/// What a release runs a component with.
fn deployment(release: &str, component: &str, account: &str) -> Value {
    let labels = json!({ "tier": "airflow", "release": release, "component": component });
    json!({
        "metadata": { "name": format!("{release}-{component}"), "namespace": "airflow", "labels": labels },
        "spec": { "selector": {}, "template": { "spec": { "serviceAccountName": account, "containers": [] } } },
    })
}

/// Release `airflow` with an account of its own for each of these components.
fn release_with(components: &[&str]) -> Stores {
    let names: Vec<String> = components.iter().map(|c| format!("airflow-{c}")).collect();
    let accounts: Vec<Value> = names
        .iter()
        .map(|name| account(name, Some(CLIENT)))
        .collect();
    let deployments: Vec<Value> = components
        .iter()
        .zip(&names)
        .map(|(component, account)| deployment("airflow", component, account))
        .collect();
    cluster(&accounts, &deployments)
}

/// An identity with a credential for each (credential, account).
fn facts(credentials: &[(&str, &str)]) -> Facts {
    Facts {
        namespace: "airflow".into(),
        identity: id("airflow").to_string().parse().unwrap(),
        ids: Ids {
            client: CLIENT.parse().unwrap(),
            tenant: TENANT.parse().unwrap(),
        },
        credentials: credentials
            .iter()
            .map(|(name, account)| credential(name, account))
            .collect(),
        issuer: issuer(),
        audience: AUDIENCE.into(),
    }
}

fn guides() -> Facts {
    facts(&[
        ("airflow-scheduler", "airflow-scheduler"),
        ("airflow-triggerer", "airflow-triggerer"),
        ("airflow-worker", "airflow-worker"),
    ])
}

/// The `spec.airflow` that is found, with its fields that say something.
fn airflow(description: &Description) -> Value {
    let mut airflow = serde_json::to_value(&description.object.spec.airflow).unwrap();
    airflow
        .as_object_mut()
        .unwrap()
        .retain(|_, value| *value != json!([]));
    airflow
}

fn remarks(description: &Description) -> String {
    description.remarks.join("\n")
}

#[test]
fn what_the_guide_makes_is_the_usual_object() {
    let stores = release_with(&["api-server", "scheduler", "triggerer", "worker"]);
    let found = describe(&guides(), &stores, None).unwrap();
    let expected =
        json!({ "helmRelease": "airflow", "components": ["scheduler", "triggerer", "worker"] });
    assert_eq!(airflow(&found), expected);
    assert_eq!(found.object.metadata.name.as_deref(), Some("airflow"));
    assert_eq!(
        found.object.spec.federation.credential_name.as_deref(),
        Some("airflow")
    );
    assert!(!found.is_granted);
    let [remark] = found.remarks.as_slice() else {
        panic!("{:?}", found.remarks)
    };
    assert!(
        remark.contains("airflow-api-server (api-server, although it carries the client ID)"),
        "{remark}"
    );
    assert!(remark.contains("spec.airflow.components"), "{remark}");
}

#[test]
fn it_asks_for_no_account_that_nothing_is_federated_for() {
    let stores = release_with(&["scheduler", "triggerer", "worker"]);
    let worker = facts(&[("airflow-worker", "airflow-worker")]);
    let found = describe(&worker, &stores, Some("prod")).unwrap();
    assert_eq!(
        airflow(&found),
        json!({ "helmRelease": "airflow", "components": ["worker"] })
    );
    assert_eq!(found.object.metadata.name.as_deref(), Some("prod"));

    // Two kinds of workers, of which one has a credential: no component tells them apart.
    let accounts = [account("a", None), account("b", None)];
    let deployments = [deployment("airflow", "worker", "a"), {
        let mut other = deployment("airflow", "worker", "b");
        other["metadata"]["name"] = json!("other");
        other
    }];
    let stores = cluster(&accounts, &deployments);
    let found = describe(&facts(&[("airflow-worker", "a")]), &stores, None).unwrap();
    assert_eq!(airflow(&found)["serviceAccounts"], json!(["a"]));
    assert_eq!(airflow(&found)["helmRelease"], Value::Null);
    assert!(remarks(&found).contains("named one by one"), "{found:?}");
    assert!(
        remarks(&found).contains("left out: b (worker)"),
        "{found:?}"
    );
}

#[test]
fn accounts_of_no_component_are_named() {
    let stores = release_with(&["scheduler", "triggerer", "worker"]);
    let mut world = guides();
    world.credentials.push(credential("etl", "etl"));
    let found = describe(&world, &stores, None).unwrap();
    let expected = json!({
        "helmRelease": "airflow",
        "components": ["scheduler", "triggerer", "worker"],
        "serviceAccounts": ["etl"],
    });
    assert_eq!(airflow(&found), expected);
    assert_eq!(
        found.object.spec.federation.credential_name, None,
        "etl is not <prefix>-etl"
    );

    // Without an Airflow that is recognised, all are.
    let found = describe(&world, &cluster(&[], &[]), None).unwrap();
    let names = json!([
        "airflow-scheduler",
        "airflow-triggerer",
        "airflow-worker",
        "etl"
    ]);
    assert_eq!(airflow(&found)["serviceAccounts"], names);
    assert_eq!(
        found.object.metadata.name.as_deref(),
        Some("airflow"),
        "as the namespace"
    );
}

#[test]
fn of_several_airflows_the_one_with_credentials_is_meant() {
    let accounts = [account("x", None), account("y", None)];
    let deployments = [
        deployment("a", "worker", "x"),
        deployment("b", "worker", "y"),
    ];
    let stores = cluster(&accounts, &deployments);
    let found = describe(&facts(&[("wo-worker", "y")]), &stores, None).unwrap();
    assert_eq!(
        airflow(&found),
        json!({ "helmRelease": "b", "components": ["worker"] })
    );
    assert_eq!(
        found.object.spec.federation.credential_name, None,
        "a prefix has three characters"
    );

    let both = facts(&[("of-x", "x"), ("of-y", "y")]);
    let found = describe(&both, &stores, None).unwrap();
    assert_eq!(airflow(&found)["serviceAccounts"], json!(["x", "y"]));
    assert!(
        remarks(&found).contains("(helmRelease: a; helmRelease: b)"),
        "{found:?}"
    );
}

#[test]
fn one_account_for_all_components_is_the_usual_object_too() {
    let deployments = ["scheduler", "triggerer", "webserver", "worker"]
        .map(|component| deployment("prod", component, "airflow"));
    let stores = cluster(&[account("airflow", None)], &deployments);
    let found = describe(&facts(&[("mine-airflow", "airflow")]), &stores, None).unwrap();
    let expected =
        json!({ "helmRelease": "prod", "components": ["scheduler", "triggerer", "worker"] });
    assert_eq!(airflow(&found), expected);
    assert_eq!(
        found.object.spec.federation.credential_name.as_deref(),
        Some("mine")
    );
}

#[test]
fn what_is_no_use_to_the_accounts_is_left_out_and_told() {
    let mut world = guides();
    world.credentials[0].issuer = "https://oidc.example/cluster".into();
    world.credentials[1].audiences = vec!["api://other".into()];
    let elsewhere = |name: &str| {
        let mut credential = credential(name, "airflow-worker");
        credential.issuer = "https://elsewhere.example".into();
        credential
    };
    world.credentials.extend([
        elsewhere("one"),
        elsewhere("two"),
        credential("odd", "No Account"),
    ]);
    let mut another = credential("of-another-namespace", "x");
    another.subject = "system:serviceaccount:other:x".into();
    world.credentials.push(another);

    let stores = release_with(&["scheduler", "triggerer", "worker"]);
    let found = describe(&world, &stores, None).unwrap();
    assert_eq!(
        airflow(&found),
        json!({ "helmRelease": "airflow", "components": ["worker"] })
    );
    let text = remarks(&found);
    for words in [
        "has issuer https://oidc.example/cluster instead of https://oidc.example/cluster/",
        "has audience [\"api://other\"] instead of api://AzureADTokenExchange",
        "issuer is https://elsewhere.example, and left alone: credential one, two.",
        "which no ServiceAccount can be",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("of-another-namespace"), "{text}");
}

#[test]
fn an_account_that_carries_another_identity_stays_with_it() {
    let mut accounts = vec![account("airflow-worker", Some(TENANT))];
    accounts.push(account("airflow-scheduler", Some(CLIENT)));
    let deployments =
        ["scheduler", "worker"].map(|c| deployment("airflow", c, &format!("airflow-{c}")));
    let stores = cluster(&accounts, &deployments);
    let world = facts(&[
        ("of-worker", "airflow-worker"),
        ("of-scheduler", "airflow-scheduler"),
    ]);
    let found = describe(&world, &stores, None).unwrap();
    assert_eq!(
        airflow(&found),
        json!({ "helmRelease": "airflow", "components": ["scheduler"] })
    );
    let text = remarks(&found);
    assert!(
        text.contains(&format!(
            "airflow-worker has a credential on this identity, but carries client ID {TENANT}"
        )),
        "{text}"
    );
}

#[test]
fn where_there_is_nothing_to_adopt_that_is_said_with_what_there_is() {
    let stores = release_with(&["worker"]);
    let mut world = facts(&[("theirs", "airflow-worker")]);
    world.credentials[0].issuer = "https://elsewhere.example".into();
    let error = describe(&world, &stores, None).unwrap_err().to_string();
    for words in [
        "nothing to adopt",
        "https://oidc.example/cluster/",
        "https://elsewhere.example, and left alone: credential theirs",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

fn change(action: Verb, kind: &'static str, detail: &str) -> Change {
    Change {
        action,
        kind,
        object: String::new(),
        detail: detail.into(),
        after: Vec::new(),
    }
}

fn reported(changes: Vec<Change>) -> ObjectReport {
    ObjectReport {
        namespace: "airflow".into(),
        name: "airflow".into(),
        origin: Origin::New,
        changes,
        problems: Vec::new(),
        notes: Vec::new(),
    }
}

#[test]
fn the_manifest_holds_what_differs_from_the_defaults_and_comments() {
    let stores = release_with(&["scheduler", "triggerer", "worker"]);
    let found = describe(&guides(), &stores, None).unwrap();
    let report = reported(vec![
        change(Verb::Create, "Finalizer", "add finalizer"),
        change(Verb::Adopt, "FederatedCredential", "adopt"),
        change(Verb::Adopt, "ServiceAccount", "adopt"),
    ]);
    let expected = format!(
        "\
# Applying this adopts what is there (federated credentials: 1, annotations of ServiceAccounts: 1), and changes nothing else.
# kubectl awi plan -f <this file> says the same.
---
kind: AzureIdentityGrant
---
# Adopted credentials are deleted with this object, unless it has spec.federation.deletionPolicy: Retain.
# The connections that Airflow has now stay as they are. To have one written: connections: [{{ id: azure_default, azure: {{}} }}]; docs/connections.md has all types.
apiVersion: airflow-workload-identity.io/v1alpha1
kind: AirflowWorkloadIdentity
metadata:
  name: airflow
  namespace: airflow
spec:
  airflow:
    helmRelease: airflow
  connections: []
  federation:
    credentialName: airflow
    existingCredentials: Adopt
  identity:
    managedIdentity:
      resourceId: {}
",
        id("airflow")
    );
    let text = render(&found, Some("kind: AzureIdentityGrant\n"), &report).unwrap();
    assert_eq!(text, expected);
}

#[test]
fn whatever_else_it_would_change_is_a_comment_and_stays_one() {
    let stores = release_with(&["scheduler", "triggerer", "worker"]);
    let mut found = describe(&guides(), &stores, None).unwrap();
    found.remarks.push("a\rkind: Secret\nkind: Secret".into());
    let report = reported(vec![change(
        Verb::Change,
        "ServiceAccount",
        "annotate ServiceAccount x",
    )]);
    let text = render(&found, None, &report).unwrap();
    for line in [
        "#   ~ annotate ServiceAccount x\n",
        "# The identity is granted to these accounts already.\n",
        "# a\n# kind: Secret\n# kind: Secret\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
}
