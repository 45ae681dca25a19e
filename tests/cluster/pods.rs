//! Pods really get the identity: with the real webhook, on a node where pods run, and with the real Airflow in
//! the place of a container.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Container, Pod},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use lab::{AzureWebhook, Lab, LabOptions, Node, Operator};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::world::{World, awi, labels, often, run};

/// What the webhook gives a container.
const VARIABLES: [&str; 4] = [
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
];
const CONNECTIONS: &str = "prod-airflow-connections";
/// The API server's policy hears of a status later than who reads it; pods that start before get nothing.
pub const POLICY_HEARS: Duration = Duration::from_secs(6);

static SHARED: OnceCell<(Lab, Operator, Node, AzureWebhook)> = OnceCell::const_new();

/// A namespace of the lab in which pods run and go through the real webhook and our policy.
pub async fn world(name: &str) -> World<'static> {
    let (lab, operator, ..) = SHARED
        .get_or_init(|| async {
            let lab = Lab::start(LabOptions::default()).await.unwrap();
            let deploy = lab::repository().join("deploy");
            for part in [
                "base/pod-policy.yaml",
                "components/workload-restarts/role.yaml",
            ] {
                lab.apply(&deploy.join(part)).await.unwrap();
            }
            let node = lab.start_node().await.unwrap();
            let webhook = lab.start_azure_webhook().await.unwrap();
            let operator = lab.start_operator(awi(), often()).await.unwrap();
            (lab, operator, node, webhook)
        })
        .await;
    World::of(lab, operator, name).await
}

async fn running(world: &World<'_>) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.ns);
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    let is_running = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    pods.into_iter().filter(is_running).collect()
}

/// Waits until as many pods run.
pub async fn run_in(world: &World<'_>, count: usize) {
    world
        .becomes(count, async || running(world).await.len())
        .await;
}

fn account(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .unwrap()
        .service_account_name
        .as_deref()
        .unwrap_or_default()
}

fn first(pod: &Pod) -> &Container {
    &pod.spec.as_ref().unwrap().containers[0]
}

fn azure_variables(pod: &Pod) -> BTreeMap<String, String> {
    let variables = first(pod).env.iter().flatten();
    variables
        .filter(|variable| variable.name.starts_with("AZURE_"))
        .map(|variable| {
            (
                variable.name.clone(),
                variable.value.clone().unwrap_or_default(),
            )
        })
        .collect()
}

fn secrets(pod: &Pod) -> Vec<&str> {
    let sources = first(pod).env_from.iter().flatten();
    sources
        .filter_map(|source| Some(source.secret_ref.as_ref()?.name.as_str()))
        .collect()
}

/// The audiences of the tokens in the pod's volumes, but for the API server's own.
fn audiences(pod: &Pod) -> Vec<&str> {
    let volumes = pod.spec.as_ref().unwrap().volumes.iter().flatten();
    volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref()?.audience.as_deref())
        .collect()
}

fn is_untouched(pod: &Pod) -> bool {
    azure_variables(pod).is_empty() && secrets(pod).is_empty() && audiences(pod).is_empty()
}

/// A pod that no workload makes, as the KubernetesExecutor does; as it was admitted.
async fn task(world: &World<'_>, account: &str) -> Pod {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.ns);
    let pod = json!({
        "metadata": { "generateName": "task-", "labels": { "kubernetes_executor": "True" } },
        "spec": {
            "serviceAccountName": account, "restartPolicy": "Never",
            "containers": [{ "name": "base", "image": "apache/airflow:3.2.2" }],
        },
    });
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod).unwrap(),
    )
    .await
    .unwrap()
}

/// The restart that a message tells to run.
async fn do_as_told(world: &World<'_>, message: &str) {
    let (_, command) = message.split_once("kubectl ").unwrap();
    let args: Vec<&str> = command.lines().next().unwrap().split(' ').collect();
    world.lab.kubectl(&args).await.unwrap();
}

