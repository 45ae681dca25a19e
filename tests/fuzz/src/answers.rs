//! A server in this process, which answers as the input says:
//!
//! ```text
//! <call>
//! <status> <Retry-After>
//! <body>
//! ===
//! <status>
//! <body of the next answer>
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use airflow_workload_identity::{
    azure::{AzureClient, AzureError, AzureErrorKind, Cloud, CloudName, Overrides},
    model::FederatedCredential,
};
use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, HttpClient, Request, StatusCode, Transport, Url,
        headers::{HeaderName, HeaderValue, Headers},
    },
    time::{Duration, OffsetDateTime},
};
use serde::{Deserialize, de::IgnoredAny};
use tokio::runtime::{Builder, Runtime};

/// The operator's own token; it must show nowhere.
pub const TOKEN: &str = "eyJhbGciOiJub25lIn0.the-operators-own.token";
/// No call takes more requests: fifty pages, and a sign-in.
const MOST: usize = 51;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What the input says.
pub struct Script {
    pub call: String,
    pub answers: Vec<Answer>,
}

impl Script {
    pub fn read(input: &[u8]) -> Self {
        let (call, rest) = line(input);
        let mut answers: Vec<Answer> = Vec::new();
        let mut is_head = true;
        for text in rest.split_inclusive(|byte| *byte == b'\n') {
            let is_end = text.strip_suffix(b"\n").unwrap_or(text) == b"===";
            if is_end {
                is_head = true;
            } else if is_head {
                answers.push(answer(text));
                is_head = false;
            } else if let Some(last) = answers.last_mut() {
                last.body.extend(text);
            }
        }
        if answers.is_empty() {
            answers.push(answer(b"200"));
        }
        Self { call, answers }
    }

    pub fn server(self) -> Arc<Server> {
        Arc::new(Server {
            answers: self.answers,
            asked: Mutex::default(),
        })
    }
}

fn line(input: &[u8]) -> (String, &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + 1..]));
    (String::from_utf8_lossy(line).into_owned(), rest)
}

fn answer(head: &[u8]) -> Answer {
    let head = String::from_utf8_lossy(head);
    let (status, retry_after) = head
        .trim_end()
        .split_once(' ')
        .unwrap_or((head.trim_end(), ""));
    Answer {
        status: status.parse().unwrap_or(200),
        retry_after: Some(retry_after.to_owned()).filter(|value| !value.is_empty()),
        body: Vec::new(),
    }
}

/// Gives its answers in turn, and the last one for ever.
#[derive(Debug)]
pub struct Server {
    answers: Vec<Answer>,
    asked: Mutex<Vec<Url>>,
}

impl Server {
    pub fn asked(&self) -> Vec<Url> {
        self.asked.lock().unwrap().clone()
    }

    /// The answer that the last of the requests got.
    pub fn last(&self) -> &Answer {
        let asked = self.asked.lock().unwrap().len();
        let last = asked.min(self.answers.len()).saturating_sub(1);
        &self.answers[last]
    }
}

#[async_trait]
impl HttpClient for Server {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let answer = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.url().clone());
            assert!(asked.len() <= MOST, "it asks for ever: {asked:?}");
            let position = asked.len().min(self.answers.len()) - 1;
            self.answers[position].clone()
        };
        let mut headers = Headers::new();
        if let Some(value) = answer.retry_after {
            let name = HeaderName::from_static("retry-after");
            headers.insert(name, HeaderValue::from(value));
        }
        let status = StatusCode::from(answer.status);
        Ok(AsyncRawResponse::from_bytes(status, headers, answer.body))
    }
}

#[derive(Debug)]
struct SignedIn;

#[async_trait]
impl TokenCredential for SignedIn {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + Duration::hours(10);
        Ok(AccessToken::new(TOKEN.to_owned(), expires))
    }
}

pub fn cloud() -> Cloud {
    Cloud::new(CloudName::Public, Overrides::default()).unwrap()
}

