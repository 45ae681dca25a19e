//! `awi doctor`: a healthy installation is found healthy, and each fault is found with its fix.

use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::{Value, json};

use crate::{
    person::{Person, Printed},
    pods,
    world::{World, awi, often, run},
};

/// The findings of a check at a level, each in one text.
fn found(printed: &Printed, level: &str, check: &str) -> Vec<String> {
    let json = printed.json();
    let findings = json["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|f| f["level"] == level && f["check"] == check);
    findings
        .map(|finding| {
            let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            ["object", "what", "why", "fix"].map(part).join(" | ")
        })
        .collect()
}

/// The checks that found something wrong.
fn wrong(printed: &Printed) -> Vec<String> {
    let json = printed.json();
    let findings = json["findings"].as_array().unwrap().iter();
    let errors = findings.filter(|finding| finding["level"] == "error");
    let mut checks: Vec<String> = errors
        .map(|finding| finding["check"].as_str().unwrap().to_owned())
        .collect();
    checks.dedup();
    checks
}

/// Looks until only these checks find something wrong, and one of them says these words.
async fn until(world: &World<'_>, person: &Person, checks: &[&str], words: &[&str]) -> Printed {
    let what = format!("{checks:?} say {words:?}");
    let last = std::cell::RefCell::new(String::new());
    let printed = world
        .eventually(&format!("doctor: {what}"), async || {
            let printed = person.awi(&format!("doctor prod -n {} -o json", world.ns));
            *last.borrow_mut() = format!("{}{}", printed.out, printed.err);
            let is_said = words.iter().all(|word| printed.out.contains(word));
            if wrong(&printed) == checks && is_said {
                return Some(printed);
            }
            eprintln!("not yet, {what}: {:?}", wrong(&printed));
            None
        })
        .await;
    let code = if checks.is_empty() { 0 } else { 3 };
    assert_eq!(printed.code, code, "{printed:?}");
    printed
}

#[test]
fn a_healthy_installation_is_found_healthy_and_what_is_done_to_it_is_found() {
    run(async {
        let world = pods::world("doctor").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        pods::run_in(&world, 2).await;
        world.ready(json!({})).await;
        let person = Person::new(&world).await;

        // The pods were there before.
        let printed = until(&world, &person, &["pods"], &["kubectl rollout restart"]).await;
        assert_eq!(found(&printed, "error", "pods").len(), 2, "{printed:?}");
        tokio::time::sleep(pods::POLICY_HEARS).await;
        for workload in ["deployment/airflow-scheduler", "statefulset/airflow-worker"] {
            world
                .kubectl(&format!("rollout restart {workload}"))
                .await
                .unwrap();
        }

        let printed = until(&world, &person, &[], &["running pod has what it should"]).await;
        for check in [
            "cluster",
            "issuer",
            "webhook",
            "policies",
            "identity",
            "grant",
            "quota",
            "permission",
            "account",
            "pods",
        ] {
            let all = found(&printed, "ok", check);
            assert!(!all.is_empty(), "{check}: {printed:?}");
        }
        let webhook = found(&printed, "ok", "webhook").join("\n");
        assert!(webhook.contains("azure-wi-webhook"), "{webhook}");
        let connection = found(&printed, "ok", "connection").join("\n");
        assert!(
            connection.contains("AIRFLOW_CONN_AZURE_DEFAULT of Secret prod-airflow-connections"),
            "{connection}"
        );
        let text = person.awi("doctor -n doctor");
        assert_eq!(text.code, 0, "{text:?}");
        assert!(
            text.out.contains("ok    grant        awi/prod: "),
            "{text:?}"
        );
        assert_eq!(person.writes(&world), []);

        // A connection of the same ID that somebody else gives the pods.
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "legacy", "namespace": world.ns },
            "stringData": { "AIRFLOW_CONN_AZURE_DEFAULT": "azure://user:hunter2@" },
        });
        world.apply(&secret).await.unwrap();
        let patch = json!({ "spec": { "template": { "spec": { "containers": [
            { "name": "scheduler", "envFrom": [{ "secretRef": { "name": "legacy" } }] }] } } } });
        world
            .kubectl(&format!("patch deployment airflow-scheduler -p {patch}"))
            .await
            .unwrap();
        let printed = until(
            &world,
            &person,
            &["connection"],
            &["comes from Secret legacy"],
        )
        .await;
        assert!(!printed.out.contains("hunter2"), "{printed:?}");
        world
            .kubectl("rollout undo deployment/airflow-scheduler")
            .await
            .unwrap();
        until(&world, &person, &[], &[]).await;

        // Azure's limit.
        let azure = world.azure().await;
        for n in 0..18 {
            let name = format!("other-{n}");
            azure
                .put_credential(&world.identity, &name, "https://other.example/", &name)
                .await
                .unwrap();
        }
        let full = format!("doctor -n {} -o json", world.ns);
        let printed = person.awi(&full);
        let quota = found(&printed, "warning", "quota").join("\n");
        assert!(
            quota.contains("20 of 20") && quota.contains("https://other.example/ (18)"),
            "{printed:?}"
        );
        world.account("airflow-more", &json!({})).await;
        world
            .prod(json!({ "airflow": { "serviceAccounts": ["airflow-more"] } }))
            .await;
        until(&world, &person, &["account"], &["LimitReached"]).await;
        world
            .prod(json!({ "airflow": { "serviceAccounts": [] } }))
            .await;
        until(&world, &person, &[], &[]).await;

        // The webhook does not look at the namespace.
        lab_label(&world, "lab/without-webhook=true").await;
        until(
            &world,
            &person,
            &["webhook"],
            &["leaves out namespace doctor"],
        )
        .await;
        lab_label(&world, "lab/without-webhook-").await;

        world
            .lab
            .kubectl(&["delete", "aig", "doctor"])
            .await
            .unwrap();
        let printed = world
            .eventually("doctor finds no grant", async || {
                let printed = person.awi(&full);
                (!found(&printed, "error", "grant").is_empty()).then_some(printed)
            })
            .await;
        let grant = found(&printed, "error", "grant").join("\n");
        assert!(
            grant.contains("kind: AzureIdentityGrant\nmetadata"),
            "{grant}"
        );
        assert_eq!(printed.code, 3);
    });
}

