//! `/admin`: how a test looks at the emulator and tells it what to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::faults::Fault;
use crate::journal::Counts;
use crate::settings::{Settings, SettingsChange};

type Shared = State<Arc<App>>;

/// Routes below `/admin`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/requests", get(requests).delete(clear_requests))
        .route("/counts", get(counts))
        .route("/config", get(config).put(configure))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/locks", put(lock).delete(unlock))
        .route("/tokens", delete(expire_tokens))
        .route("/state", get(state))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(loopback_only))
}

/// There is no authentication here, so nobody else may come in.
async fn loopback_only(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn requests(State(app): Shared, Query(Since { since }): Query<Since>) -> Json<Value> {
    Json(json!({ "requests": app.journal().since(since) }))
}

async fn clear_requests(State(app): Shared) {
    app.journal().clear();
}

async fn counts(State(app): Shared) -> Json<Counts> {
    Json(app.journal().counts())
}

async fn config(State(app): Shared) -> Json<Settings> {
    Json(app.settings().clone())
}

async fn configure(State(app): Shared, Json(change): Json<SettingsChange>) -> Json<Settings> {
    if change.throttle.is_some() {
        app.throttle().reset();
    }
    let mut settings = app.settings();
    settings.apply(&change);
    Json(settings.clone())
}

async fn add_fault(State(app): Shared, Json(fault): Json<Fault>) {
    app.faults().add(fault);
}

async fn clear_faults(State(app): Shared) {
    app.faults().clear();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    scope: String,
}

async fn lock(State(app): Shared, Json(Lock { scope }): Json<Lock>) {
    app.store().lock(&scope);
}

async fn unlock(State(app): Shared) {
    app.store().unlock();
}

#[derive(Deserialize)]
struct Client {
    client: Uuid,
}

async fn expire_tokens(State(app): Shared, Query(Client { client }): Query<Client>) {
    app.tokens().expire(client, Instant::now());
}

async fn state(State(app): Shared) -> Json<Value> {
    Json(app.store().snapshot())
}
