//! What the one in memory can do beside: show the past, or hold back the present.

use http::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use simulation::api_server::ApiServer;

const CONFIGS: &str = "/api/v1/namespaces/here/configmaps";

fn asked(method: &str, path: &str, body: &Value) -> Request<Vec<u8>> {
    let type_ = "application/merge-patch+json";
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", type_);
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    request.body(body.into_bytes()).unwrap()
}

fn read(answer: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

fn ask(server: &mut ApiServer, method: &str, path: &str, body: &Value) -> Value {
    read(&server.answer(&asked(method, path, body), Timestamp::UNIX_EPOCH))
}

/// Version 2 made `a`, 3 changed it, 4 made `b`, 5 deleted `a`.
fn with_a_past() -> ApiServer {
    let mut server = ApiServer::new();
    let named = |name: &str| json!({ "metadata": { "name": name } });
    ask(&mut server, "POST", "/api/v1/namespaces", &named("here"));
    ask(&mut server, "POST", CONFIGS, &named("a"));
    ask(
        &mut server,
        "PATCH",
        &format!("{CONFIGS}/a"),
        &json!({ "data": { "x": "1" } }),
    );
    ask(&mut server, "POST", CONFIGS, &named("b"));
    ask(&mut server, "DELETE", &format!("{CONFIGS}/a"), &Value::Null);
    assert_eq!(server.version(), 5);
    server
}

#[test]
fn a_stale_answer_tells_what_was_so_then() {
    let server = with_a_past();
    let names = |version: u64| -> Vec<String> {
        let answer = server
            .answer_stale(&asked("GET", CONFIGS, &Value::Null), version)
            .unwrap();
        let list = read(&answer);
        assert_eq!(list["metadata"]["resourceVersion"], version.to_string());
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["metadata"]["name"].to_string())
            .collect()
    };
    assert!(names(1).is_empty());
    assert_eq!(names(3), ["\"a\""]);
    assert_eq!(names(4), ["\"a\"", "\"b\""]);
    assert_eq!(names(5), ["\"b\""]);

    let one = asked("GET", &format!("{CONFIGS}/a"), &Value::Null);
    let data = |version: u64| read(&server.answer_stale(&one, version).unwrap())["data"].clone();
    assert_eq!(data(2), Value::Null);
    assert_eq!(data(4), json!({ "x": "1" }));
    assert_eq!(server.answer_stale(&one, 5).unwrap().status(), 404);
    let write = asked("DELETE", &format!("{CONFIGS}/b"), &Value::Null);
    assert!(server.answer_stale(&write, 5).is_none());
}

#[test]
fn a_watcher_sees_no_more_than_it_may() {
    let server = with_a_past();
    let request = asked(
        "GET",
        &format!("{CONFIGS}?watch=true&resourceVersion=2"),
        &Value::Null,
    );
    let watch = ApiServer::watch(&request).unwrap();
    let seen = |after: u64, until: u64| -> Vec<(u64, String)> {
        let events = server.events(&watch, after, until).unwrap().into_iter();
        let type_ =
            |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap()["type"].to_string();
        events
            .map(|(version, line)| (version, type_(&line)))
            .collect()
    };
    assert_eq!(seen(watch.from, 3), [(3, "\"MODIFIED\"".into())]);
    assert_eq!(
        seen(3, 5),
        [(4, "\"ADDED\"".into()), (5, "\"DELETED\"".into())]
    );
    assert_eq!(
        seen(0, 4),
        [(4, "\"ADDED\"".into()), (4, "\"ADDED\"".into())]
    );
    assert!(ApiServer::bookmark(&watch, 5).is_none());

    let request = asked(
        "GET",
        &format!("{CONFIGS}?watch=true&resourceVersion=2&allowWatchBookmarks=true"),
        &Value::Null,
    );
    let watch = ApiServer::watch(&request).unwrap();
    let bookmark = ApiServer::bookmark(&watch, 5).unwrap();
    let bookmark: Value = serde_json::from_slice(&bookmark).unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], "5");
}

#[test]
fn what_is_forgotten_is_neither_seen_nor_listed() {
    let mut server = with_a_past();
    let page = ask(
        &mut server,
        "GET",
        "/api/v1/namespaces?limit=1",
        &Value::Null,
    );
    assert_eq!(page["metadata"].get("continue"), None);
    ask(
        &mut server,
        "POST",
        CONFIGS,
        &json!({ "metadata": { "name": "c" } }),
    );
    let page = ask(
        &mut server,
        "GET",
        &format!("{CONFIGS}?limit=1"),
        &Value::Null,
    );
    let next = page["metadata"]["continue"].as_str().unwrap().to_owned();
    ask(&mut server, "DELETE", &format!("{CONFIGS}/c"), &Value::Null);
    server.compact(server.version());

    let request = asked(
        "GET",
        &format!("{CONFIGS}?watch=true&resourceVersion=2"),
        &Value::Null,
    );
    let watch = ApiServer::watch(&request).unwrap();
    let expired = server.events(&watch, watch.from, 9).unwrap_err();
    let event: Value = serde_json::from_slice(&expired.event).unwrap();
    assert_eq!(event["object"]["code"], 410);
    let rest = ask(
        &mut server,
        "GET",
        &format!("{CONFIGS}?limit=1&continue={next}"),
        &Value::Null,
    );
    assert_eq!(rest["code"], 410);
    assert!(
        server
            .answer_stale(&asked("GET", CONFIGS, &Value::Null), 3)
            .is_none()
    );
    // All changes are still there to judge by.
    assert_eq!(server.changes().len(), 7);
}
