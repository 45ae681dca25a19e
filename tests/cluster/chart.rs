//! The chart, by the real helm: the operator runs with exactly the arguments and rights that it
//! gives, through install, upgrade, rollback and uninstall.

use std::path::{Path, PathBuf};

use lab::{Lab, LabOptions, Operator, identities};
use serde_json::{Value, json};

use crate::world::{World, all, awi, run};

const CHART: &str = "charts/airflow-workload-identity";

fn chart() -> PathBuf {
    lab::repository().join(CHART)
}

/// A release of the chart in a namespace of its own, with values that lead to the lab's Azure.
struct Release<'a> {
    lab: &'a Lab,
    namespace: &'static str,
    values: PathBuf,
}

impl<'a> Release<'a> {
    async fn prepare(lab: &'a Lab, namespace: &'static str, more: &Value) -> Self {
        lab.kubectl(&["create", "namespace", namespace])
            .await
            .unwrap();
        // As the README says: the operator's own identity trusts its ServiceAccount.
        let subject = format!("system:serviceaccount:{namespace}:airflow-workload-identity");
        let operator = identities::OPERATOR.resource_id();
        let azure = lab.azure().await.unwrap();
        azure
            .put_credential(&operator, namespace, lab.issuer(), &subject)
            .await
            .unwrap();
        let url = lab.emulator().url();
        let values = json!({
            "image": { "repository": "registry.example/airflow-workload-identity" },
            "azure": {
                "clientId": identities::OPERATOR.client_id,
                "cloud": "custom",
                "endpoint": url, "authority": url, "audience": url, "graphEndpoint": url,
            },
            "extraCA": { "configMap": "ca" },
            "resync": "2s",
        });
        let release = Self {
            lab,
            namespace,
            values: lab.scratch().join(format!("{namespace}.values.json")),
        };
        release.set(values, more);
        release
    }

    fn set(&self, mut values: Value, more: &Value) {
        for (key, value) in more.as_object().unwrap() {
            values[key] = value.clone();
        }
        std::fs::write(&self.values, values.to_string()).unwrap();
    }

    /// Other values from now on.
    fn change(&self, more: &Value) {
        let values = std::fs::read(&self.values).unwrap();
        self.set(serde_json::from_slice(&values).unwrap(), more);
    }

    async fn helm(&self, verb: &str, more: &[&str]) -> String {
        let name = ["airflow-workload-identity", "-n", self.namespace];
        let args: Vec<&str> = [verb].iter().chain(&name).chain(more).copied().collect();
        self.lab.helm(&args).await.unwrap()
    }

    /// Installs or upgrades, and shows the notes.
    async fn apply(&self, chart: &Path) -> String {
        let (chart, values) = (chart.to_str().unwrap(), self.values.to_str().unwrap());
        let args = [chart, "--install", "--values", values];
        self.helm("upgrade", &args).await
    }

    /// All of the release's objects, as the API server has them.
    async fn shown(&self) -> String {
        let name = ["get", "manifest", "airflow-workload-identity", "-n"];
        let name = [&name[..], &[self.namespace]].concat();
        let manifest = self.lab.scratch().join("manifest.yaml");
        std::fs::write(&manifest, self.lab.helm(&name).await.unwrap()).unwrap();
        let manifest = manifest.to_str().unwrap();
        let columns =
            "custom-columns=:.kind,:.metadata.name,:.metadata.uid,:.metadata.generation,:.data";
        let get = [
            "get",
            "-f",
            manifest,
            "-n",
            self.namespace,
            "--no-headers",
            "-o",
            columns,
        ];
        self.lab.kubectl(&get).await.unwrap()
    }

    async fn operator(&self) -> Operator {
        let (namespace, name) = (self.namespace, "airflow-workload-identity");
        self.lab
            .start_deployment(awi(), namespace, name)
            .await
            .unwrap()
    }
}

