//! The alerts and the dashboard, by the real Prometheus that scrapes two replicas.

use std::{path::Path, process::Stdio, time::Duration};

use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::world::{World, awi, run};

/// What the alerts do is in `tests/monitoring/alerts_test.yaml`.
#[test]
fn the_alerts_fire_when_they_should_and_not_otherwise() {
    let promtool = lab::tool("promtool").unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(&promtool).args(args).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{errors}");
    };
    let rules = "charts/airflow-workload-identity/files/alerts.yaml";
    run(&["check", "rules", "--lint=all", "--lint-fatal", rules]);
    run(&["test", "rules", "tests/monitoring/alerts_test.yaml"]);
}

/// A Prometheus on a free port. It ends with the test.
fn prometheus(folder: &Path, targets: &[String]) -> (Child, String) {
    let rules = lab::repository().join("charts/airflow-workload-identity/files/alerts.yaml");
    let config = json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
        "rule_files": [rules],
        "scrape_configs": [{
            "job_name": "airflow-workload-identity",
            "honor_labels": true,
            "static_configs": [{
                "targets": targets,
                "labels": { "namespace": "airflow-workload-identity" },
            }],
        }],
    });
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config.to_string()).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let child = Command::new(lab::tool("prometheus").unwrap())
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .args([
            "--log.level=warn",
            "--scrape.discovery-reload-interval=100ms",
        ])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, format!("http://{address}"))
}

#[test]
fn each_panel_of_the_dashboard_shows_something_and_each_rule_is_evaluated() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let options = OperatorOptions {
            resync: "2s".into(),
            extra_args: vec!["--leader-election".into()],
            ..OperatorOptions::default()
        };
        let leader = lab.start_operator(awi(), options.clone()).await.unwrap();
        let world = World::of(&lab, &leader, "watched").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;
        let follower = lab.start_operator(awi(), options).await.unwrap();

        let mut targets = Vec::new();
        for operator in [&leader, &follower] {
            let url = operator.url().await.unwrap();
            targets.push(url.trim_start_matches("http://").to_owned());
        }
        let folder = lab.scratch().join("prometheus");
        std::fs::create_dir(&folder).unwrap();
        let (_prometheus, url) = prometheus(&folder, &targets);

        // Something to see: an object without a grant, one that is deleted, a throttled write.
        let ungranted = world.identity.replace("watched", "ungranted");
        let spec = json!({ "identity": { "managedIdentity": { "resourceId": ungranted } } });
        world.apply(&world.object("barred", spec)).await.unwrap();
        let slow = json!({ "operation": "credential.put", "status": 429, "code": "TooManyRequests", "message": "slow", "retryAfter": 1, "times": 1, "action": "respond" });
        for _ in 0..5 {
            lab.emulator().fault(&slow).await.unwrap();
            world.lose_credential("airflow-worker").await;
            tokio::time::sleep(Duration::from_secs(6)).await;
        }

        let python = lab::python("monitoring", "tests/monitoring/requirements.txt").unwrap();
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard.png");
        let output = Command::new(python)
            .arg("-B")
            .arg(lab::repository().join("tests/monitoring/check.py"))
            .arg(url)
            .arg(lab::repository().join("charts/airflow-workload-identity/files/dashboard.json"))
            .args(["--seconds", "40", "--picture"])
            .arg(&picture)
            .stderr(Stdio::inherit())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        println!("{said}{}", picture.display());
    });
}
