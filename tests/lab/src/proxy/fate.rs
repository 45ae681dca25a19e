//! What becomes of a request.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::{Stream, StreamExt, future, stream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What becomes of a request.
pub enum Fate {
    /// It is passed on, and so is the answer.
    Pass,
    /// It waits, and is not passed on, until the rule says something else.
    Hold,
    /// It is passed on, but its answer waits until the rule says something else.
    PassThenHold,
    /// It is not passed on; this is the answer.
    Answer(Response),
    /// It is not passed on, and never answered.
    Hang,
    /// It is not passed on; the connection ends without an answer. After [`Fate::PassThenHold`] it was passed on.
    Reset,
    /// The connection ends after so many bytes of the answer's body.
    Truncate(usize),
    /// Nothing more comes after so many bytes of the answer's body, but the connection stays.
    Stall(usize),
    /// The body of the answer is another one.
    Map(Box<dyn FnOnce(Bytes) -> Vec<u8> + Send>),
}

impl Fate {
    /// An answer of the test's own, JSON unless a header says otherwise.
    ///
    /// # Panics
    /// There is no such status or header.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Self {
        let mut answer = Response::new(body.into());
        *answer.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
        let all = [("content-type", "application/json")];
        for (name, value) in all.iter().chain(headers) {
            let name: HeaderName = name.parse().expect("a header's name");
            let value = HeaderValue::from_str(value).expect("a header's value");
            answer.headers_mut().insert(name, value);
        }
        Self::Answer(answer)
    }

    /// Whether the request waits: before it is passed on, or with its answer at hand.
    pub(super) fn holds(&self, has_answer: bool) -> bool {
        matches!(self, Self::Hold) || has_answer && matches!(self, Self::PassThenHold)
    }

    /// Whether it is for the test alone to say what is answered.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::Hang | Self::Reset)
    }

    /// What is answered, given the answer of upstream if it was passed on.
    pub(super) async fn befall(self, answer: Option<Response>) -> Response {
        match (self, answer) {
            (Self::Answer(own), _) => own,
            (Self::Hang, _) => future::pending().await,
            (Self::Truncate(bytes), Some(answer)) => {
                answer.map(|body| start_of(body, bytes, stream::once(cut_later())))
            }
            (Self::Stall(bytes), Some(answer)) => {
                answer.map(|body| start_of(body, bytes, stream::pending()))
            }
            (Self::Map(map), Some(answer)) => {
                let (mut head, body) = answer.into_parts();
                match to_bytes(body, usize::MAX).await {
                    Ok(body) => {
                        head.headers.remove(header::CONTENT_LENGTH);
                        Response::from_parts(head, map(body).into())
                    }
                    Err(_) => dropped(),
                }
            }
            (Self::Pass, Some(answer)) => answer,
            _ => dropped(),
        }
    }
}

/// The connection ends without an answer: as it does when a body fails before anything of it was sent.
pub(super) fn dropped() -> Response {
    Response::new(Body::from_stream(stream::once(future::ready(cut()))))
}

fn cut() -> io::Result<Bytes> {
    Err(io::Error::other("the test ends the connection"))
}

/// The same, once what was sent before is on its way: it would be taken along.
async fn cut_later() -> io::Result<Bytes> {
    sleep(Duration::from_millis(50)).await;
    cut()
}

/// The first `bytes` of a body, and then what else comes.
fn start_of(
    body: Body,
    bytes: usize,
    then: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Body {
    let start = stream::unfold(
        (body.into_data_stream(), bytes),
        |(mut body, left)| async move {
            if left == 0 {
                return None;
            }
            let chunk = body.next().await?.map(|mut chunk| {
                chunk.truncate(left);
                chunk
            });
            let given = chunk.as_ref().map_or(0, Bytes::len);
            Some((chunk.map_err(io::Error::other), (body, left - given)))
        },
    );
    Body::from_stream(start.chain(then))
}

/// The body, until the connection is cut in the midst of it.
pub(super) fn until(is_cut: watch::Receiver<()>, body: Body) -> Body {
    let state = (body.into_data_stream(), is_cut);
    let chunks = stream::unfold(state, |(mut body, mut is_cut)| async move {
        let chunk = tokio::select! {
            chunk = body.next() => chunk?.map_err(io::Error::other),
            _ = is_cut.changed() => cut(),
        };
        Some((chunk, (body, is_cut)))
    });
    Body::from_stream(chunks)
}