#[test]
fn one_object_gives_the_pods_of_airflow_token_and_connections_and_nobody_elses() {
    run(async {
        let world = world("pods").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world.account("other", &json!({})).await;
        world.workload("statsd", "airflow", "other").await;
        run_in(&world, 4).await;

        world.ready(json!({})).await;
        let all = "(3): airflow-scheduler-";
        let message = world
            .until_told("prod", "PodsInjected", "False", "PodsOutdated", all)
            .await;
        tokio::time::sleep(POLICY_HEARS).await;
        do_as_told(&world, &message).await;
        world.until("prod", "PodsInjected", "True", "Done").await;

        run_in(&world, 4).await;
        for pod in running(&world).await {
            if account(&pod) == "other" {
                assert!(is_untouched(&pod), "{pod:?}");
                continue;
            }
            let variables = azure_variables(&pod);
            let names: Vec<&str> = variables.keys().map(String::as_str).collect();
            assert_eq!(names, VARIABLES);
            assert_eq!(variables["AZURE_CLIENT_ID"], world.client_id);
            assert_eq!(variables["AZURE_TENANT_ID"], world.tenant_id);
            assert_eq!(audiences(&pod), [lab::identities::EXCHANGE_AUDIENCE]);
            assert_eq!(secrets(&pod), [CONNECTIONS]);
        }
        // The executor's pods have no template of Helm's.
        let task = task(&world, "airflow-worker").await;
        assert_eq!(azure_variables(&task).len(), 4);
        assert_eq!(secrets(&task), [CONNECTIONS]);
    });
}

#[test]
fn a_namespace_without_an_object_is_left_alone() {
    run(async {
        let world = world("pods-neighbour").await;
        world.release(&["scheduler"]).await;
        run_in(&world, 1).await;
        assert!(is_untouched(&running(&world).await[0]));
    });
}

/// The environment of a container, as the kubelet makes it of the pod, with the token of its volume below `root`.
async fn environment(world: &World<'_>, pod: &Pod, root: &Path) -> BTreeMap<String, String> {
    let container = first(pod);
    let mut environment = BTreeMap::new();
    for secret in secrets(pod) {
        let data = world.secret(secret).await.unwrap().data.unwrap_or_default();
        environment.extend(
            data.into_iter()
                .map(|(name, value)| (name, String::from_utf8(value.0).unwrap())),
        );
    }
    let variables = container.env.iter().flatten();
    environment
        .extend(variables.map(|variable| (variable.name.clone(), variable.value.clone().unwrap())));
    for mount in container.volume_mounts.iter().flatten() {
        let volumes = pod.spec.as_ref().unwrap().volumes.iter().flatten();
        let mut mounted = volumes.filter(|volume| volume.name == mount.name);
        let Some(projected) = mounted.find_map(|volume| volume.projected.as_ref()) else {
            continue;
        };
        for source in projected.sources.iter().flatten() {
            let Some(token) = &source.service_account_token else {
                continue;
            };
            let Some(audience) = token.audience.as_deref() else {
                continue;
            };
            let meta = &pod.metadata;
            let (name, uid) = (meta.name.as_deref().unwrap(), meta.uid.as_deref().unwrap());
            let minted = world
                .lab
                .mint_pod_token(&world.ns, account(pod), audience, name, uid)
                .await;
            let folder = root.join(mount.mount_path.trim_start_matches('/'));
            let file = folder.join(&token.path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, minted.unwrap()).unwrap();
        }
    }
    environment
}

/// The mission, end to end: nobody told Airflow anything, and its task is the managed identity.
#[test]
fn a_hook_in_a_pod_as_it_was_admitted_gets_an_access_token() {
    run(async {
        let world = world("pods-eye").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        world
            .ready(json!({ "connections": [{ "id": "lake", "wasb": { "account": "acct" } }] }))
            .await;
        world
            .eventually("a task's pod is injected", async || {
                let pod = task(&world, "airflow-worker").await;
                (azure_variables(&pod).len() == 4).then_some(())
            })
            .await;
        let pod = task(&world, "airflow-worker").await;

        let root = world.lab.scratch().join("pods-eye");
        let mut environment = environment(&world, &pod, &root).await;
        let file = environment.get_mut("AZURE_FEDERATED_TOKEN_FILE").unwrap();
        *file = root
            .join(file.trim_start_matches('/'))
            .display()
            .to_string();
        // The one thing that cannot be had: the emulator answers for Entra.
        environment.insert(
            "AZURE_AUTHORITY_HOST".into(),
            world.lab.emulator().url().to_owned(),
        );

        let ca = world.lab.emulator().ca_path();
        let python = lab::python("airflow", "tests/airflow/requirements.txt").unwrap();
        let output = Command::new(python)
            .arg(lab::repository().join("tests/airflow/use_connections.py"))
            .arg("lake")
            .env_clear()
            .envs(&environment)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AIRFLOW_HOME", root.join("airflow"))
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .env("REQUESTS_CA_BUNDLE", ca)
            .env("SSL_CERT_FILE", ca)
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let found: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let lake = &found["lake"];
        assert_eq!(lake["credential"], "DefaultAzureCredential", "{lake}");
        assert_eq!(lake["client_id"], world.client_id);
        assert_eq!(lake["audience"], "https://storage.azure.com");
        let url = lake["url"].as_str().unwrap();
        assert!(
            url.starts_with("https://acct.blob.core.windows.net/"),
            "{url}"
        );
    });
}