async fn lab_label(world: &World<'_>, label: &str) {
    let args = ["label", "namespace", &world.ns, label];
    world.lab.kubectl(&args).await.unwrap();
}

#[test]
fn without_operator_webhook_and_policy_each_is_found_and_what_nobody_repairs() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let options = OperatorOptions {
            extra_args: [often().extra_args, vec!["--leader-election".into()]].concat(),
            ..often()
        };
        let mut operator = lab.start_operator(awi(), options).await.unwrap();
        // Its pods are not real, but their number is.
        let _node = lab.start_node().await.unwrap();
        let manifest = lab::repository().join("deploy/base/operator.yaml");
        lab.apply(&manifest).await.unwrap();
        let person = {
            let world = World::of(&lab, &operator, "sick").await;
            world.grant(json!({})).await;
            world.installed(&["scheduler", "worker"]).await;
            pods::run_in(&world, 2).await;
            world.ready(json!({})).await;
            let person = Person::new(&world).await;

            let printed = until(
                &world,
                &person,
                &["webhook", "policies", "pods"],
                &[" leads"],
            )
            .await;
            for (check, words) in [
                ("webhook", "--enable-workload-identity"),
                ("policies", "podPolicy.enabled=true"),
                ("pods", "Without the label azure.workload.identity/use"),
            ] {
                let all = found(&printed, "error", check).join("\n");
                assert!(all.contains(words), "{words}: {all}");
            }
            let version = found(&printed, "ok", "operator").join("\n");
            assert!(version.contains("as this command"), "{version}");
            person
        };

        operator.stop().await.unwrap();
        let world = World::existing(&lab, &operator, "sick").await;
        let scale =
            "scale deployment airflow-workload-identity -n airflow-workload-identity --replicas=0";
        lab.kubectl(&scale.split(' ').collect::<Vec<_>>())
            .await
            .unwrap();
        world.lose_credential("airflow-worker").await;
        let patch = json!({ "stringData": { "AIRFLOW_CONN_AZURE_DEFAULT": r#"{"conn_type":"azure","password":"hunter2"}"# } });
        world
            .kubectl(&format!("patch secret prod-airflow-connections -p {patch}"))
            .await
            .unwrap();
        let checks = [
            "operator",
            "webhook",
            "policies",
            "account",
            "pods",
            "connection",
        ];
        let printed = until(&world, &person, &checks, &["nobody holds it"]).await;
        for (check, words) in [
            ("operator", "no pod of it is ready"),
            ("account", "its credential is not on the identity"),
            ("account", "look-again="),
            ("connection", "was changed by hand"),
            ("connection", "holds password"),
        ] {
            let all = found(&printed, "error", check).join("\n");
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(!printed.out.contains("hunter2"), "{printed:?}");
    });
}

#[test]
fn what_one_may_not_read_is_a_warning_that_names_the_right() {
    run(async {
        let world = World::new("doctor-blind").await;
        world.ready(json!({})).await;
        let person = Person::new(&world).await;
        let late = person.awi("doctor late -n doctor-blind");
        assert_eq!((late.code, late.out.as_str()), (1, ""), "{late:?}");
        let rules = |rules: Value| json!([{ "op": "replace", "path": "/rules", "value": rules }]);
        world
            .kubectl(&format!(
                "patch clusterrole {} --type=json -p {}",
                world.ns,
                rules(json!([]))
            ))
            .await
            .unwrap();
        let printed = world
            .eventually("the rights are gone", async || {
                let printed = person.awi("doctor -n doctor-blind -o json");
                let gone = found(&printed, "warning", "policies");
                (!gone.is_empty()).then_some(printed)
            })
            .await;
        for (check, words) in [
            (
                "operator",
                "list deployments.apps in namespace airflow-workload-identity",
            ),
            (
                "operator",
                "get leases.coordination.k8s.io airflow-workload-identity",
            ),
            ("webhook", "list mutatingwebhookconfigurations"),
            ("policies", "list mutatingadmissionpolicies"),
            ("object", "cannot list"),
        ] {
            let all = found(&printed, "warning", check).join("\n");
            assert!(all.contains(words), "{words}: {printed:?}");
        }
        assert_eq!(printed.code, 0, "{printed:?}");
    });
}
