//! The way from an operator to the API server and back.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use airflow_workload_identity::client::{SILENCE, WATCH};
use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::api_server::{ApiServer, Watch};
use crate::met::Event;
use crate::operators::Link;
use crate::weather::What;

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// One operator's connection to the API server.
#[derive(Clone)]
pub struct ClusterLink(pub Arc<Link>);

impl Service<Request<Body>> for ClusterLink {
    type Response = Answer;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Answer, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    /// On its own from here on: an operator that dies takes no request back that it has sent.
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        let link = self.0.clone();
        tokio::spawn(async move {
            if let Some(result) = carry(&link, request).await {
                let _ = answer.send(result);
            } else {
                // The other side says nothing, for as long as anybody waits.
                let mut answer = answer;
                answer.cancellation().await;
            }
        });
        let link = self.0.clone();
        async move {
            let answer = timeout(SILENCE, answered).await;
            link.is_awake().await;
            match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(io::ErrorKind::ConnectionReset.into()),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
        .boxed()
    }
}

/// None: no answer ever comes.
async fn carry(link: &Arc<Link>, request: Request<Body>) -> Option<Result<Answer, io::Error>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let request = Request::from_parts(parts, body);
    link.is_awake().await;
    let reset = || Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    let fate = link.world.fate(&request);
    sleep(fate.before).await;
    if link.is_cut_from_cluster() {
        return None;
    }
    if let Some(watch) = ApiServer::watch(&request) {
        return match fate.what {
            What::LostThere | What::LostBack => reset(),
            What::Silence => Some(Ok(stream(link.clone(), watch, Duration::MAX))),
            _ => Some(Ok(stream(link.clone(), watch, Duration::ZERO))),
        };
    }
    let path = request.uri().path();
    let changes_nothing = path.contains("/leases") || path.ends_with("/token");
    let is_write = request.method() != http::Method::GET && !changes_nothing;
    if is_write {
        let state = &mut *link.world.state();
        state.rules.writes += 1;
        state.met.add_write(fate.what);
    }
    let answer = match fate.what {
        What::LostThere => return reset(),
        What::Refused(409, _) if request.method() == http::Method::GET => refusal(503, None),
        What::Refused(status, retry) => refusal(status, retry),
        What::Doubted(status) => {
            effect(link, &request);
            refusal(status, None)
        }
        What::Twice => {
            effect(link, &request);
            sleep(fate.before).await;
            effect(link, &request)
        }
        What::Passes | What::LostBack | What::Silence => effect(link, &request),
    };
    link.world.tell(|| {
        let (method, path, status) = (request.method(), request.uri(), answer.status());
        format!("{}: {method} {path} → {status} {:?}", link.name, fate.what)
    });
    if is_write && answer.status() == http::StatusCode::CONFLICT {
        link.world.met(Event::ClusterConflict);
    }
    sleep(fate.after).await;
    match fate.what {
        What::LostBack => reset(),
        What::Silence => None,
        _ if link.is_cut_from_cluster() => None,
        _ => {
            link.heard(&request, &answer);
            let (parts, body) = answer.into_parts();
            let body = Full::new(Bytes::from(body)).map_err(impossible);
            Some(Ok(Response::from_parts(parts, body.boxed_unsync())))
        }
    }
}

/// The moment at which the API server does what it is asked for.
fn effect(link: &Link, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
    let answer = {
        let state = &mut *link.world.state();
        let before = state.api.changes().len();
        let answer = state.api.answer(request, Timestamp::now());
        let led = state.rules.leader().map(str::to_owned);
        state.rules.note_changes(&state.api, before, Some(link));
        for change in &state.api.changes()[before..] {
            state.met.add_change(&state.api, change);
        }
        if led.is_some() && state.rules.leader() != led.as_deref() {
            state.met.add(Event::LeaderChanged);
        }
        answer
    };
    link.world.news.notify_waiters();
    answer
}

fn refusal(status: u16, retry_after: Option<u32>) -> Response<Vec<u8>> {
    let reason = if status == 409 {
        "Conflict"
    } else {
        "InternalError"
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the simulation refuses", "reason": reason, "code": status,
    });
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = body.to_string().into_bytes();
    response.body(body).expect("a valid response")
}

/// A watch: events come late, and it may break at any of them.
fn stream(link: Arc<Link>, watch: Watch, silent_for: Duration) -> Answer {
    let (events, body) = mpsc::unbounded::<Result<Frame<Bytes>, io::Error>>();
    tokio::spawn(async move {
        if timeout(SILENCE, sleep(silent_for)).await.is_err() {
            let _ = events.unbounded_send(Err(io::ErrorKind::TimedOut.into()));
            return;
        }
        // API servers end a watch after a while.
        let _ = timeout(
            Duration::from_secs(WATCH.into()),
            pump(&link, &watch, &events),
        )
        .await;
    });
    Response::new(StreamBody::new(body.boxed()).boxed_unsync())
}

async fn pump(
    link: &Link,
    watch: &Watch,
    events: &mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>,
) {
    let mut seen = watch.from;
    loop {
        let delay = {
            let state = &mut *link.world.state();
            state.weather.delay(&mut state.rng)
        };
        sleep(delay).await;
        if events.is_closed() {
            return;
        }
        let mut silent_for = Duration::ZERO;
        while link.is_cut_from_cluster() {
            sleep(Duration::from_secs(1)).await;
            silent_for += Duration::from_secs(1);
            if silent_for >= SILENCE {
                let _ = events.unbounded_send(Err(io::ErrorKind::TimedOut.into()));
                return;
            }
            if events.is_closed() {
                return;
            }
        }
        let (until, breaks) = {
            let state = &mut *link.world.state();
            let breaks = state.weather.breaks_watch(&mut state.rng);
            (state.api.version(), breaks)
        };
        if breaks {
            link.world.met(Event::WatchBroken);
            let _ = events.unbounded_send(Err(io::ErrorKind::ConnectionReset.into()));
            return;
        }
        let news = link.world.state().api.events(watch, seen, until);
        let news = match news {
            Ok(news) => news,
            Err(expired) => {
                link.world.met(Event::WatchExpired);
                let _ = events.unbounded_send(Ok(Frame::data(expired.event.into())));
                return;
            }
        };
        for (_, line) in news {
            if events.unbounded_send(Ok(Frame::data(line.into()))).is_err() {
                return;
            }
        }
        seen = seen.max(until);
        link.watched(watch, seen);
        let mut news = pin!(link.world.news.notified());
        news.as_mut().enable();
        if link.world.state().api.version() == seen {
            news.await;
        }
    }
}

fn impossible(never: Infallible) -> io::Error {
    match never {}
}