#[test]
fn what_keeps_a_new_pod_from_its_token_is_told_apart() {
    run(async {
        let world = world("pods-told").await;
        let webhook = async |label: &str| {
            let line = format!("label namespace {} lab/without-webhook{label}", world.ns);
            world
                .lab
                .kubectl(&line.split(' ').collect::<Vec<_>>())
                .await
                .unwrap();
        };
        world.grant(json!({})).await;
        world.release(&["scheduler", "worker"]).await;
        run_in(&world, 2).await;
        world.ready(json!({})).await;
        let both = "deployment/airflow-scheduler statefulset/airflow-worker";
        let message = world
            .until_told("prod", "PodsInjected", "False", "PodsOutdated", both)
            .await;
        tokio::time::sleep(POLICY_HEARS).await;
        webhook("=").await;
        let restart = async || {
            // kubectl refuses a second restart within a second.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            do_as_told(&world, &message).await;
            for workload in ["deployment/airflow-scheduler", "statefulset/airflow-worker"] {
                let status = format!("rollout status {workload} --timeout=10s");
                world
                    .eventually("restarted", async || world.kubectl(&status).await.ok())
                    .await;
            }
        };
        restart().await;
        let message = world
            .until("prod", "PodsInjected", "False", "WebhookMissing")
            .await;
        assert!(message.contains("--enable-workload-identity"), "{message}");

        webhook("-").await;
        let skip = json!({ "spec": { "template": { "metadata": { "annotations": {
            "azure.workload.identity/skip-containers": "scheduler",
        }}}}});
        world
            .kubectl(&format!("patch deployment airflow-scheduler -p {skip}"))
            .await
            .unwrap();
        restart().await;
        let message = world
            .until("prod", "PodsInjected", "False", "ContainerSkipped")
            .await;
        assert!(message.contains("container scheduler"), "{message}");

        // Somebody's label asks for less, and that is their right.
        let out = json!({ "spec": { "template": { "metadata": { "labels": {
            "azure.workload.identity/use": "false",
        }}}}});
        world
            .kubectl(&format!("patch deployment airflow-scheduler -p {out}"))
            .await
            .unwrap();
        restart().await;
        let message = world.until("prod", "PodsInjected", "True", "Done").await;
        assert!(message.contains("airflow-scheduler-"), "{message}");
    });
}

/// Generations of what runs the pods: a restart is one more.
async fn generations(world: &World<'_>) -> BTreeMap<String, i64> {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.ns);
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.ns);
    let deployments = deployments.list(&ListParams::default()).await.unwrap();
    let sets = sets.list(&ListParams::default()).await.unwrap();
    let deployments = deployments.into_iter().map(|d| d.metadata);
    deployments
        .chain(sets.into_iter().map(|s| s.metadata))
        .map(|meta| (meta.name.unwrap(), meta.generation.unwrap()))
        .collect()
}

/// Credentials that are there already, so that nothing waits for Entra to learn of them.
async fn federated_long_ago(world: &World<'_>, accounts: &[&str]) {
    let azure = world.azure().await;
    for account in accounts {
        let subject = format!("system:serviceaccount:{}:airflow-{account}", world.ns);
        azure
            .put_credential(
                &world.identity,
                &format!("guide-{account}"),
                world.lab.issuer(),
                &subject,
            )
            .await
            .unwrap();
    }
}

