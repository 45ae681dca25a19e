//! Every common install: its manifests give the expected accounts and nothing else. The files in
//! `installs/` carry the names and labels that the distributions' own charts render.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{World, run};

const ALL: [&str; 6] = [
    "api-server",
    "dag-processor",
    "scheduler",
    "triggerer",
    "webserver",
    "worker",
];
const AIRFLOW_3: [&str; 5] = [
    "api-server",
    "dag-processor",
    "scheduler",
    "triggerer",
    "worker",
];

type Accounts = BTreeMap<String, Vec<String>>;

/// One account per component, named `<base>-<component>`.
fn each(base: &str, components: &[&str]) -> Accounts {
    components
        .iter()
        .map(|component| (format!("{base}-{component}"), vec![(*component).to_owned()]))
        .collect()
}

fn accounts<const N: usize>(accounts: [(&str, &[&str]); N]) -> Accounts {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    accounts
        .into_iter()
        .map(|(name, components)| (name.to_owned(), owned(components)))
        .collect()
}

fn with<const N: usize>(mut base: Accounts, more: [(&str, &[&str]); N]) -> Accounts {
    base.extend(accounts(more));
    base
}

async fn installed(file: &str) -> World<'static> {
    installed_in(&format!("install-{file}"), file).await
}

async fn installed_in(namespace: &str, file: &str) -> World<'static> {
    let world = World::bare(namespace).await;
    let path = lab::repository().join(format!("tests/cluster/installs/{file}.yaml"));
    let apply = format!("apply -f {}", path.display());
    world.kubectl(&apply).await.unwrap();
    world.grant(json!({})).await;
    world.heard().await;
    world
}

/// What the status says of accounts and components.
async fn found(world: &World<'_>) -> Accounts {
    let object = world.get("prod").await.unwrap();
    let found = object.status.into_iter().flat_map(|s| s.service_accounts);
    let found = found.map(|account| {
        let components = account.components.iter().map(|c| c.as_str().to_owned());
        (account.name, components.collect())
    });
    found.collect()
}

/// Waits until the status says this of accounts and components: the operator may hear of an object before it hears of
/// the ConfigMap with the executor's pod template.
async fn until_found(world: &World<'_>, expected: &Accounts) {
    world
        .becomes(expected.clone(), async || found(world).await)
        .await;
}

/// The object `prod` with this `spec.airflow` and all components.
async fn asked(world: &World<'_>, airflow: Value) {
    let mut object = world.object("prod", json!({}));
    object["spec"]["airflow"] = airflow;
    object["spec"]["airflow"]["components"] = json!(ALL);
    world.apply(&object).await.unwrap();
}

#[test]
fn each_install_gives_its_accounts_and_no_other_is_touched() {
    let helm = |release: &str| json!({ "helmRelease": release });
    let stackable = || json!({ "stackableCluster": "prod" });
    let own = || {
        accounts([
            ("af-api", &["api-server"]),
            ("af-dags", &["dag-processor"]),
            ("af-tasks", &["scheduler"]),
            ("af-tasks-async", &["triggerer"]),
            ("af-jobs", &["worker"]),
        ])
    };
    let four = ["api-server", "dag-processor", "scheduler", "triggerer"];
    let airflow_2 = [
        "dag-processor",
        "scheduler",
        "triggerer",
        "webserver",
        "worker",
    ];
    #[rustfmt::skip]
    let table = [
        ("official-celery", helm("airflow"), each("airflow", &AIRFLOW_3)),
        ("official-airflow2", helm("prod"), each("prod-airflow", &airflow_2)),
        ("official-name-override", helm("prod"), each("prod-flow", &AIRFLOW_3)),
        ("official-fullname-override", helm("prod"), each("flow", &AIRFLOW_3)),
        ("official-own-accounts", helm("prod"), own()),
        ("official-foreign-accounts", helm("prod"), own()),
        ("official-kubernetes", helm("prod"), each("prod-airflow", &AIRFLOW_3)),
        ("official-celery-kubernetes", helm("prod"), with(each("prod-airflow", &AIRFLOW_3), [("prod-airflow-worker-kubernetes", &["worker"])])),
        ("official-worker-sets", helm("prod"), with(each("prod-airflow", &AIRFLOW_3), [("prod-airflow-worker-heavy", &["worker"]), ("af-gpu", &["worker"])])),
        ("official-local", helm("prod"), each("prod-airflow", &four)),
        ("astronomer-celery", helm("prod"), each("prod-airflow", &AIRFLOW_3)),
        ("astronomer-kubernetes", helm("prod"), each("prod-airflow", &["scheduler", "triggerer", "webserver", "worker"])),
        ("community-celery", helm("prod"), accounts([("prod", &["scheduler", "triggerer", "webserver", "worker"])])),
        ("community-own-account", helm("prod"), accounts([("af", &["scheduler", "triggerer", "webserver", "worker"])])),
        ("community-kubernetes", helm("prod"), accounts([("prod", &["scheduler", "triggerer", "webserver", "worker"])])),
        ("bitnami-celery", helm("prod"), accounts([("prod-airflow", &ALL)])),
        ("bitnami-kubernetes", helm("prod"), accounts([("prod-airflow", &ALL)])),
        ("bitnami-name-override", helm("prod"), accounts([("af", &ALL)])),
        ("stackable-celery", stackable(), accounts([("prod-serviceaccount", &ALL)])),
        ("stackable-kubernetes", stackable(), accounts([("prod-serviceaccount", &["api-server", "scheduler", "webserver", "worker"])])),
    ];
    run(async {
        let mut tests = Vec::new();
        for (file, airflow, expected) in table {
            tests.push(async move {
                let world = installed(file).await;
                asked(&world, airflow.clone()).await;
                until_found(&world, &expected).await;
                world.until("prod", "Ready", "True", "Done").await;
                let touched: Vec<String> = world.annotations().await.into_keys().collect();
                let names: Vec<String> = expected.keys().cloned().collect();
                assert_eq!(touched, names, "{file}");
                assert_eq!(world.federated().await, names, "{file}");

                // Left open, it is recognised.
                asked(&world, json!({})).await;
                world.until("prod", "Ready", "True", "Done").await;
                let status = world.get("prod").await.unwrap().status.unwrap();
                let mut recognised = serde_json::to_value(status.airflow).unwrap();
                recognised
                    .as_object_mut()
                    .unwrap()
                    .retain(|_, value| !value.is_null());
                assert_eq!(recognised, airflow, "{file}");
                assert_eq!(found(&world).await, expected, "{file}");
            });
        }
        futures::future::join_all(tests).await;
    });
}

