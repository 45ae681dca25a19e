//! A Kubernetes API server in memory, as far as the operator needs it: a state machine that does one
//! request at a time, without a clock of its own.

mod core_event;
mod crd;
mod defaults;
mod fields;
mod garbage;
mod kinds;
mod managed;
mod merge;
mod read;
mod refusal;
mod request;
mod schema;
mod selector;
mod store;
mod strategy;
mod token;
mod watch;
mod write;

use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use store::Change;
pub use watch::{Expired, Watch};

use kinds::{Kind, stored_kind};
use refusal::Refusal;
use request::Target;
use store::{Store, key};

/// A Kubernetes API server in memory. Every request takes effect at one moment.
#[derive(Debug)]
pub struct ApiServer {
    store: Store,
    issuer: String,
}

/// What a request is answered with.
pub(crate) struct Answer {
    code: u16,
    body: Vec<u8>,
}

impl Answer {
    fn json(code: u16, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self { code, body }
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// An empty one: not even a namespace is there.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: Store::new(),
            issuer: "https://issuer.example/".into(),
        }
    }

    /// Signs tokens in this name from now on.
    pub fn set_issuer(&mut self, issuer: impl Into<String>) {
        self.issuer = issuer.into();
    }

    /// Answers any request but a watch; what it changes is changed when it returns.
    pub fn answer(&mut self, request: &Request<Vec<u8>>, now: Timestamp) -> Response<Vec<u8>> {
        let answer = match discovery(&self.issuer, request) {
            Some(answer) => Ok(answer),
            None => self.dispatch(request, now),
        };
        response(answer)
    }

    /// Answers a GET or a list by the state at an older version, as an API server whose cache lags
    /// behind does. None if it is no read, or if that state is forgotten.
    #[must_use]
    pub fn answer_stale(
        &self,
        request: &Request<Vec<u8>>,
        version: u64,
    ) -> Option<Response<Vec<u8>>> {
        let is_read = request.method() == Method::GET && Self::watch(request).is_none();
        if !is_read || version < self.store.compacted() {
            return None;
        }
        if let Some(answer) = discovery(&self.issuer, request) {
            return Some(response(Ok(answer)));
        }
        let answer = Target::of(request).and_then(|target| {
            read::answer(&self.store, &target, version.min(self.store.version()))
        });
        Some(response(answer))
    }

    fn dispatch(&mut self, request: &Request<Vec<u8>>, now: Timestamp) -> Result<Answer, Refusal> {
        let target = Target::of(request)?;
        if let Some("token") = target.subresource {
            return token::answer(&self.store, &self.issuer, request, &target, now);
        }
        match *request.method() {
            Method::GET => read::answer(&self.store, &target, self.store.version()),
            Method::POST => self.store.create(request, &target, now),
            Method::PUT => self.store.replace(request, &target, now),
            Method::PATCH => self.store.patch(request, &target, now),
            Method::DELETE => self.store.delete(request, &target, now),
            _ => Err(Refusal::no_such_method()),
        }
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.store.version()
    }

    /// Forgets history before this version: older watches and reads expire.
    pub fn compact(&mut self, version: u64) {
        self.store.compact(version);
    }

    /// Every change in order, since the beginning.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        self.store.changes()
    }

    /// An object as it is. Events are those of `events.k8s.io`.
    #[must_use]
    pub fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> Option<&Value> {
        let kind = stored_kind(plural)?;
        self.store
            .get(kind, &key(namespace, name))
            .map(AsRef::as_ref)
    }

    /// All objects of a kind.
    pub fn list(&self, plural: &str) -> impl Iterator<Item = &Value> {
        let kind: Option<&'static Kind> = stored_kind(plural);
        let all = kind.map(|kind| self.store.all(kind));
        all.into_iter().flatten().map(|(_, object)| object.as_ref())
    }

    /// What the garbage collector and the namespace controller do, one step: what is owned by what
    /// is gone goes, and so does what is in a namespace that ends.
    pub fn collect_garbage(&mut self, now: Timestamp) {
        garbage::collect(&mut self.store, now);
    }
}

fn discovery(issuer: &str, request: &Request<Vec<u8>>) -> Option<Answer> {
    let is_asked = request.uri().path() == "/.well-known/openid-configuration";
    is_asked.then(|| {
        let document = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        Answer::json(200, &document)
    })
}

fn response(answer: Result<Answer, Refusal>) -> Response<Vec<u8>> {
    let answer = answer.unwrap_or_else(|refusal| Answer::json(refusal.code(), &refusal.body()));
    let mut response = Response::new(answer.body);
    *response.status_mut() =
        StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