#[test]
fn workloads_are_restarted_once_per_change_and_helm_sees_nothing_to_undo() {
    run(async {
        let world = world("pods-restart").await;
        world.grant(json!({})).await;
        federated_long_ago(&world, &["scheduler", "worker"]).await;
        world.release(&["worker"]).await;
        let chart = chart(&world);
        let helm = async |what: &str| {
            let args = [what, "airflow", chart.to_str().unwrap(), "-n", &world.ns];
            world.lab.helm(&args).await.unwrap();
        };
        helm("install").await;
        world.heard().await;
        run_in(&world, 2).await;
        let is = |scheduler: i64, worker: i64| {
            BTreeMap::from([
                ("airflow-scheduler".to_owned(), scheduler),
                ("airflow-worker".to_owned(), worker),
            ])
        };

        world
            .ready(json!({ "pods": { "restart": "OnChange" } }))
            .await;
        world
            .becomes(is(2, 2), async || generations(&world).await)
            .await;
        world.until("prod", "PodsInjected", "True", "Done").await;
        run_in(&world, 2).await;

        // The same again: what runs the pods stays as it is, and so do they.
        let before: BTreeSet<_> = names(&running(&world).await);
        helm("upgrade").await;
        // Helm applies on the server's side, and kubectl by comparing with what it applied last.
        world.release(&["worker"]).await;
        assert_eq!(generations(&world).await, is(2, 2));
        assert_eq!(names(&running(&world).await), before);

        let suspended = json!({ "suspend": true, "pods": { "restart": "OnChange" } });
        world.prod(suspended).await;
        world.until("prod", "Ready", "False", "Suspended").await;
        let more = json!([{ "id": "azure_default", "azure": {} }, { "id": "lake", "wasb": { "account": "acct" } }]);
        let suspended =
            json!({ "suspend": true, "pods": { "restart": "OnChange" }, "connections": more });
        world.prod(suspended).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(generations(&world).await, is(2, 2));

        world
            .ready(
                json!({ "suspend": false, "pods": { "restart": "OnChange" }, "connections": more }),
            )
            .await;
        world
            .becomes(is(3, 3), async || generations(&world).await)
            .await;
        world.until("prod", "PodsInjected", "True", "Done").await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(generations(&world).await, is(3, 3));
        // One each, by the workload; the second restart counts on in the same.
        let related = "get events.events.k8s.io -o jsonpath={range.items[?(@.reason=='WorkloadRestarted')]}{.related.kind}/{.related.name},{end}";
        world
            .becomes(
                "Deployment/airflow-scheduler,StatefulSet/airflow-worker,".to_owned(),
                async || world.kubectl(related).await.unwrap(),
            )
            .await;
    });
}

fn names(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter()
        .map(|pod| pod.metadata.name.clone().unwrap())
        .collect()
}

/// A chart with a scheduler.
fn chart(world: &World<'_>) -> PathBuf {
    let folder = world.lab.scratch().join("airflow-chart");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    let labels = labels("airflow", "scheduler");
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "airflow-scheduler", "labels": labels },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "airflow-scheduler", "labels": labels },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels, "annotations": { "checksum/airflow-config": "1" } },
            "spec": { "serviceAccountName": "airflow-scheduler", "containers": [{ "name": "scheduler", "image": "apache/airflow:3.2.2" }] },
        }},
    });
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    write(
        "Chart.yaml",
        json!({ "apiVersion": "v2", "name": "airflow", "version": "1.0.0" }).to_string(),
    );
    write(
        "templates/all.yaml",
        format!("{account}\n---\n{deployment}\n"),
    );
    folder
}

#[test]
fn a_restart_that_the_operator_may_not_do_says_how_it_may() {
    run(async {
        let world = World::bare("pods-forbidden").await;
        world.grant(json!({})).await;
        federated_long_ago(&world, &["scheduler"]).await;
        world.release(&["scheduler"]).await;
        world
            .ready(json!({ "pods": { "restart": "OnChange" } }))
            .await;
        let message = world
            .until("prod", "PodsInjected", "False", "RestartForbidden")
            .await;
        assert!(
            message.contains("workloadRestarts.enabled=true"),
            "{message}"
        );
        world.until("prod", "Ready", "True", "Done").await;
    });
}
