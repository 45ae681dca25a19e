//! A Secret that cannot be read, as the API server or something before it sends it: it is told, and
//! nothing of what it holds is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{Method, Response, header::HOST},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::{Value, json};

use crate::world::{World, awi, run};

const SECRET: &str = "prod-airflow-connections";
const KEY: &str = "AIRFLOW_CONN_AZURE_DEFAULT";

/// Passes everything on to the lab's API server; its URL. While `garbles` is set, the data of a Secret
/// comes as something that it cannot be.
async fn relay(lab: &Lab, garbles: Arc<AtomicBool>) -> String {
    let ca = std::fs::read(lab.emulator().ca_path()).unwrap();
    let ca = reqwest::Certificate::from_pem(&ca).unwrap();
    let http = reqwest::Client::builder()
        .tls_certs_only([ca])
        .no_proxy()
        .build()
        .unwrap();
    let server = lab.api_server();
    let pass_on = async move |request: Request| {
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(HOST);
        let is_secret = parts.method == Method::GET && parts.uri.path().ends_with(SECRET);
        let answer = http
            .request(parts.method, format!("{server}{}", parts.uri))
            .headers(parts.headers)
            .body(to_bytes(body, usize::MAX).await.unwrap())
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let body = if is_secret && garbles.load(Ordering::Relaxed) {
            let mut secret: Value = answer.json().await.unwrap();
            secret["data"] = secret["data"][KEY].take();
            Body::from(secret.to_string())
        } else {
            Body::from_stream(answer.bytes_stream())
        };
        Response::builder().status(status).body(body).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(pass_on);
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

#[test]
fn what_a_secret_holds_that_cannot_be_read_is_told_nowhere() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let garbles = Arc::new(AtomicBool::new(false));
        let options = OperatorOptions {
            api_server: Some(relay(&lab, garbles.clone()).await),
            env: vec![("RUST_LOG".into(), "trace".into())],
            ..OperatorOptions::default()
        };
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "unreadable").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let data = world.secret(SECRET).await.unwrap().data.unwrap();
        let value = String::from_utf8(data[KEY].0.clone()).unwrap();

        garbles.store(true, Ordering::Relaxed);
        // It is read again when it has changed.
        world
            .kubectl(&format!("annotate secret {SECRET} touched=yes"))
            .await
            .unwrap();
        let message = world
            .until("prod", "ConnectionsWritten", "False", "ClusterError")
            .await;
        assert!(message.contains(SECRET), "{message}");

        let log = operator.log();
        assert!(
            log.contains("kube_client::client::builder: requesting"),
            "not at level trace"
        );
        let told = world.kubectl("get awi,events -o json").await.unwrap();
        for form in [value.clone(), STANDARD.encode(&value)] {
            let escaped = json!(form).to_string();
            let escaped = escaped.trim_matches('"');
            for (what, text) in [("log", &log), ("objects", &told), ("condition", &message)] {
                let holds = text.contains(&form) || text.contains(escaped);
                assert!(!holds, "the {what} tells what the Secret holds");
            }
        }
    });
}
