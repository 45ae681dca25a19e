//! Faults of Microsoft Graph, one after the other: no path of its names a namespace, as rows do that share an operator.

use std::time::Duration;

use axum::http::Method;
use lab::{
    Lab, LabOptions, OperatorOptions,
    proxy::{Fate, Proxy, Seen},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    wire::fates::{
        another_shape, cut_short, garbage, hang, huge, internal_error, reset, throttled,
        without_end,
    },
    world::{World, awi, run},
};

/// How long a fault lasts after it is told.
const TIME: Duration = Duration::from_secs(3);
/// 0.5, 1, 2, 4 and 5 seconds lie between, and machines may be slow.
const BACKOFF: usize = 10;
/// Of a list that does not end, fifty are read.
const PAGES: usize = 6 * 50;

fn list(seen: &Seen) -> bool {
    seen.method == Method::GET && seen.path.ends_with("/federatedIdentityCredentials")
}

fn patch(seen: &Seen) -> bool {
    seen.method == Method::PATCH && seen.path.contains("/federatedIdentityCredentials(")
}

/// Which requests, what becomes of them, reason and words of the condition `Ready`, and most requests meanwhile.
type Row = (
    fn(&Seen) -> bool,
    fn(&str) -> Fate,
    &'static str,
    &'static str,
    usize,
);

#[rustfmt::skip]
static ROWS: &[Row] = &[
    (list, hang, "AzureUnavailable", "timed out", BACKOFF),
    (list, cut_short, "AzureUnavailable", "body", BACKOFF),
    (list, garbage, "AzureUnavailable", "cannot be read", BACKOFF),
    (list, another_shape, "AzureUnavailable", "cannot be read", BACKOFF),
    (list, without_end, "AzureRefused", "does not end", PAGES),
    (list, huge, "AzureUnavailable", "longer than", BACKOFF),
    (patch, reset, "AzureUnavailable", "connection", BACKOFF),
    (patch, internal_error, "AzureUnavailable", "500", BACKOFF),
    (patch, throttled, "AzureThrottled", "slow down", BACKOFF),
];

#[test]
fn faults_of_graph_are_told_and_got_over() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let proxy = Proxy::start(&lab).unwrap();
        let args = ["--entra-applications", "--azure-timeout=6s"].map(str::to_owned);
        let options = OperatorOptions {
            resync: "2s".into(),
            extra_args: args.into(),
            ..OperatorOptions::default()
        };
        let operator = lab
            .start_operator(awi(), options.through(&proxy))
            .await
            .unwrap();
        let world = World::of(&lab, &operator, "graph").await;
        let azure = world.azure().await;
        let graph = async |method: Method, path: &str, body: Option<&Value>| {
            azure.graph(method, path, body).await.unwrap()
        };
        let body = json!({ "displayName": "airflow" });
        let made = graph(Method::POST, "applications", Some(&body)).await;
        let app = made["appId"].as_str().unwrap();
        let credentials = format!("applications(appId='{app}')/federatedIdentityCredentials");
        let name = world.credential_name("airflow-worker");
        let credential = format!("{credentials}(name='{name}')");

        world
            .grant(json!({ "identities": [{ "appId": app }] }))
            .await;
        world.release(&["worker"]).await;
        let identity = json!({ "identity": {
            "managedIdentity": null, "application": { "appId": app }, "tenantId": world.tenant_id,
        }});
        world.ready(identity).await;

        for (n, (hits, fate, reason, words, most)) in ROWS.iter().copied().enumerate() {
            let before = proxy.seen().len();
            let url = proxy.azure_url().to_owned();
            proxy.rule(move |seen| {
                if hits(seen) {
                    fate(&format!("{url}{}?{}", seen.path, seen.query))
                } else {
                    Fate::Pass
                }
            });
            graph(Method::DELETE, &credential, None).await;
            let message = world.until("prod", "Ready", "False", reason).await;
            assert!(message.contains(words), "row {n}: {message}");
            sleep(TIME).await;
            let seen = proxy.seen();
            let asked = seen[before..].iter().filter(|seen| hits(seen)).count();
            println!("row {n}: asked {asked} times");
            assert!(asked <= most, "row {n}: asked {asked} times");

            proxy.rule(|_| Fate::Pass);
            world.until("prod", "Ready", "True", "Done").await;
            let there = graph(Method::GET, &credentials, None).await;
            assert_eq!(there["value"][0]["name"], name, "row {n}");
        }
        assert!(!operator.log().contains("panicked"), "{}", operator.log());
    });
}
