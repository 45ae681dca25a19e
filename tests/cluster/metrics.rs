//! What is measured.

use lab::OperatorOptions;
use serde_json::json;

use crate::world::{World, own, run};

/// The value of one series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

async fn frequent() -> (lab::Lab, lab::Operator) {
    own(OperatorOptions {
        resync: "2s".into(),
        ..OperatorOptions::default()
    })
    .await
}

#[test]
fn each_identity_tells_how_many_credentials_it_carries_whoever_wrote_them() {
    run(async {
        let (lab, operator) = frequent().await;
        let url = format!("{}/metrics", operator.url().await.unwrap());
        let world = World::of(&lab, &operator, "measured").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;

        let metric = format!(
            r#"awi_identity_federated_credentials{{identity="{}"}}"#,
            world.identity
        );
        let scrape = async || {
            let answer = reqwest::get(&url).await.unwrap();
            let type_ = answer.headers()["content-type"].to_str().unwrap();
            assert!(type_.starts_with("application/openmetrics-text"), "{type_}");
            let text = answer.text().await.unwrap();
            assert!(text.ends_with("# EOF\n"), "{text}");
            value(&text, &metric)
        };
        world.becomes(Some(2.0), scrape).await;

        let azure = world.azure().await;
        azure
            .put_credential(&world.identity, "theirs", "https://oidc.example/", "repo:x")
            .await
            .unwrap();
        world.becomes(Some(3.0), scrape).await;

        // What no object uses is not looked at, and soon not told.
        world.delete("prod").await;
        world.until_gone("prod").await;
        world.becomes(None, scrape).await;
    });
}

#[test]
fn objects_passes_problems_and_calls_to_azure_are_counted() {
    run(async {
        let (lab, operator) = frequent().await;
        let world = World::of(&lab, &operator, "counted").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        // One that waits for a grant, and one that Azure throttles.
        let ungranted = world.identity.replace("counted", "ungranted");
        let spec = json!({ "identity": { "managedIdentity": { "resourceId": ungranted } } });
        world.apply(&world.object("barred", spec)).await.unwrap();
        world.until("barred", "Ready", "False", "NotGranted").await;
        let busy = json!({ "operation": "credential.put", "status": 429, "code": "TooManyRequests", "message": "slow", "retryAfter": 1, "times": 1, "action": "respond" });
        lab.emulator().fault(&busy).await.unwrap();
        world.lose_credential("airflow-worker").await;

        let metrics = async || operator.get("/metrics").await.unwrap().1;
        let not_ready =
            r#"awi_object_not_ready{namespace="counted",name="barred",reason="NotGranted"}"#;
        let throttled = r#"awi_azure_requests_total{operation="credential.put",code="429"}"#;
        world
            .becomes(Some(1.0), async || value(&metrics().await, throttled))
            .await;
        world
            .becomes(vec!["airflow-worker".to_owned()], async || {
                world.federated().await
            })
            .await;
        let metrics = metrics().await;
        assert_eq!(value(&metrics, not_ready), Some(1.0), "{metrics}");
        let at_least_one = [
            r#"awi_objects{ready="True"}"#,
            r#"awi_objects{ready="False"}"#,
            r#"awi_passes_total{result="changed"}"#,
            r#"awi_passes_total{result="problem"}"#,
            r#"awi_passes_total{result="unchanged"}"#,
            r#"awi_problems_total{reason="NotGranted"}"#,
            r#"awi_pass_duration_seconds_count{phase="observe"}"#,
            r#"awi_pass_duration_seconds_count{phase="plan"}"#,
            r#"awi_pass_duration_seconds_count{phase="apply"}"#,
            r#"awi_pass_duration_seconds_count{phase="status"}"#,
            r#"awi_azure_requests_total{operation="identity.get",code="200"}"#,
            r#"awi_azure_requests_total{operation="credentials.list",code="200"}"#,
            r#"awi_azure_requests_total{operation="credential.put",code="201"}"#,
            r#"awi_azure_request_duration_seconds_count{operation="credential.put"}"#,
            "awi_leader",
            r#"awi_build_info{version="0.1.0"}"#,
        ];
        for series in at_least_one {
            assert!(
                value(&metrics, series).is_some_and(|value| value >= 1.0),
                "{series}\n{metrics}"
            );
        }
        assert_eq!(
            value(&metrics, r#"awi_objects{ready="Unknown"}"#),
            Some(0.0)
        );
        assert!(value(&metrics, "awi_oldest_pass_seconds").is_some());
    });
}