/// A client that has signed in.
pub fn client(server: Arc<dyn HttpClient>) -> AzureClient {
    let (cloud, signed_in): (_, Arc<dyn TokenCredential>) = (cloud(), Arc::new(SignedIn));
    let transport = Transport::new(server);
    AzureClient::new(&cloud, cloud.graph.as_ref(), &transport, &signed_in)
}

/// Runs what is asynchronous. Nothing in it waits for anything but itself.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// What must hold of any call to a REST API of Azure's, and what came of it.
pub fn holds<T: fmt::Debug>(
    server: &Server,
    origin: &str,
    outcome: Result<T, AzureError>,
) -> Option<T> {
    for url in server.asked() {
        assert_eq!(
            url.origin().ascii_serialization(),
            origin,
            "the token went to {url}"
        );
    }
    let last = server.last();
    let error = match outcome {
        Ok(value) => {
            assert!(last.is_success(), "{last:?} was taken for {value:?}");
            return Some(value);
        }
        Err(error) => error,
    };
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    assert!(!shown.is_empty());
    assert!(!shown.contains(TOKEN) && !debug.contains(TOKEN), "{shown}");
    if last.is_success() {
        // The answer, not what it says, is what is wrong.
        assert_eq!(error.status, None, "{shown}");
        let unreadable =
            shown.contains("cannot be read") && error.kind == AzureErrorKind::Unavailable;
        let endless = ["does not end", "not followed"]
            .iter()
            .any(|words| shown.contains(words));
        assert!(
            unreadable || endless && error.kind == AzureErrorKind::Unexpected,
            "{error:?}"
        );
        return None;
    }
    assert_eq!(error.status, Some(last.status));
    assert!(shown.starts_with(&last.status.to_string()), "{shown}");
    let kind = kinds(last.status);
    assert!(kind.contains(&error.kind), "{error:?}");
    if error.kind == AzureErrorKind::NotFound {
        let code = error.code.as_deref().unwrap_or_default();
        let says_so = code.to_ascii_lowercase().ends_with("notfound");
        assert!(says_so, "who has no such page is not Azure: {error:?}");
    }
    let longest = std::time::Duration::from_secs(300);
    assert!(
        error.retry_after.is_none_or(|wait| wait <= longest),
        "{error:?}"
    );
    None
}

fn kinds(status: u16) -> &'static [AzureErrorKind] {
    use AzureErrorKind as Kind;
    match status {
        400 => &[
            Kind::Invalid,
            Kind::DuplicateSubject,
            Kind::LimitReached,
            Kind::WrongTenant,
        ],
        401 => &[Kind::Unauthenticated, Kind::WrongTenant],
        403 => &[Kind::Forbidden, Kind::PolicyDenied],
        404 => &[Kind::NotFound, Kind::Unexpected],
        405 => &[Kind::UnsupportedRegion],
        409 => &[Kind::ConcurrentWrite, Kind::Outdated, Kind::Locked],
        429 => &[Kind::Throttled],
        408 | 500.. => &[Kind::Unavailable],
        _ => &[Kind::Unexpected],
    }
}

/// Of a page, how many there are on it.
#[derive(Deserialize)]
struct Page {
    value: Vec<IgnoredAny>,
}

/// A list was read to its end, and no page twice.
pub fn is_whole(server: &Server, credentials: &[FederatedCredential]) {
    let asked = server.asked();
    assert!(asked.len() <= 50, "{}", asked.len());
    let listed = server
        .answers
        .iter()
        .chain(std::iter::repeat(server.last()))
        .take(asked.len());
    let mut in_answers = 0;
    for answer in listed {
        // What is not looked at may be no text at all.
        let text = String::from_utf8_lossy(&answer.body);
        let page: Page = serde_json::from_str(&text).unwrap();
        in_answers += page.value.len();
    }
    assert_eq!(credentials.len(), in_answers);
}
