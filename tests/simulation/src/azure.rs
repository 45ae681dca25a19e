//! Azure, which is the emulator in this process, and the way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use axum::response::IntoResponse as _;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use azure_core::time::{Duration as Span, OffsetDateTime};
use azure_emulator::app::App;
use azure_emulator::bearer::Caller;
use azure_emulator::issuers::Issuers;
use azure_emulator::settings::Settings;
use azure_emulator::store::Store;
use futures::poll;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::entra;
use crate::met::Event;
use crate::names::CredentialPath;
use crate::operators::Link;
use crate::rules::Known;
use crate::weather::What;

/// As `--azure-timeout` is by default.
const TIMEOUT: Duration = Duration::from_secs(30);
pub const ENDPOINT: &str = "https://management.azure.com";
/// What a write occupies its identity for.
const WRITE_WINDOW: u64 = 40;
const API_VERSION: &str = "2024-11-30";
/// How long a write has to wait that Azure puts off: long enough for the operator to be told of what changes
/// meanwhile, and not longer than a write waits for its turn.
pub const PUT_OFF: Duration = Duration::from_secs(14);

/// A client is costly, and nobody uses it.
static ISSUERS: LazyLock<Arc<Issuers>> =
    LazyLock::new(|| Arc::new(Issuers::new(Vec::new()).expect("a client")));

pub struct Azure {
    app: Arc<App>,
    router: axum::Router,
    caller: Caller,
    /// The identities of which the operator may not write the credentials, or not even read: whether it may.
    barred: Mutex<BTreeMap<String, bool>>,
    /// The identities whose next write by an operator is put off.
    put_off: Mutex<BTreeSet<String>>,
}

impl Azure {
    /// Azure; Entra learns of a credential's change only so many milliseconds later.
    pub fn new(throttle: bool, propagation_ms: u64) -> Self {
        let settings = Settings {
            throttle,
            latency_ms: 0,
            write_window_ms: WRITE_WINDOW,
            propagation_ms,
            page_size: const { std::num::NonZeroUsize::new(100).unwrap() },
        };
        let app = Arc::new(App::new(Store::default(), ISSUERS.clone(), settings));
        Self {
            router: azure_emulator::gateway::router(app.clone()),
            caller: Caller {
                tenant: Uuid::from_u128(1),
                client: Uuid::from_u128(2),
                principal: Uuid::from_u128(3),
            },
            app,
            barred: Mutex::default(),
            put_off: Mutex::default(),
        }
    }

    fn token(&self) -> String {
        let now = azure_emulator::gateway::now();
        self.app.tokens().issue(self.caller.clone(), ENDPOINT, now)
    }

    /// Carries a request out.
    async fn answer(&self, request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
        let answer = if is_exchange(&request) {
            let exchanged = entra::exchange(&self.app, &request);
            exchanged.map(axum::Json).into_response()
        } else {
            let request = request.map(axum::body::Body::from);
            let Ok(answer) = self.router.clone().oneshot(request).await;
            answer
        };
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        http::Response::from_parts(parts, body.to_vec())
    }

    /// A person with `az`, or another cluster's operator: it arrives at once.
    pub async fn az(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?api-version={API_VERSION}"))
            .header("host", "management.azure.com")
            .header("authorization", format!("Bearer {}", self.token()))
            .body(if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            })
            .expect("a valid request");
        let answer = self.answer(request).await;
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        (answer.status().as_u16(), body)
    }

    /// Every identity with its credentials, as it is.
    pub fn state(&self) -> Value {
        self.app.store().snapshot()
    }

    /// The operator's role on the identity of this ID is taken away, or exchanged for a reader's.
    pub fn bar(&self, identity: &str, may_read: bool) {
        self.barred()
            .insert(identity.to_ascii_lowercase(), may_read);
    }

    /// It has its roles again.
    pub fn unbar(&self) {
        self.barred().clear();
    }

    /// The next write of an operator's to the identity of this ID has to wait.
    pub fn put_off(&self, identity: &str) {
        self.waits().insert(identity.to_ascii_lowercase());
    }

    /// Whether one was told to.
    pub fn has_put_off(&self, identity: &str) -> bool {
        !self.waits().contains(&identity.to_ascii_lowercase())
    }

    /// None has to wait.
    pub fn put_off_no_more(&self, identity: &str) {
        self.waits().remove(&identity.to_ascii_lowercase());
    }

    fn is_put_off(&self, request: &http::Request<Vec<u8>>) -> bool {
        CredentialPath::of(request).is_some_and(|path| self.waits().remove(&path.identity))
    }

    fn waits(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_barred(&self, request: &http::Request<Vec<u8>>) -> bool {
        let path = request.uri().path().to_ascii_lowercase();
        let is_read = request.method() == http::Method::GET;
        let barred = self.barred();
        let mut barred = barred
            .iter()
            .filter(|(identity, _)| path.starts_with(*identity));
        barred.any(|(_, may_read)| !(is_read && *may_read))
    }

    fn barred(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Azure answers no faster than it documents, or as fast as it can.
    pub fn throttle(&self, is_on: bool) {
        self.app.settings().throttle = is_on;
    }
}

/// The operator's own sign-in.
pub struct SignIn(pub Arc<Link>);

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn")
    }
}

#[async_trait]
impl TokenCredential for SignIn {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + Span::seconds(3599);
        Ok(AccessToken::new(self.0.world.azure.token(), expires))
    }
}

/// One operator's connection to Azure.
pub struct AzureLink(pub Arc<Link>);