#[test]
fn the_account_default_is_taken_only_when_it_is_named_and_then_with_a_warning() {
    run(async {
        let world = installed("official-default-account").await;
        asked(&world, json!({ "helmRelease": "prod" })).await;
        let message = world
            .until("prod", "Ready", "False", "NoServiceAccounts")
            .await;
        assert!(message.contains("serviceAccount.create"), "{message}");
        assert!(world.annotations().await.is_empty());

        asked(
            &world,
            json!({ "helmRelease": "prod", "serviceAccounts": ["default"] }),
        )
        .await;
        until_found(&world, &accounts([("default", &AIRFLOW_3)])).await;
        world.until("prod", "Ready", "True", "Done").await;
        let message = world
            .until("prod", "ServiceAccountsAnnotated", "True", "Done")
            .await;
        assert!(message.contains("every pod of the namespace"), "{message}");
    });
}

#[test]
fn of_two_airflows_one_has_to_be_named_unless_one_was_there_first() {
    run(async {
        let world = World::bare("install-two").await;
        world.grant(json!({})).await;
        asked(&world, json!({})).await;
        let message = world
            .until("prod", "Ready", "False", "AirflowNotFound")
            .await;
        assert!(message.contains("workloadSelector"), "{message}");

        world.release(&["scheduler"]).await;
        world.until("prod", "Ready", "True", "Done").await;
        let second = lab::repository().join("tests/cluster/installs/bitnami-celery.yaml");
        let apply = format!("apply -f {}", second.display());
        world.kubectl(&apply).await.unwrap();
        world.heard().await;

        let mut late = world.object("late", json!({}));
        late["spec"]["airflow"] = json!({});
        world.apply(&late).await.unwrap();
        let message = world
            .until("late", "Ready", "False", "AirflowAmbiguous")
            .await;
        for line in ["{ helmRelease: airflow }", "{ helmRelease: prod }"] {
            assert!(message.contains(line), "{message}");
        }
        let first = each("airflow", &["scheduler"]);
        assert_eq!(found(&world).await, first);
    });
}

#[test]
fn unusual_installs_are_found_by_labels_and_other_accounts_by_name_or_selector() {
    run(async {
        let world = World::bare("install-free").await;
        world.grant(json!({})).await;
        let labels = json!({ "app": "flow" });
        world.account("flow-runner", &labels).await;
        world
            .account("etl-a", &json!({ "airflow-pods": "yes" }))
            .await;
        world.account("someone", &json!({})).await;
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "flow", "namespace": "install-free", "labels": labels },
            "spec": { "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "serviceAccountName": "flow-runner", "containers": [{ "name": "a", "image": "a" }] },
            }},
        });
        world.apply(&deployment).await.unwrap();
        asked(
            &world,
            json!({
                "workloadSelector": { "matchLabels": { "app": "flow" } },
                "serviceAccountSelector": { "matchLabels": { "airflow-pods": "yes" } },
            }),
        )
        .await;
        until_found(&world, &accounts([("etl-a", &[]), ("flow-runner", &[])])).await;
        world.until("prod", "Ready", "True", "Done").await;

        // One that comes later is found, too.
        world
            .account("etl-b", &json!({ "airflow-pods": "yes" }))
            .await;
        world
            .eventually("etl-b is annotated", async || {
                let annotations = world.annotations().await;
                annotations.get("etl-b")?[1].clone().map(drop)
            })
            .await;
        assert!(!world.annotations().await.contains_key("someone"));
    });
}