/// The chart as a release before this one would be: an older version with older CRDs.
fn previous(lab: &Lab) -> PathBuf {
    let copy = lab.scratch().join("previous");
    let status = std::process::Command::new("cp")
        .arg("-R")
        .args([&chart(), &copy])
        .status();
    assert!(status.unwrap().success());
    let replace = |file: &str, from: &str, to: &str| {
        let file = copy.join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    };
    let version = env!("CARGO_PKG_VERSION");
    replace("Chart.yaml", version, "0.0.9");
    let crd = "files/crds/airflowworkloadidentities.yaml";
    replace(crd, "observedGeneration: -1", "observedGeneration: -2");
    copy
}

/// How often an object that is new counts as observed; the previous chart says it otherwise.
async fn crd_default(lab: &Lab) -> String {
    let path = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.status.default.observedGeneration}";
    let crd = "crd/airflowworkloadidentities.airflow-workload-identity.io";
    lab.kubectl(&["get", crd, "-o", path]).await.unwrap()
}

#[test]
fn install_upgrade_rollback_and_uninstall_leave_airflow_at_work() {
    run(async {
        let options = LabOptions {
            without_crds: true,
            ..LabOptions::default()
        };
        let lab = Lab::start(options).await.unwrap();
        let release = Release::prepare(&lab, "awi-plain", &json!({})).await;
        let notes = release.apply(&previous(&lab)).await;
        assert!(
            notes.contains("Pods that start from then on get the identity"),
            "{notes}"
        );
        assert_eq!(crd_default(&lab).await, "-2");
        let mut operator = release.operator().await;
        let world = World::of(&lab, &operator, "installed").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let client_id = Some(world.client_id.clone());
        drop(world);

        // With all that makes it stricter, and a grant, now that Helm knows the kind.
        let grant = json!({
            "identities": [{ "resourceId": identities::AIRFLOW.resource_id() }],
            "namespaces": { "names": ["installed"] },
        });
        release.change(&json!({
            "grants": { "of-the-chart": grant },
            "networkPolicy": { "enabled": true },
            "statusGuard": { "enabled": true },
        }));
        release.apply(&chart()).await;
        assert_eq!(crd_default(&lab).await, "-1", "helm upgrades the CRDs");
        lab.kubectl(&["get", "aig", "of-the-chart"]).await.unwrap();
        let before = release.shown().await;
        release.apply(&chart()).await;
        assert_eq!(release.shown().await, before, "the same again is no change");
        // The second replica waits, and takes over.
        let second = release.operator().await;
        operator.stop().await.unwrap();
        let world = World::existing(&lab, &second, "installed").await;
        everything(&world, false).await;
        assert_eq!(world.client_id_of("airflow-worker").await, client_id);
        drop(world);

        drop(second);
        has_another_issuer(&release, &["installed"]).await;

        release.helm("rollback", &["1"]).await;
        assert_eq!(crd_default(&lab).await, "-2");
        release.helm("rollback", &["2"]).await;
        let third = release.operator().await;
        let world = World::existing(&lab, &third, "installed").await;
        world
            .becomes(all(&["worker"]), async || world.federated().await)
            .await;

        release.helm("uninstall", &[]).await;
        assert!(world.get("prod").await.is_some(), "the CRDs stay");
        assert_eq!(world.client_id_of("airflow-worker").await, client_id);
        assert_eq!(world.federated().await, all(&["worker"]));
        // Installed again, the release takes the CRDs that it left.
        drop(world);
        drop(third);
        release.apply(&chart()).await;
        let fourth = release.operator().await;
        let world = World::existing(&lab, &fourth, "installed").await;
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(world.federated().await, [""; 0]);
    });
}

#[test]
fn where_the_cluster_serves_no_policies_for_pods_the_notes_name_the_values_to_set() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let release = Release::prepare(&lab, "awi-notes", &json!({})).await;
        let (chart, values) = (chart(), release.values.to_str().unwrap());
        // Helm does not ask the cluster then, and knows of no such kind itself.
        let args = [
            chart.to_str().unwrap(),
            "--dry-run=client",
            "--values",
            values,
        ];
        let shown = release.helm("install", &args).await;
        assert!(!shown.contains("kind: MutatingAdmissionPolicy"), "{shown}");
        for value in [
            "workers: {labels: {azure.workload.identity/use: \"true\"}}",
            "extraEnvFrom: |",
        ] {
            assert!(shown.contains(value), "{shown}");
        }
    });
}

