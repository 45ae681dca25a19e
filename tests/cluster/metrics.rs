//! What is measured.

use lab::OperatorOptions;
use serde_json::json;

use crate::world::{World, own, run};

#[test]
fn each_identity_tells_how_many_credentials_it_carries_whoever_wrote_them() {
    run(async {
        let args = ["--metrics-address", "127.0.0.1:0"].map(str::to_owned);
        let options = OperatorOptions {
            resync: "2s".into(),
            extra_args: args.into(),
            ..OperatorOptions::default()
        };
        let (lab, operator) = own(options).await;
        let world = World::of(&lab, &operator, "measured").await;
        world.grant(json!({})).await;
        world.release(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;

        let log = operator.log();
        let address = log.split("metrics address=").nth(1).unwrap();
        let address = address.split_whitespace().next().unwrap();
        let metric = format!(
            r#"awi_identity_federated_credentials{{identity="{}"}}"#,
            world.identity
        );
        let scrape = async || {
            let url = format!("http://{address}/metrics");
            let answer = reqwest::get(url).await.unwrap();
            let type_ = answer.headers()["content-type"].to_str().unwrap();
            assert!(type_.starts_with("application/openmetrics-text"), "{type_}");
            let text = answer.text().await.unwrap();
            assert!(text.ends_with("# EOF\n"), "{text}");
            let value = text.lines().find_map(|line| line.strip_prefix(&metric));
            value.unwrap_or_default().trim().to_owned()
        };
        assert_eq!(scrape().await, "2");

        let azure = world.azure().await;
        azure
            .put_credential(&world.identity, "theirs", "https://oidc.example/", "repo:x")
            .await
            .unwrap();
        world.becomes("3".to_owned(), scrape).await;

        // What no object uses is not looked at, and soon not told.
        world.delete("prod").await;
        world.until_gone("prod").await;
        world.becomes(String::new(), scrape).await;
    });
}