#[test]
fn an_account_that_cannot_be_is_passed_over() {
    run(async {
        let world = World::new("impossible").await;
        world.ready(json!({})).await;
        let expected = each("airflow", &["scheduler", "triggerer", "worker"]);
        let long = format!("spec: {{ serviceAccountName: {} }}", "a".repeat(300));
        for spec in [
            "spec: { serviceAccountName: 'system:serviceaccount:kube-system:x' }",
            "spec: { serviceAccountName: 'No_Name!/../x' }",
            &long,
        ] {
            let labels = "labels: { tier: airflow, release: airflow, component: worker }";
            let config = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "airflow-config", "namespace": "impossible",
                    "labels": { "tier": "airflow", "release": "airflow", "component": "config" } },
                "data": { "pod_template_file.yaml": format!("metadata: {{ {labels} }}\n{spec}\n") },
            });
            world.apply(&config).await.unwrap();
            // An account that the template names as it should tells that the change was seen.
            world.account("seen", &json!({})).await;
            let good = format!("metadata: {{ {labels} }}\nspec: {{ serviceAccountName: seen }}\n");
            let mut named = config.clone();
            named["metadata"]["name"] = json!("another-config");
            named["data"]["pod_template_file.yaml"] = json!(good);
            world.apply(&named).await.unwrap();
            let with_seen = with(expected.clone(), [("seen", &["worker"])]);
            until_found(&world, &with_seen).await;
            world
                .kubectl("delete configmap another-config")
                .await
                .unwrap();
            until_found(&world, &expected).await;
        }
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn what_was_recognised_once_is_not_exchanged_for_a_neighbour() {
    run(async {
        let world = World::bare("settled").await;
        world.grant(json!({})).await;
        world.release(&["scheduler"]).await;
        asked(&world, json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        let neighbour = lab::repository().join("tests/cluster/installs/community-celery.yaml");
        let apply = format!("apply -f {}", neighbour.display());
        world.kubectl(&apply).await.unwrap();

        // As an uninstallation does it; perhaps it comes back.
        world
            .kubectl("delete deployment,serviceaccount -l release=airflow")
            .await
            .unwrap();
        let there_is = "There is:\nspec: { airflow: { helmRelease: prod } }";
        let message = world
            .until_told("prod", "Ready", "False", "NoServiceAccounts", there_is)
            .await;
        assert!(message.contains("helmRelease: airflow"), "{message}");
        world
            .becomes(Vec::new(), async || world.federated().await)
            .await;
        world.release(&["scheduler"]).await;
        world.until("prod", "Ready", "True", "Done").await;
        until_found(&world, &each("airflow", &["scheduler"])).await;
        let touched: Vec<String> = world.annotations().await.into_keys().collect();
        assert_eq!(touched, ["airflow-scheduler"]);
    });
}

#[test]
fn a_pod_template_that_breaks_takes_nothing_from_the_workers() {
    run(async {
        let world = installed_in("broken-template", "official-kubernetes").await;
        // The account is not the chart's: only the template tells of it.
        world
            .kubectl("label serviceaccount prod-airflow-worker tier- component- release-")
            .await
            .unwrap();
        asked(&world, json!({})).await;
        let expected = each("prod-airflow", &AIRFLOW_3);
        until_found(&world, &expected).await;
        world.until("prod", "Ready", "True", "Done").await;
        world
            .kubectl(r#"patch configmap prod-config --type=merge -p {"data":{"pod_template_file.yaml":"metadata:["}}"#)
            .await
            .unwrap();
        let unreadable = "ConfigMap prod-config cannot be read";
        world
            .until_told(
                "prod",
                "ServiceAccountsAnnotated",
                "True",
                "Done",
                unreadable,
            )
            .await;
        assert_eq!(found(&world).await, expected);
        assert_eq!(world.federated().await.len(), expected.len());
    });
}

#[test]
fn other_charts_with_airflow_in_their_names_are_not_airflow() {
    run(async {
        let world = World::bare("exporter").await;
        world.grant(json!({})).await;
        let labels = json!({ "helm.sh/chart": "airflow-exporter-1.0.0", "app.kubernetes.io/instance": "prod" });
        world.account("exporter", &labels).await;
        asked(&world, json!({})).await;
        world
            .until("prod", "Ready", "False", "AirflowNotFound")
            .await;
        // An Airflow that comes later tells that the account was seen.
        world.release(&["scheduler"]).await;
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(found(&world).await, each("airflow", &["scheduler"]));
    });
}
