//! The admission policy: which new pods get the label and the connections, and which are left alone.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use lab::{Lab, LabOptions};
use serde_json::{Value, json};

use crate::world::{World, awi, often, run};

const LABEL: &str = "azure.workload.identity/use";
const POLICY: &str = "deploy/base/pod-policy.yaml";

/// A world whose new pods go through the policy, and whose object is ready.
async fn ready(name: &str, spec: Value) -> World<'static> {
    let world = World::new(name).await;
    world.account("dbt", &json!({})).await;
    world
        .lab
        .apply(&lab::repository().join(POLICY))
        .await
        .unwrap();
    world.ready(spec).await;
    is_at_work(&world).await;
    world
}

/// An API server takes a moment to learn of a new policy.
async fn is_at_work(world: &World<'_>) {
    world
        .eventually("the policy is at work", async || {
            let pod = admitted(world, &pod("airflow-scheduler")).await;
            label(&pod).is_some().then_some(())
        })
        .await;
}

/// A pod of the account with Airflow and something beside it.
fn pod(account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "pod-" },
        "spec": { "serviceAccountName": account, "containers": [
            { "name": "base", "image": "apache/airflow:3.2.2" },
            { "name": "git-sync", "image": "git-sync:4" },
        ]},
    })
}

/// The pod as the API server would create it.
async fn admitted(world: &World<'_>, pod: &Value) -> Pod {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.ns);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&params, &serde_json::from_value(pod.clone()).unwrap())
        .await
        .unwrap()
}

fn label(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(LABEL).map(String::as_str)
}

/// Per container, the Secrets that it takes its environment from.
fn secrets(pod: &Pod) -> Vec<Vec<(String, Option<bool>)>> {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let sources = container.env_from.iter().flatten();
        sources
            .filter_map(|source| source.secret_ref.as_ref())
            .map(|secret| (secret.name.clone(), secret.optional))
            .collect()
    };
    containers.iter().map(of).collect()
}

fn optional(secret: &str) -> (String, Option<bool>) {
    (secret.to_owned(), Some(true))
}

#[test]
fn a_pod_of_a_ready_account_gets_the_label_and_the_connections_and_others_nothing() {
    run(async {
        let world = ready("policy", json!({})).await;

        let scheduler = admitted(&world, &pod("airflow-scheduler")).await;
        assert_eq!(label(&scheduler), Some("true"));
        let connections = optional("prod-airflow-connections");
        assert_eq!(secrets(&scheduler), [vec![connections.clone()], vec![]]);

        // A mesh puts its proxy first, and says which is the pod's own.
        let mut meshed = pod("airflow-scheduler");
        meshed["metadata"]["annotations"] =
            json!({ "kubectl.kubernetes.io/default-container": "git-sync" });
        assert_eq!(
            secrets(&admitted(&world, &meshed).await),
            [vec![], vec![connections.clone()]]
        );

        // The executor's and the operator's pods, which no workload makes, are no exception.
        let mut task = pod("airflow-worker");
        task["metadata"]["labels"] = json!({ "kubernetes_executor": "True" });
        assert_eq!(label(&admitted(&world, &task).await), Some("true"));

        let foreign = admitted(&world, &pod("default")).await;
        assert_eq!(
            (label(&foreign), secrets(&foreign)),
            (None, vec![vec![], vec![]])
        );

        let neighbour = World::bare("policy-neighbour").await;
        neighbour.release(&["scheduler"]).await;
        let next_door = admitted(&neighbour, &pod("airflow-scheduler")).await;
        assert_eq!(
            (label(&next_door), secrets(&next_door)),
            (None, vec![vec![], vec![]])
        );
    });
}

