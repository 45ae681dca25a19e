//! What is measured, in the OpenMetrics text format.
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::azure::Identities;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics`. An identity that was not listed for `max_age` is left out.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    identities: Arc<Identities>,
    max_age: Duration,
) -> io::Result<()> {
    let mut registry = Registry::with_prefix("awi");
    registry.register_collector(Box::new(Quota {
        identities,
        max_age,
    }));
    let router = Router::new()
        .route("/metrics", routing::get(answer))
        .with_state(Arc::new(registry));
    axum::serve(listener, router).await
}

async fn answer(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, &registry);
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// How full each identity is.
#[derive(Debug)]
struct Quota {
    identities: Arc<Identities>,
    max_age: Duration,
}

impl Collector for Quota {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut gauge = encoder.encode_descriptor(
            "identity_federated_credentials",
            "Federated credentials on the identity, whoever wrote them, as listed last; Azure allows 20",
            None,
            MetricType::Gauge,
        )?;
        for (identity, count) in self.identities.counts(self.max_age) {
            let labels = [("identity", identity.to_string())];
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(gauge.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
