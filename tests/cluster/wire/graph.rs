//! Faults of Microsoft Graph.

use axum::http::Method;
use lab::proxy::Seen;

use super::{
    bench::{
        Begin, RARELY, Row,
        Told::{Nothing, Ready},
        check_applications,
    },
    bounds::{ASKED_TWICE, BACKOFF, BUSY, ENDLESS, HANGS, ONCE, PACED, PAGES, SLOW},
    fates::{
        another_shape, conflict, cut_short, elsewhere_in_graph, garbage, gateway_timeout, hang,
        html, huge, internal_error, redirect, reset, stalled, throttled, throttled_for_a_second,
        unavailable, without_end_in_graph,
    },
};
use crate::world::run;

fn application(seen: &Seen) -> bool {
    seen.method == Method::GET && seen.path.ends_with("')")
}

fn list(seen: &Seen) -> bool {
    seen.method == Method::GET && seen.path.ends_with("/federatedIdentityCredentials")
}

fn upsert(seen: &Seen) -> bool {
    seen.method == Method::PATCH && seen.path.contains("/federatedIdentityCredentials(")
}

fn delete(seen: &Seen) -> bool {
    seen.method == Method::DELETE && seen.path.contains("/federatedIdentityCredentials(")
}

#[rustfmt::skip]
static ROWS: &[Row] = &[
    Row { name: "wire-graph-app-hang", hits: application, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-graph-app-shape", hits: application, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-app-429", hits: application, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-graph-app-503", hits: application, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },

    Row { name: "wire-graph-list-hang", hits: list, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-graph-list-reset", hits: list, fate: reset, told: Ready("AzureUnavailable", "connection"), most: BACKOFF },
    Row { name: "wire-graph-list-cut-short", hits: list, fate: cut_short, told: Ready("AzureUnavailable", "body"), most: BACKOFF },
    Row { name: "wire-graph-list-stalled", hits: list, fate: stalled, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-graph-list-garbage", hits: list, fate: garbage, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-list-shape", hits: list, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-list-html", hits: list, fate: html, told: Ready("AzureUnavailable", "502 Bad Gateway"), most: BACKOFF },
    Row { name: "wire-graph-list-redirect", hits: list, fate: redirect, told: Ready("AzureRefused", "307"), most: SLOW },
    Row { name: "wire-graph-list-409", hits: list, fate: conflict, told: Ready("AzureBusy", "409"), most: BACKOFF },
    Row { name: "wire-graph-list-503", hits: list, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
    Row { name: "wire-graph-list-429", hits: list, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-graph-list-429-second", hits: list, fate: throttled_for_a_second, told: Ready("AzureThrottled", "pause"), most: ASKED_TWICE },
    Row { name: "wire-graph-list-endless", hits: list, fate: without_end_in_graph, told: Ready("AzureRefused", ENDLESS), most: PAGES },
    Row { name: "wire-graph-list-elsewhere", hits: list, fate: elsewhere_in_graph, told: Ready("AzureRefused", "not followed"), most: SLOW },
    Row { name: "wire-graph-list-huge", hits: list, fate: huge, told: Ready("AzureUnavailable", "longer than"), most: BACKOFF },

    Row { name: "wire-graph-upsert-hang", hits: upsert, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-graph-upsert-reset", hits: upsert, fate: reset, told: Ready("AzureUnavailable", "connection"), most: BACKOFF },
    Row { name: "wire-graph-upsert-cut-short", hits: upsert, fate: cut_short, told: Nothing, most: ONCE },
    Row { name: "wire-graph-upsert-stalled", hits: upsert, fate: stalled, told: Nothing, most: ONCE },
    Row { name: "wire-graph-upsert-garbage", hits: upsert, fate: garbage, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-upsert-shape", hits: upsert, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-upsert-html", hits: upsert, fate: html, told: Ready("AzureUnavailable", "502 Bad Gateway"), most: BACKOFF },
    Row { name: "wire-graph-upsert-redirect", hits: upsert, fate: redirect, told: Ready("AzureRefused", "307"), most: SLOW },
    Row { name: "wire-graph-upsert-500", hits: upsert, fate: internal_error, told: Ready("AzureUnavailable", "500"), most: BACKOFF },
    Row { name: "wire-graph-upsert-503", hits: upsert, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
    Row { name: "wire-graph-upsert-504", hits: upsert, fate: gateway_timeout, told: Ready("AzureUnavailable", "504"), most: BACKOFF },
    Row { name: "wire-graph-upsert-409", hits: upsert, fate: conflict, told: Ready("AzureBusy", "409"), most: BUSY },
    Row { name: "wire-graph-upsert-429", hits: upsert, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-graph-upsert-429-second", hits: upsert, fate: throttled_for_a_second, told: Ready("AzureThrottled", "pause"), most: ASKED_TWICE },
    Row { name: "wire-graph-upsert-huge", hits: upsert, fate: huge, told: Ready("AzureUnavailable", "longer than"), most: BACKOFF },
];

#[rustfmt::skip]
static DELETES: &[Row] = &[
    Row { name: "wire-graph-delete-hang", hits: delete, fate: hang, told: Ready("Deleting", "timed out"), most: HANGS },
    Row { name: "wire-graph-delete-reset", hits: delete, fate: reset, told: Ready("Deleting", "connection"), most: BACKOFF },
    Row { name: "wire-graph-delete-garbage", hits: delete, fate: garbage, told: Ready("Deleting", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-delete-shape", hits: delete, fate: another_shape, told: Ready("Deleting", "cannot be read"), most: BACKOFF },
    Row { name: "wire-graph-delete-500", hits: delete, fate: internal_error, told: Ready("Deleting", "500"), most: BACKOFF },
    Row { name: "wire-graph-delete-html", hits: delete, fate: html, told: Ready("Deleting", "502"), most: BACKOFF },
    Row { name: "wire-graph-delete-409", hits: delete, fate: conflict, told: Ready("Deleting", "409"), most: BUSY },
    Row { name: "wire-graph-delete-429", hits: delete, fate: throttled, told: Ready("Deleting", "pause"), most: PACED },
    Row { name: "wire-graph-delete-429-second", hits: delete, fate: throttled_for_a_second, told: Ready("Deleting", "pause"), most: ASKED_TWICE },
];

#[test]
fn faults_of_graph() {
    run(check_applications(ROWS, Begin::Before, RARELY));
}

#[test]
fn faults_of_graph_at_the_end() {
    run(check_applications(DELETES, Begin::AtTheEnd, RARELY));
}
