//! One address of the proxy: TLS to either side, HTTP/1.1, and the rule in between.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::fate::{Fate, dropped, until};
use super::{Side, Traffic};
use crate::http;
use crate::pki::{Authority, KeyFiles};

/// Ends when it is dropped.
pub(super) struct Front {
    url: String,
    handle: Handle<SocketAddr>,
}

impl Front {
    pub(super) fn start(
        authority: &Authority,
        side: Side,
        upstream: String,
        traffic: &Arc<Traffic>,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let serving = authority.serving(&format!("proxy-{}", address.port()))?;
        let handler = Arc::new(Handler {
            side,
            upstream,
            http: http::client(authority.certificate())?,
            traffic: Arc::clone(traffic),
        });
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, server_config(&serving)?)?
            .handle(handle.clone())
            .serve(
                Router::new()
                    .fallback(serve)
                    .with_state(handler)
                    .into_make_service(),
            );
        tokio::spawn(server);
        Ok(Self {
            url: format!("https://{address}"),
            handle,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// Only HTTP/1.1 is offered: one request at a time on a connection, which can then be dropped for its sake.
fn server_config(files: &KeyFiles) -> Result<RustlsConfig> {
    let chain = vec![CertificateDer::from_pem_file(&files.public)?];
    let key = PrivateKeyDer::from_pem_file(&files.private)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

struct Handler {
    side: Side,
    upstream: String,
    http: reqwest::Client,
    traffic: Arc<Traffic>,
}

async fn serve(State(handler): State<Arc<Handler>>, request: Request) -> Response {
    let mut is_cut = handler.traffic.cut.subscribe();
    let answer = tokio::select! {
        answer = handler.answer(request) => answer,
        _ = is_cut.changed() => dropped(),
    };
    answer.map(|body| until(is_cut, body))
}

impl Handler {
    async fn answer(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return dropped();
        };
        let traffic = &self.traffic;
        let seen = traffic.note(self.side, &head);
        let fate = traffic.judge(&seen, false).await;
        if fate.is_own() {
            return fate.befall(None).await;
        }
        let Ok(answer) = self.forward(head, body).await else {
            return dropped();
        };
        let fate = match fate {
            Fate::PassThenHold => traffic.judge(&seen, true).await,
            fate => fate,
        };
        fate.befall(Some(answer)).await
    }

    /// In a task of its own: what was passed on arrives, even if nobody waits for the answer any more.
    async fn forward(&self, head: Parts, body: Bytes) -> Result<Response> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = head.headers;
        strip(&mut headers);
        headers.remove(header::CONTENT_LENGTH);
        let request = self
            .http
            .request(head.method, format!("{}{path}", self.upstream))
            .headers(headers)
            .body(body);
        let answer = tokio::spawn(request.send()).await??;
        let mut answer = axum::http::Response::from(answer).map(Body::new);
        strip(answer.headers_mut());
        Ok(answer)
    }
}

/// What concerns one connection only.
fn strip(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}