#[test]
fn what_a_pod_says_itself_stands() {
    run(async {
        let world = ready("policy-own-words", json!({})).await;

        let mut out = pod("airflow-scheduler");
        out["metadata"]["labels"] = json!({ LABEL: "false" });
        let out = admitted(&world, &out).await;
        assert_eq!(
            (label(&out), secrets(&out)),
            (Some("false"), vec![vec![], vec![]])
        );

        // Kubernetes takes the last of two sources that name one variable.
        let mut own = pod("airflow-scheduler");
        own["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "own" } }]);
        let own = admitted(&world, &own).await;
        let connections = optional("prod-airflow-connections");
        assert_eq!(secrets(&own)[0], [connections, ("own".into(), None)]);

        let mut by_values = pod("airflow-scheduler");
        let given = json!([{ "secretRef": { "name": "prod-airflow-connections" } }]);
        by_values["spec"]["containers"][0]["envFrom"] = given;
        let by_values = admitted(&world, &by_values).await;
        assert_eq!(
            secrets(&by_values)[0],
            [("prod-airflow-connections".into(), None)]
        );
    });
}

#[test]
fn connections_go_where_the_object_says() {
    run(async {
        let named = json!({ "airflow": { "serviceAccounts": ["dbt"] } });
        let world = ready("policy-connections", named).await;
        let with = async |pods: Value| {
            let mut spec = json!({ "airflow": { "serviceAccounts": ["dbt"] }, "pods": pods });
            spec["keyVaultBackend"] = json!({ "vaultUrl": "https://lake.vault.azure.net" });
            world.ready(spec).await;
        };
        let both = || {
            let secrets = ["prod-airflow-connections", "prod-airflow-key-vault"];
            secrets.map(optional).to_vec()
        };
        let gets = async |account: &str| {
            let pod = admitted(&world, &pod(account)).await;
            let mut secrets = secrets(&pod).remove(0);
            secrets.sort();
            (label(&pod).is_some(), secrets)
        };

        with(json!({})).await;
        world
            .becomes((true, both()), || gets("airflow-worker"))
            .await;
        world.becomes((true, vec![]), || gets("dbt")).await;

        with(json!({ "connections": "InjectAll" })).await;
        world.becomes((true, both()), || gets("dbt")).await;

        with(json!({ "connections": "None" })).await;
        world
            .becomes((true, vec![]), || gets("airflow-worker"))
            .await;
        world.becomes((true, vec![]), || gets("dbt")).await;
    });
}

#[test]
fn an_account_that_loses_its_grant_gets_nothing_any_longer() {
    run(async {
        let world = ready("policy-revoked", json!({})).await;
        world
            .kubectl("delete azureidentitygrant policy-revoked")
            .await
            .unwrap();
        world
            .becomes(None, async || {
                label(&admitted(&world, &pod("airflow-scheduler")).await).map(str::to_owned)
            })
            .await;
    });
}

#[test]
fn before_the_policies_were_final_a_cluster_that_has_them_switched_on_is_served_too() {
    run(async {
        let beta = "admissionregistration.k8s.io/v1beta1";
        let lab = Lab::start(LabOptions {
            apiserver_args: vec![format!("--runtime-config={beta}=true")],
            ..LabOptions::default()
        })
        .await
        .unwrap();
        let chart = lab::repository().join("charts/airflow-workload-identity");
        let served = format!("{beta}/MutatingAdmissionPolicy");
        let rendered = [
            "template",
            "awi",
            chart.to_str().unwrap(),
            "--show-only=templates/pod-policy.yaml",
            "--set=image.repository=x,azure.credential=managed-identity",
            "--api-versions",
            &served,
        ];
        let policy = lab.helm(&rendered).await.unwrap();
        assert!(policy.contains(&format!("apiVersion: {beta}")), "{policy}");
        let file = lab.scratch().join("policy.yaml");
        std::fs::write(&file, policy).unwrap();
        lab.apply(&file).await.unwrap();

        let operator = lab.start_operator(awi(), often()).await.unwrap();
        let world = World::of(&lab, &operator, "policy-beta").await;
        world.grant(json!({})).await;
        world.release(&["scheduler"]).await;
        world.ready(json!({})).await;
        is_at_work(&world).await;
        let scheduler = admitted(&world, &pod("airflow-scheduler")).await;
        let connections = optional("prod-airflow-connections");
        assert_eq!(secrets(&scheduler), [vec![connections], vec![]]);
    });
}

#[test]
fn a_policy_that_is_broken_keeps_no_pod_from_starting() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let operator = lab.start_operator(awi(), often()).await.unwrap();
        let world = World::of(&lab, &operator, "policy-broken").await;
        let policy = std::fs::read_to_string(lab::repository().join(POLICY)).unwrap();
        let file = lab.scratch().join("policy.yaml");
        let apply = async |policy: &str| {
            std::fs::write(&file, policy).unwrap();
            lab.apply(&file).await.unwrap();
        };
        apply(&policy).await;
        world.grant(json!({})).await;
        world.release(&["scheduler"]).await;
        world.ready(json!({})).await;
        is_at_work(&world).await;

        // There is no such element: the expression fails when it is evaluated.
        let broken = policy.replace("[0].injection", "[9].injection");
        assert_ne!(broken, policy);
        apply(&broken).await;
        world
            .becomes(None, async || {
                let pod = admitted(&world, &pod("airflow-scheduler")).await;
                let connections = secrets(&pod).concat().len();
                (connections > 0).then_some(connections)
            })
            .await;
    });
}
