//! Logs on stderr and, if asked for, traces to an OpenTelemetry collector.

use std::io::IsTerminal;

use anyhow::Context;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::api::OPERATOR;

/// How log lines look.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// kube logs every failed request as an error; what is worth saying the operator says itself.
const QUIET: &str = "info,kube_client=off,kube_runtime=off";

/// Here kube logs answers whole that it cannot read, be they Secrets or tokens: whatever is asked for,
/// not this. What it requests it says elsewhere.
const NEVER: &str = "kube_client::client";

/// Traces that are still to be sent.
pub(super) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends what is left.
    pub(super) async fn flush(self) {
        let Some(provider) = self.0 else { return };
        // It blocks.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!("cannot send the last traces: {error}");
        }
    }
}

/// Starts logging; and tracing, if a collector is given.
pub(super) fn start(format: LogFormat, collector: Option<&str>) -> anyhow::Result<Traces> {
    let provider = collector.map(provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(OPERATOR))
            .with_filter(Targets::new().with_target(module(), tracing::Level::DEBUG))
    });
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    registry()
        .with(lines.with_filter(asked().and(filter_fn(|of| of.target() != NEVER))))
        .with(traces)
        .init();
    Ok(Traces(provider))
}

/// What is logged.
fn asked() -> EnvFilter {
    // `RUST_LOG=` is how a manifest leaves it out; it is not a wish for silence.
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let asked = Some(asked.as_str()).filter(|directives| !directives.trim().is_empty());
    asked
        .and_then(|directives| EnvFilter::try_new(directives).ok())
        .unwrap_or_else(|| EnvFilter::new(QUIET))
}

/// Spans of our own; those of HTTP libraries would trace the exporter, too.
fn module() -> &'static str {
    env!("CARGO_CRATE_NAME")
}

/// <https://opentelemetry.io/docs/specs/otlp/#otlphttp>
fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("cannot send traces to --otlp-endpoint {collector}"))?;
    let resource = Resource::builder().with_service_name(OPERATOR).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
