//! Of several replicas one works: in virtual time, against a server that keeps one Lease.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use airflow_workload_identity::{leader::Candidate, mandate::Mandate};
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::service_fn;

/// The API server, as far as it keeps one Lease.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    version: Mutex<u64>,
    is_down: Mutex<bool>,
}

impl Server {
    fn holder(&self) -> Option<String> {
        let lease = self.lease.lock().unwrap();
        Some(
            lease.as_ref()?["spec"]["holderIdentity"]
                .as_str()?
                .to_owned(),
        )
    }

    fn set_down(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if *self.is_down.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await.unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut lease = self.lease.lock().unwrap();
        let of = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let (status, answer) = match (method, lease.as_ref()) {
            (Method::GET, Some(found)) => (StatusCode::OK, found.clone()),
            (Method::GET, None) => (StatusCode::NOT_FOUND, failure(404, "NotFound")),
            (Method::POST, Some(_)) => (StatusCode::CONFLICT, failure(409, "Conflict")),
            (Method::PUT, Some(found)) if of(found) != of(&sent) => {
                (StatusCode::CONFLICT, failure(409, "Conflict"))
            }
            (Method::POST | Method::PUT, _) => {
                let mut version = self.version.lock().unwrap();
                *version += 1;
                let mut stored = sent;
                stored["metadata"]["resourceVersion"] = json!(version.to_string());
                *lease = Some(stored.clone());
                (StatusCode::OK, stored)
            }
            (method, _) => panic!("nobody needs {method}"),
        };
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = status;
        response
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "airflow-workload-identity")
    }

    fn replica(self: &Arc<Self>, me: &str) -> (Candidate, Arc<Mandate>) {
        let mandate = Arc::new(Mandate::elected());
        let candidate = Candidate::new(
            self.client(),
            "operator",
            me.into(),
            mandate.clone(),
            Arc::default(),
        );
        (candidate, mandate)
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code })
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_may_write_as_long_as_it_renews() {
    let server = Arc::new(Server::default());
    let (mut first, mandate) = server.replica("first");
    assert!(!mandate.is_valid(), "before it is elected");
    first.win().await;
    assert_eq!(server.holder().as_deref(), Some("first"));
    let mut holding = Box::pin(first.hold());
    for _ in 0..60 {
        assert!(holding.as_mut().now_or_never().is_none());
        sleep(Duration::from_millis(500)).await;
        assert!(mandate.is_valid());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_waits_for_a_first_that_is_there_and_takes_over_from_one_that_is_gone() {
    let server = Arc::new(Server::default());
    let (mut first, _) = server.replica("first");
    let (mut second, mandate) = server.replica("second");
    first.win().await;
    {
        let holding = first.hold();
        let winning = second.win();
        tokio::select! {
            () = holding => panic!("it was lost"),
            () = winning => panic!("two lead"),
            () = sleep(Duration::from_secs(600)) => {}
        }
    }
    // Nothing more is heard of the first, which says that it renewed in the far future.
    server.lease.lock().unwrap().as_mut().unwrap()["spec"]["renewTime"] =
        json!("2099-01-01T00:00:00.000000Z");
    let gone = Instant::now();
    second.win().await;
    assert!(gone.elapsed() > Duration::from_secs(14), "too early");
    assert!(gone.elapsed() < Duration::from_secs(20), "too late");
    assert!(mandate.is_valid());
    assert_eq!(server.holder().as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_renew_stops_before_another_may_begin() {
    let server = Arc::new(Server::default());
    let (mut first, mandate) = server.replica("first");
    first.win().await;
    let cut_off = Instant::now();
    server.set_down(true);
    first.hold().await;
    assert!(!mandate.is_valid());
    assert!(cut_off.elapsed() < Duration::from_secs(25));
    // Long before: hold's last request may hang, but nothing is written for its sake.
    let (mut first, mandate) = server.replica("another");
    server.set_down(false);
    *server.lease.lock().unwrap() = None;
    first.win().await;
    server.set_down(true);
    sleep(Duration::from_millis(10_001)).await;
    assert!(!mandate.is_valid());
}

#[tokio::test(start_paused = true)]
async fn one_that_was_asleep_may_not_write_when_it_wakes() {
    let server = Arc::new(Server::default());
    let (mut first, mandate) = server.replica("first");
    let (mut second, _) = server.replica("second");
    first.win().await;
    second.win().await;
    assert!(!mandate.is_valid());
    // It finds the other one there.
    first.hold().await;
    assert_eq!(server.holder().as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn of_many_that_begin_at_once_one_wins() {
    let server = Arc::new(Server::default());
    let mut replicas: Vec<_> = (0..8).map(|n| server.replica(&n.to_string())).collect();
    let all = replicas
        .iter_mut()
        .map(|(replica, _)| Box::pin(replica.win()));
    let ((), winner, rest) = futures::future::select_all(all).await;
    drop(rest);
    let winner = winner.to_string();
    assert_eq!(server.holder(), Some(winner));
    let valid = replicas.iter().filter(|(_, mandate)| mandate.is_valid());
    assert_eq!(valid.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_resigns_is_followed_at_once() {
    let server = Arc::new(Server::default());
    let (mut first, _) = server.replica("first");
    let (mut second, _) = server.replica("second");
    first.win().await;
    first.resign().await;
    let start = Instant::now();
    second.win().await;
    assert!(start.elapsed() < Duration::from_secs(2));

    // One that lost it takes nothing from its successor.
    first.resign().await;
    assert_eq!(server.holder().as_deref(), Some("second"));
}
