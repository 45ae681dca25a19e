//! What becomes of a request, in words of one row.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::body::{Body, Bytes};
use futures::stream;
use lab::proxy::Fate;
use serde_json::json;

pub fn hang(_: &str) -> Fate {
    Fate::Hang
}

pub fn reset(_: &str) -> Fate {
    Fate::Reset
}

/// It was done; but of the answer only this much arrives.
pub fn cut_short(_: &str) -> Fate {
    Fate::Truncate(7)
}

/// It was done; but of the answer only this much arrives, and the connection stays.
pub fn stalled(_: &str) -> Fate {
    Fate::Stall(7)
}

pub fn garbage(_: &str) -> Fate {
    Fate::answer(200, &[], "\u{0}\u{1b}[31m{\"value\": [")
}

pub fn empty(_: &str) -> Fate {
    Fate::answer(200, &[], "")
}

/// JSON, but not what was asked for.
pub fn another_shape(_: &str) -> Fate {
    let body =
        json!({ "value": {}, "name": 7, "properties": [], "access_token": null, "items": "none" });
    Fate::answer(200, &[], body.to_string())
}

/// From a gateway in between.
pub fn html(_: &str) -> Fate {
    let body = "<html><h1>502 Bad Gateway</h1></html>";
    Fate::answer(502, &[("content-type", "text/html")], body)
}

/// From something that does not know Azure's paths: nothing is gone.
pub fn no_such_page(_: &str) -> Fate {
    Fate::answer(404, &[("content-type", "text/plain")], "404 page not found")
}

/// To another host, which gets no token.
pub fn redirect(_: &str) -> Fate {
    Fate::answer(307, &[("location", ELSEWHERE)], "")
}

pub fn internal_error(_: &str) -> Fate {
    failure(500)
}

pub fn unavailable(_: &str) -> Fate {
    failure(503)
}

pub fn gateway_timeout(_: &str) -> Fate {
    failure(504)
}

pub fn conflict(_: &str) -> Fate {
    failure(409)
}

pub fn throttled(_: &str) -> Fate {
    failure(429)
}

pub fn throttled_for_a_second(_: &str) -> Fate {
    throttled_until("1")
}

pub fn throttled_backwards(_: &str) -> Fate {
    throttled_until("-5")
}

pub fn throttled_until_a_date(_: &str) -> Fate {
    throttled_until("Wed, 21 Oct 2037 07:28:00 GMT")
}

/// Three decades.
pub fn throttled_for_ever(_: &str) -> Fate {
    throttled_until("1000000000")
}

fn throttled_until(when: &str) -> Fate {
    Fate::answer(429, &[("retry-after", when)], error(429))
}

fn failure(status: u16) -> Fate {
    Fate::answer(status, &[], error(status))
}

/// As Resource Manager words it, Entra and the API server, all in one.
fn error(status: u16) -> String {
    let message = format!("the test answers {status}");
    let body = json!({
        "error": { "code": "Test", "message": message },
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Test", "message": message, "code": status,
    });
    body.to_string()
}

/// A list whose next page is this one.
pub fn in_a_circle(url: &str) -> Fate {
    page(ARM, url)
}

/// A list that always has another page.
pub fn without_end(url: &str) -> Fate {
    page(ARM, &another_page(url))
}

pub fn without_end_in_graph(url: &str) -> Fate {
    page(GRAPH, &another_page(url))
}

/// A list that goes on at another host.
pub fn elsewhere(_: &str) -> Fate {
    page(ARM, ELSEWHERE)
}

pub fn elsewhere_in_graph(_: &str) -> Fate {
    page(GRAPH, ELSEWHERE)
}

const ELSEWHERE: &str = "https://127.0.0.1:9/elsewhere";
/// Where Resource Manager tells the next page, and where Graph does.
const ARM: &str = "nextLink";
const GRAPH: &str = "@odata.nextLink";

fn another_page(url: &str) -> String {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let page = PAGE.fetch_add(1, Ordering::Relaxed);
    format!("{url}&page={page}")
}

fn page(link: &str, next: &str) -> Fate {
    Fate::answer(200, &[], json!({ "value": [], link: next }).to_string())
}

/// Far more than there is memory for, if many do so.
pub fn huge(_: &str) -> Fate {
    let chunk = Bytes::from(vec![b' '; 1 << 20]);
    let chunks = stream::iter((0..500).map(move |_| Ok::<_, Infallible>(chunk.clone())));
    Fate::answer(200, &[], Body::from_stream(chunks))
}