impl fmt::Debug for AzureLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureLink")
    }
}

#[async_trait]
impl HttpClient for AzureLink {
    /// On its own once it is sent: an operator that dies, or waits no longer, takes nothing back.
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let link = self.0.clone();
        let request = plain(request);
        self.0.is_awake().await;
        let _under_way = self.0.sends(&request);
        let known = link.known();
        let way = tokio::spawn(async move { carry(&link, request, known).await });
        let answer = timeout(TIMEOUT, way).await;
        self.0.is_awake().await;
        let answer = match answer {
            Ok(Ok(Some(answer))) => answer,
            Ok(_) => return Err(io_error("the connection was reset")),
            Err(_) => return Err(io_error("no answer in time")),
        };
        let (parts, body) = answer.into_parts();
        let mut headers = Headers::new();
        for (name, value) in &parts.headers {
            let value = value.to_str().unwrap_or_default().to_owned();
            headers.insert(
                HeaderName::from(name.as_str().to_owned()),
                HeaderValue::from(value),
            );
        }
        let status = StatusCode::from(parts.status.as_u16());
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}

/// None: the connection breaks.
async fn carry(
    link: &Arc<Link>,
    request: http::Request<Vec<u8>>,
    known: Known,
) -> Option<http::Response<Vec<u8>>> {
    let fate = link.world.fate(&request);
    sleep(fate.before).await;
    if link.is_cut_from_azure() {
        std::future::pending::<()>().await;
    }
    let is_write = request.method() != http::Method::GET && !is_exchange(&request);
    if is_write {
        let state = &mut *link.world.state();
        state.rules.writes += 1;
        state.met.add_write(fate.what);
    }
    let answer = match fate.what {
        What::LostThere => return None,
        _ if link.world.azure.is_barred(&request) => refusal(403, None),
        _ if is_write && link.world.azure.is_put_off(&request) => {
            refusal(429, Some(PUT_OFF.as_secs()))
        }
        What::Refused(409, _) if is_write => refusal(409, None),
        What::Refused(409, _) => refusal(503, None),
        What::Refused(status, retry) => refusal(status, retry.map(u64::from)),
        What::Doubted(status) => {
            effect(link, &request, known).await;
            refusal(status, None)
        }
        What::Twice => {
            effect(link, &request, known).await;
            sleep(fate.before).await;
            effect(link, &request, known).await
        }
        What::Passes | What::LostBack | What::Silence => effect(link, &request, known).await,
    };
    link.world.tell(|| {
        let (method, path, status) = (request.method(), request.uri().path(), answer.status());
        format!("{}: {method} {path} → {status} {:?}", link.name, fate.what)
    });
    let event = match (request.method().as_str(), answer.status().as_u16()) {
        ("GET", 403) => Some(Event::ListForbidden),
        ("PUT", 403) => Some(Event::PutForbidden),
        ("DELETE", 403) => Some(Event::DeleteForbidden),
        ("PUT" | "DELETE", 409) => Some(Event::AzureConflict),
        (_, 429) => Some(Event::AzureThrottled),
        ("POST", 200) => Some(Event::Exchanged),
        ("POST", 401) => Some(Event::NotExchanged),
        _ => None,
    };
    if let Some(event) = event {
        link.world.met(event);
    }
    sleep(fate.after).await;
    match fate.what {
        What::LostBack => return None,
        What::Silence => std::future::pending::<()>().await,
        _ => {}
    }
    link.learns(&request, &answer);
    Some(answer)
}

/// The moment at which Azure does what it is asked for.
async fn effect(
    link: &Link,
    request: &http::Request<Vec<u8>>,
    known: Known,
) -> http::Response<Vec<u8>> {
    let azure = &link.world.azure;
    if request.method() == http::Method::GET || is_exchange(request) {
        return azure.answer(request.clone()).await;
    }
    let before = azure.state();
    let mut answer = pin!(azure.answer(request.clone()));
    // It is done at once, and answered a while later.
    let answered = poll!(answer.as_mut());
    let after = azure.state();
    {
        let state = &mut *link.world.state();
        let event = state
            .rules
            .note_azure(&state.api, link, known, request, [&before, &after]);
        if let Some(event) = event {
            state.met.add(event);
        }
    }
    match answered {
        Poll::Ready(answer) => answer,
        Poll::Pending => answer.await,
    }
}

fn is_exchange(request: &http::Request<Vec<u8>>) -> bool {
    request.uri().path().ends_with(entra::PATH)
}

fn refusal(status: u16, retry_after: Option<u64>) -> http::Response<Vec<u8>> {
    let code = if status == 409 {
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    } else {
        "Simulated"
    };
    let body = json!({ "error": { "code": code, "message": "the simulation refuses" } });
    let mut response = http::Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = body.to_string().into_bytes();
    response.body(body).expect("a valid response")
}

fn plain(request: &Request) -> http::Request<Vec<u8>> {
    let url = request.url();
    let mut plain = http::Request::builder()
        .method(request.method().as_str())
        .uri(request.path_and_query())
        .header("host", url.host_str().unwrap_or_default());
    for (name, value) in request.headers().iter() {
        plain = plain.header(name.as_str(), value.as_str());
    }
    let body = match request.body() {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::SeekableStream(_) => Vec::new(),
    };
    plain.body(body).expect("a valid request")
}

fn io_error(what: &str) -> azure_core::Error {
    azure_core::Error::with_message(ErrorKind::Io, what.to_owned())
}
