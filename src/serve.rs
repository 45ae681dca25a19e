//! What the operator serves over HTTP: metrics in the OpenMetrics text format, and the probes.
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::{io, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

use crate::health::Health;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics`, `/livez` and `/readyz`.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Arc<Health>,
) -> io::Result<()> {
    let registry = Arc::new(registry);
    let alive = health.clone();
    let router = Router::new()
        .route("/metrics", get(async move || metrics(&registry)))
        .route("/livez", get(async move || probe(alive.alive())))
        .route("/readyz", get(async move || probe(health.ready())));
    axum::serve(listener, router).await
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, registry);
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// What is wrong is for whoever looks at the probe's answer.
fn probe(result: Result<(), String>) -> impl IntoResponse {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(wrong) => (StatusCode::SERVICE_UNAVAILABLE, wrong),
    }
}