#[test]
fn an_operator_of_some_namespaces_works_there_with_roles_and_nowhere_else() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        for namespace in ["team-a", "team-b", "team-c"] {
            lab.kubectl(&["create", "namespace", namespace])
                .await
                .unwrap();
        }
        let values = json!({
            "watchNamespaces": ["team-a", "team-b"],
            "readerRole": { "enabled": true },
            "exchangeVerification": { "enabled": true },
            // They are there already, and not this release's.
            "crds": { "enabled": false },
        });
        let release = Release::prepare(&lab, "awi-team", &values).await;
        release.apply(&chart()).await;
        let operator = release.operator().await;
        for namespace in ["team-a", "team-b", "team-c"] {
            let world = World::existing(&lab, &operator, namespace).await;
            // A grant by label: the namespace is read, too.
            let label = format!("kubernetes.io/metadata.name={namespace}");
            let (key, value) = label.split_once('=').unwrap();
            let selector = json!({ "namespaces": { "names": null, "selector": { "matchLabels": { key: value } } } });
            world.grant(selector).await;
            world.release(&["worker"]).await;
            world.prod(json!({})).await;
        }
        for namespace in ["team-a", "team-b"] {
            let world = World::existing(&lab, &operator, namespace).await;
            world.until("prod", "Ready", "True", "Done").await;
            let verified = "ExchangeVerified";
            world.until("prod", verified, "True", "Done").await;
        }
        for namespace in ["team-a", "team-b"] {
            let world = World::existing(&lab, &operator, namespace).await;
            everything(&world, true).await;
        }

        let other = World::existing(&lab, &operator, "team-c").await;
        let status = other.get("prod").await.unwrap().status.unwrap();
        assert!(status.conditions.is_empty(), "{status:?}");
        assert_eq!(other.client_id_of("airflow-worker").await, None);
        let (status, body) = operator.get("/readyz").await.unwrap();
        assert_eq!((status, body.as_str()), (200, "ok\n"));
        drop(other);
        drop(operator);
        has_another_issuer(&release, &["team-a", "team-b"]).await;
    });
}

/// Another issuer is remembered beside the first; and every object is looked at anew, its Secrets, too.
async fn has_another_issuer(release: &Release<'_>, namespaces: &[&str]) {
    let issuer = "https://issuer.example/";
    release.change(&json!({ "issuer": issuer }));
    release.apply(&chart()).await;
    let operator = release.operator().await;
    for namespace in namespaces {
        let world = World::existing(release.lab, &operator, namespace).await;
        let told = || async { world.get("prod").await?.status?.issuer };
        world.becomes(Some(issuer.into()), told).await;
    }
}

/// Everything that the operator may have to do for an object, so that each right is used; for
/// `least_privilege`.
async fn everything(world: &World<'_>, with_reader_role: bool) {
    for account in ["airflow-extra", "airflow-more"] {
        world.account(account, &json!({})).await;
    }
    // Written, changed, and the Role taken back.
    let (one, two) = (vec!["airflow-extra"], vec!["airflow-extra", "airflow-more"]);
    for (account, accounts, reader_role) in [
        ("one", &one, with_reader_role),
        ("two", &two, with_reader_role),
        ("two", &two, false),
    ] {
        let extra = json!({
            "airflow": { "helmRelease": null, "serviceAccounts": accounts },
            "connectionSecret": { "format": "SecretsBackend", "readerRole": reader_role },
            "connections": [{ "id": "lake", "adls": { "account": format!("lake{account}") } }],
        });
        world.apply(&world.object("extra", extra)).await.unwrap();
        world.until("extra", "Ready", "True", "Done").await;
    }
    // The same thing happens twice: one event, counted.
    for _ in 0..2 {
        let foreign = "azure.workload.identity/client-id=mine";
        let annotate = format!("annotate serviceaccount airflow-worker --overwrite {foreign}");
        world.kubectl(&annotate).await.unwrap();
        let own = Some(world.client_id.clone());
        world
            .becomes(own, async || world.client_id_of("airflow-worker").await)
            .await;
    }
    world.delete("extra").await;
    world.until_gone("extra").await;
}
