//! Faults of the API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::Method;
use lab::{
    Lab, LabOptions,
    proxy::{Fate, Proxy, Seen, Side},
};
use serde_json::json;
use tokio::time::sleep;

use super::{
    bench::{
        Begin, RARELY, Row,
        Told::{Log, Nothing, Ready},
        check, check_each, lab,
    },
    bounds::{BACKOFF, ONCE},
    fates::{
        another_shape, conflict, cut_short, empty, garbage, hang, html, internal_error, reset,
        throttled, throttled_for_a_second, unavailable,
    },
};
use crate::world::{World, all as accounts, awi, often, run};

fn all(seen: &Seen) -> bool {
    seen.side == Side::Cluster
}

fn status(seen: &Seen) -> bool {
    all(seen) && seen.path.ends_with("/prod/status")
}

fn new_secret(seen: &Seen) -> bool {
    all(seen) && seen.method == Method::POST && seen.path.ends_with("/secrets")
}

fn annotation(seen: &Seen) -> bool {
    all(seen) && seen.method == Method::PATCH && seen.path.contains("/serviceaccounts/")
}

fn watch(seen: &Seen) -> bool {
    all(seen) && seen.path.ends_with("/serviceaccounts") && is_watch(&seen.query)
}

/// The list, and the watches that bring one about.
fn list(seen: &Seen) -> bool {
    all(seen) && seen.path.ends_with("/serviceaccounts")
}

/// What the operator remembers of the cluster's issuers, before it writes anything for one.
fn history(seen: &Seen) -> bool {
    all(seen) && seen.write.is_some() && seen.path.contains("/configmaps")
}

fn finalizer(seen: &Seen) -> bool {
    all(seen) && seen.method == Method::PATCH && seen.path.ends_with("/prod")
}

fn is_watch(url: &str) -> bool {
    url.contains("watch=true")
}

/// The status is written before the first credential, and in the end.
const TWICE: usize = 2 * BACKOFF;
/// A second lies between, for half a minute at most.
const PAUSES: usize = 30;
/// For each watch a list.
const LISTS: usize = 2 * BACKOFF;
/// All kinds, and what a pass reads.
const ALL: usize = 20 * BACKOFF;
/// It was done; but perhaps it is tried again before the watch tells. A status is written three times.
const SEEN_LATE: usize = 3;

#[rustfmt::skip]
static WRITES: &[Row] = &[
    Row { name: "wire-status-hang", hits: status, fate: hang, told: Log("did not answer within 30s"), most: 4 },
    Row { name: "wire-status-reset", hits: status, fate: reset, told: Log("cannot write the status"), most: TWICE },
    Row { name: "wire-status-garbage", hits: status, fate: garbage, told: Log("cannot write the status"), most: TWICE },
    Row { name: "wire-status-cut-short", hits: status, fate: cut_short, told: Nothing, most: 3 * SEEN_LATE },
    Row { name: "wire-status-409", hits: status, fate: conflict, told: Log("it changed in the meantime"), most: TWICE },
    Row { name: "wire-status-429", hits: status, fate: throttled_for_a_second, told: Log("429"), most: TWICE },
    Row { name: "wire-status-429-plain", hits: status, fate: throttled, told: Log("429"), most: TWICE },
    Row { name: "wire-status-500", hits: status, fate: internal_error, told: Log("500"), most: TWICE },
    Row { name: "wire-status-html", hits: status, fate: html, told: Log("502"), most: TWICE },
    Row { name: "wire-secret-hang", hits: new_secret, fate: hang, told: Ready("ClusterError", "did not answer within 30s"), most: 3 },
    Row { name: "wire-secret-cut-short", hits: new_secret, fate: cut_short, told: Nothing, most: SEEN_LATE },
    Row { name: "wire-secret-409", hits: new_secret, fate: conflict, told: Ready("ClusterError", "cannot write Secret"), most: BACKOFF },
    Row { name: "wire-secret-500", hits: new_secret, fate: internal_error, told: Ready("ClusterError", "500"), most: BACKOFF },
    Row { name: "wire-account-reset", hits: annotation, fate: reset, told: Ready("ClusterError", "cannot annotate"), most: BACKOFF },
    Row { name: "wire-account-503", hits: annotation, fate: unavailable, told: Ready("ClusterError", "503"), most: BACKOFF },
    Row { name: "wire-account-cut-short", hits: annotation, fate: cut_short, told: Nothing, most: SEEN_LATE },
];

