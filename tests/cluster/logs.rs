//! What the operator says of its work: each decision once.

use airflow_workload_identity::azure::ARRIVES;
use lab::{Lab, LabOptions, Operator, OperatorOptions};
use serde_json::{Value, json};

use crate::world::{World, awi, run};

/// The lines about an object: level and message.
fn lines(operator: &Operator, object: &str) -> Vec<(String, String)> {
    let log = operator.log();
    let lines = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .filter(|line| {
            let mut spans = line["spans"].as_array().into_iter().flatten();
            spans.any(|span| span["object"] == object)
        })
        .map(|line| (text(&line["level"]), text(&line["fields"]["message"])))
        .collect()
}

#[test]
fn each_effect_and_each_turn_of_an_object_is_one_line() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let options = OperatorOptions {
            resync: "1s".into(),
            extra_args: vec!["--log-format=json".into()],
            ..OperatorOptions::default()
        };
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "logged").await;
        world.installed(&["worker"]).await;
        world.prod(json!({})).await;
        world.until("prod", "Ready", "False", "NotGranted").await;
        // Some resyncs that bring nothing new; and until whatever an operator before this one sent would have arrived.
        tokio::time::sleep(ARRIVES).await;
        world.grant(json!({})).await;
        world.until("prod", "Ready", "True", "Done").await;
        world.delete("prod").await;
        world.until_gone("prod").await;

        let lines = lines(&operator, "prod");
        let said = |level: &str, part: &str| {
            let says = |line: &&(String, String)| line.0 == level && line.1.contains(part);
            lines.iter().filter(says).count()
        };
        let once = [
            ("WARN", "NotGranted: "),
            ("INFO", "write federated credential"),
            ("INFO", "annotate ServiceAccount airflow-worker"),
            ("INFO", "write Secret prod-airflow-connections"),
            ("INFO", "Ready: "),
            ("WARN", "PodsOutdated: "),
            ("INFO", "delete federated credential"),
            (
                "INFO",
                "take the annotations of ServiceAccount airflow-worker back",
            ),
            ("INFO", "delete Secret prod-airflow-connections"),
        ];
        for (level, part) in once {
            assert_eq!(said(level, part), 1, "{level} {part}\n{lines:#?}");
        }
        assert_eq!(lines.len(), once.len(), "{lines:#?}");
    });
}

#[test]
fn what_azure_says_cannot_pass_for_a_line_of_ours() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let operator = lab
            .start_operator(awi(), OperatorOptions::default())
            .await
            .unwrap();
        let world = World::of(&lab, &operator, "forged").await;
        let forged = "2026-01-01T00:00:00Z  INFO awi: all is well";
        let refusal = json!({ "operation": "credential.put", "status": 400, "code": "BadRequest", "message": format!("no\n{forged}"), "action": "respond" });
        lab.emulator().fault(&refusal).await.unwrap();
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.prod(json!({})).await;
        let told = world
            .until("prod", "CredentialsFederated", "False", "AzureRefused")
            .await;
        assert!(told.contains(forged), "{told}");
        let log = operator.log();
        assert!(log.contains("BadRequest"), "{log}");
        assert!(!log.contains(forged), "{log}");
        assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
    });
}
