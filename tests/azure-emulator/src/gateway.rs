//! The way of a request: fault, authentication, the operation, and the time it takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::arm::ArmRequest;
use crate::arm_error::ArmError;
use crate::bearer::Api;
use crate::graph::GraphRequest;
use crate::oauth_error::OAuthError;
use crate::route::Route;
use crate::{admin, entra};

/// Largest body read; no request of the imitated operations comes near it.
const MAX_BODY: usize = 1 << 20;

/// Everything the emulator serves.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .nest("/admin", admin::router())
        .fallback(answer)
        .with_state(app)
}

async fn answer(State(app): State<Arc<App>>, request: Request) -> Response {
    let arrived = now();
    let (parts, body) = request.into_parts();
    let route = Route::parse(parts.uri.path());
    let operation = route.operation(&parts.method);
    let note = |status: u16| {
        let client = text(&parts, &header::USER_AGENT).unwrap_or_default();
        let path = parts.uri.path();
        app.journal()
            .add(client, &parts.method, path, &operation, status);
        tracing::info!(method = %parts.method, path, operation, status);
    };

    let fault = app.faults().take(&operation, parts.uri.path());
    let response = match fault {
        Some(fault) => {
            if fault.silent() {
                note(0);
                return fault.answer(false).await;
            }
            fault.answer(matches!(route, Route::Token { .. })).await
        }
        None => match axum::body::to_bytes(body, MAX_BODY).await {
            Ok(body) => dispatch(&app, &parts, &route, &body, arrived).await,
            Err(error) => ArmError::invalid_content(error).into_response(),
        },
    };
    note(response.status().as_u16());

    let writes = matches!(route, Route::Credential(..)) && parts.method != Method::GET;
    let time = if writes && response.status().is_success() {
        app.settings().write_time()
    } else {
        app.settings().latency()
    };
    tokio::time::sleep_until((arrived + time).into()).await;
    with_azure_headers(response)
}

async fn dispatch(app: &App, parts: &Parts, route: &Route, body: &[u8], now: Instant) -> Response {
    let own_url = own_url(parts);
    match (route, &parts.method) {
        (Route::Token { tenant }, &Method::POST) => entra::exchange(app, tenant, &decode(body))
            .await
            .unwrap_or_else(OAuthError::into_response),
        (Route::OpenIdConfiguration { tenant }, &Method::GET) => {
            Json(entra::openid_configuration(&own_url, tenant)).into_response()
        }
        (Route::CloudMetadata, &Method::GET) => Json(cloud_metadata(&own_url)).into_response(),
        _ => {
            let authorization = text(parts, &header::AUTHORIZATION);
            let api = match route {
                Route::Graph(_) => Api::Graph,
                _ => Api::ResourceManager,
            };
            let authenticated = app.tokens().authenticate(authorization, api, &own_url, now);
            let caller = match authenticated {
                Ok(caller) => caller,
                Err(error) => return challenge(error, &own_url),
            };
            if let Route::Graph(route) = route {
                let request = GraphRequest {
                    method: &parts.method,
                    route,
                    prefer: text(parts, &HeaderName::from_static("prefer")),
                    body,
                    caller: &caller,
                    now,
                };
                return request.answer(app).unwrap_or_else(ArmError::into_response);
            }
            ArmRequest {
                method: &parts.method,
                uri: &parts.uri,
                query: &decode(parts.uri.query().unwrap_or_default().as_bytes()),
                route,
                body,
                caller: &caller,
                own_url: &own_url,
                now,
            }
            .answer(app)
            .unwrap_or_else(ArmError::into_response)
        }
    }
}

/// Tokio's time: a simulation runs on a clock of its own.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Pairs of a query or of a form.
fn decode(pairs: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(pairs).into_owned().collect()
}

fn text<'a>(parts: &'a Parts, name: &HeaderName) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// This server's URL as the client knows it, so that links lead back here.
fn own_url(parts: &Parts) -> String {
    format!("https://{}", text(parts, &header::HOST).unwrap_or_default())
}

/// A 401 that names where to get a token, as ARM's does.
fn challenge(error: ArmError, own_url: &str) -> Response {
    let challenge = format!(
        r#"Bearer authorization_uri="{own_url}/common", error="invalid_token", error_description="{}""#,
        error.message
    );
    let mut response = error.into_response();
    if let Ok(value) = HeaderValue::try_from(challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// What azure-cli reads of a cloud when it logs in; it insists on an object.
fn cloud_metadata(own_url: &str) -> Value {
    json!({
        "name": "AzureEmulator",
        "resourceManager": own_url,
        "authentication": {
            "loginEndpoint": own_url,
            "audiences": [own_url],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "suffixes": {},
    })
}

/// Headers that Azure adds to every answer. The subscription's limits are
/// not imitated: what remains of them never falls.
fn with_azure_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(Uuid::new_v4().to_string()) {
        headers.insert("x-ms-request-id", id);
    }
    for (name, remaining) in [
        ("x-ms-ratelimit-remaining-subscription-reads", 249),
        ("x-ms-ratelimit-remaining-subscription-writes", 199),
        ("x-ms-ratelimit-remaining-subscription-deletes", 199),
    ] {
        headers.insert(name, HeaderValue::from(remaining));
    }
    response
}