#[rustfmt::skip]
static ENDS: &[Row] = &[
    Row { name: "wire-end-hang", hits: finalizer, fate: hang, told: Log("did not answer within 30s"), most: 3 },
    Row { name: "wire-end-cut-short", hits: finalizer, fate: cut_short, told: Nothing, most: SEEN_LATE },
    Row { name: "wire-end-409", hits: finalizer, fate: conflict, told: Ready("ClusterError", "it changed in the meantime"), most: BACKOFF },
    Row { name: "wire-end-500", hits: finalizer, fate: internal_error, told: Ready("ClusterError", "cannot remove the finalizer"), most: BACKOFF },
];

#[rustfmt::skip]
static WATCHES: &[Row] = &[
    Row { name: "wire-watch-reset", hits: watch, fate: reset, told: Log("broke and is resumed"), most: BACKOFF },
    Row { name: "wire-watch-garbage", hits: watch, fate: garbage, told: Log("broke and is resumed"), most: BACKOFF },
    Row { name: "wire-watch-empty", hits: watch, fate: empty, told: Nothing, most: PAUSES },
    Row { name: "wire-watch-429", hits: watch, fate: throttled_for_a_second, told: Log("429"), most: BACKOFF },
    Row { name: "wire-watch-500", hits: watch, fate: internal_error, told: Log("500"), most: BACKOFF },
    Row { name: "wire-watch-error", hits: watch, fate: error_event, told: Log("500"), most: BACKOFF },
    Row { name: "wire-watch-hang", hits: watch, fate: hang, told: Nothing, most: ONCE },
    Row { name: "wire-watch-silent", hits: watch, fate: silent, told: Nothing, most: ONCE },
    Row { name: "wire-relist-gone", hits: list, fate: gone, told: Log("410"), most: LISTS },
    Row { name: "wire-relist-reset", hits: list, fate: |url| gone_or(url, reset), told: Log("broke and is resumed"), most: LISTS },
    Row { name: "wire-relist-hang", hits: list, fate: |url| gone_or(url, hang), told: Nothing, most: 2 },
    Row { name: "wire-relist-garbage", hits: list, fate: |url| gone_or(url, garbage), told: Log("broke and is resumed"), most: LISTS },
    Row { name: "wire-relist-empty", hits: list, fate: |url| gone_or(url, empty), told: Log("broke and is resumed"), most: LISTS },
    Row { name: "wire-relist-shape", hits: list, fate: |url| gone_or(url, another_shape), told: Log("broke and is resumed"), most: LISTS },
    Row { name: "wire-relist-cut-short", hits: list, fate: |url| gone_or(url, cut_short), told: Log("broke and is resumed"), most: LISTS },
    Row { name: "wire-relist-429", hits: list, fate: |url| gone_or(url, throttled), told: Log("429"), most: LISTS },
    Row { name: "wire-relist-500", hits: list, fate: |url| gone_or(url, internal_error), told: Log("500"), most: LISTS },
];

#[rustfmt::skip]
static EVERYTHING: &[Row] = &[
    Row { name: "wire-all-hang", hits: all, fate: hang, told: Nothing, most: ALL },
    Row { name: "wire-all-reset", hits: all, fate: reset, told: Log("broke and is resumed"), most: ALL },
    Row { name: "wire-all-429", hits: all, fate: throttled_for_a_second, told: Log("429"), most: ALL },
    Row { name: "wire-all-500", hits: all, fate: internal_error, told: Log("500"), most: ALL },
    Row { name: "wire-all-html", hits: all, fate: html, told: Log("502"), most: ALL },
];

/// What was watched last is no longer known.
fn gone(url: &str) -> Fate {
    if is_watch(url) {
        event(410, "Expired")
    } else {
        Fate::Pass
    }
}

fn error_event(_: &str) -> Fate {
    event(500, "InternalError")
}

fn event(code: u16, reason: &str) -> Fate {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": "the test ends the watch", "code": code });
    Fate::answer(
        200,
        &[],
        json!({ "type": "ERROR", "object": status }).to_string() + "\n",
    )
}

