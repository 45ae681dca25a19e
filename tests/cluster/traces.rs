//! What a collector gets of a pass.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, routing::post};
use lab::{Lab, LabOptions, OperatorOptions};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use serde_json::json;

use crate::world::{World, awi, run};

/// A collector that takes OTLP over HTTP, and what it was sent.
async fn collector() -> (String, Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let taken: Arc<Mutex<Vec<_>>> = Arc::default();
    let kept = taken.clone();
    let take = post(async move |body: Bytes| {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        lab::keep_output("spans", &format!("{request:?}\n")).unwrap();
        kept.lock().unwrap().push(request);
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", take);
    tokio::spawn(async { axum::serve(listener, app).await });
    (url, taken)
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn a_pass_is_a_trace_with_its_phases_and_its_calls_to_azure() {
    run(async {
        let (url, taken) = collector().await;
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let options = OperatorOptions {
            env: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".into(), url)],
            ..OperatorOptions::default()
        };
        let mut operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "traced").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        drop(world);
        // It sends what is left before it ends.
        operator.stop().await.unwrap();

        let requests = taken.lock().unwrap();
        let traces = || requests.iter().flat_map(|request| &request.resource_spans);
        for resource in traces().map(|spans| spans.resource.as_ref().unwrap()) {
            let service = attribute(&resource.attributes, "service.name");
            assert_eq!(service, "airflow-workload-identity");
        }
        let spans: Vec<&Span> = traces()
            .flat_map(|spans| &spans.scope_spans)
            .flat_map(|scope| &scope.spans)
            .collect();
        let put = spans.iter().find(|span| {
            span.name == "azure" && attribute(&span.attributes, "operation") == "credential.put"
        });
        let parent = |of: &Span| {
            let parent = spans.iter().find(|span| span.span_id == of.parent_span_id);
            *parent.unwrap()
        };
        let apply = parent(put.unwrap());
        assert_eq!(apply.name, "phase");
        assert_eq!(attribute(&apply.attributes, "phase"), "apply");
        let pass = parent(apply);
        assert_eq!(pass.name, "pass");
        assert_eq!(attribute(&pass.attributes, "namespace"), "traced");
        assert_eq!(attribute(&pass.attributes, "object"), "prod");
        let phases: Vec<&str> = spans
            .iter()
            .filter(|span| span.parent_span_id == pass.span_id)
            .map(|span| attribute(&span.attributes, "phase"))
            .collect();
        for phase in ["observe", "plan", "apply", "status"] {
            assert!(phases.contains(&phase), "{phases:?}");
        }
    });
}

#[test]
fn a_collector_that_is_away_or_hangs_holds_nothing_up_and_is_told_of() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        // Connections are taken, and nothing is answered.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hangs = silent.local_addr().unwrap().to_string();
        for (name, address) in [("away", "127.0.0.1:9"), ("hangs", hangs.as_str())] {
            let options = OperatorOptions {
                extra_args: vec![format!("--otlp-endpoint=http://{address}")],
                ..OperatorOptions::default()
            };
            let mut operator = lab.start_operator(awi(), options).await.unwrap();
            let world = World::of(&lab, &operator, name).await;
            world.grant(json!({})).await;
            world.release(&["worker"]).await;
            world.ready(json!({})).await;
            world
                .eventually("it is told of", async || {
                    operator.log().contains("opentelemetry").then_some(())
                })
                .await;
            drop(world);
            assert!(operator.stop().await.unwrap().success());
        }
    });
}