fn gone_or(url: &str, fate: fn(&str) -> Fate) -> Fate {
    if is_watch(url) { gone(url) } else { fate(url) }
}

/// It begins, and then nothing comes.
fn silent(_: &str) -> Fate {
    Fate::Stall(0)
}

#[test]
fn faults_of_writes_to_the_api_server() {
    run(check(WRITES, Begin::Before, RARELY));
}

/// In a lab of its own: whoever finds there what he wants to remember writes nothing.
#[test]
fn a_memory_of_issuers_that_is_always_in_the_way_is_told_and_got_over() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let proxy = Proxy::start(&lab).unwrap();
        proxy.rule(|seen| {
            if history(seen) {
                conflict("")
            } else {
                Fate::Pass
            }
        });
        let options = often().through(&proxy);
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "wire-history").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.prod(json!({})).await;
        let message = world.until("prod", "Ready", "False", "ClusterError").await;
        assert!(message.contains("the operator's ConfigMap"), "{message}");
        sleep(Duration::from_secs(5)).await;
        // Three tries each time, as another replica may be in the way.
        let asked = proxy.seen().iter().filter(|seen| history(seen)).count();
        assert!(asked <= 3 * BACKOFF, "asked {asked} times");

        proxy.rule(|_| Fate::Pass);
        world.until("prod", "Ready", "True", "Done").await;
    });
}

#[test]
fn faults_of_the_last_write_to_the_api_server() {
    run(check(ENDS, Begin::AtTheEnd, RARELY));
}

#[test]
fn faults_of_lists_and_watches() {
    run(check(WATCHES, Begin::Later, RARELY));
}

#[test]
fn faults_of_the_whole_api_server() {
    run(check_each(EVERYTHING, Begin::Later, RARELY));
}

/// An API server of several may lag behind the others. Whoever asks it for what it has in memory gets that;
/// whoever asks for the latest does not.
#[test]
fn what_an_api_server_that_lags_behind_does_not_know_yet_is_not_taken_for_gone() {
    run(async {
        let lab = lab().await;
        let proxy = Proxy::start(lab).unwrap();
        let name = "wire-lagging";
        let mut options = often().through(&proxy);
        options.extra_args.push(format!("--watch-namespace={name}"));
        let before = Arc::new(Mutex::new(BTreeMap::new()));
        let record = Arc::clone(&before);
        proxy.rule(move |seen| {
            if seen.side != Side::Cluster || seen.method != Method::GET || is_watch(&seen.query) {
                return Fate::Pass;
            }
            let (record, path) = (Arc::clone(&record), seen.path.clone());
            Fate::Map(Box::new(move |body| {
                record
                    .lock()
                    .unwrap()
                    .entry(path)
                    .or_insert_with(|| body.to_vec());
                body.to_vec()
            }))
        });
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(lab, &operator, name).await;
        world.grant(json!({})).await;
        // What is recorded must be older than all that comes.
        proxy
            .arrived(|seen| list(seen) && is_watch(&seen.query))
            .await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let worker = world.credentials_of(&world.identity).await;

        let since = proxy.seen().len();
        proxy.rule(move |seen| {
            let is_list = seen.side == Side::Cluster && seen.method == Method::GET;
            if is_list && is_watch(&seen.query) {
                return gone("watch=true");
            }
            let lags = seen
                .query
                .split('&')
                .any(|part| part == "resourceVersion=0");
            let older = before.lock().unwrap().get(&seen.path).cloned();
            match older.filter(|_| is_list && lags) {
                Some(older) => Fate::answer(200, &[], older),
                None => Fate::Pass,
            }
        });
        proxy.cut();
        for _ in 0..3 {
            let seen = proxy.seen().len();
            proxy
                .arrived(|one| one.number > seen && list(one) && !is_watch(&one.query))
                .await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        proxy.rule(|_| Fate::Pass);
        world.until("prod", "Ready", "True", "Done").await;
        assert_eq!(world.federated().await, accounts(&["worker"]));
        assert_eq!(world.credentials_of(&world.identity).await, worker);
        let mut writes = proxy.seen().into_iter().skip(since);
        let touched = writes.find(|seen| seen.side == Side::Azure && seen.write.is_some());
        assert!(touched.is_none(), "{touched:?}");
    });
}
