//! Faults of Azure Resource Manager.

use axum::http::Method;
use lab::proxy::{Fate, Seen, Side};

use super::{
    bench::{Begin, OFTEN, RARELY, Row, Told, check},
    bounds::{ASKED_TWICE, BACKOFF, BUSY, ENDLESS, HANGS, ONCE, PACED, PAGES, SLOW},
    fates::{
        another_shape, conflict, cut_short, elsewhere, empty, garbage, gateway_timeout, hang, html,
        huge, in_a_circle, internal_error, no_such_page, redirect, reset, stalled, throttled,
        throttled_backwards, throttled_for_a_second, throttled_for_ever, throttled_until_a_date,
        unavailable, without_end,
    },
};
use crate::world::run;

fn put(seen: &Seen) -> bool {
    seen.side == Side::Azure && seen.method == Method::PUT
}

fn delete(seen: &Seen) -> bool {
    seen.side == Side::Azure && seen.method == Method::DELETE
}

fn list(seen: &Seen) -> bool {
    seen.side == Side::Azure && seen.path.ends_with("/federatedIdentityCredentials")
}

fn identity(seen: &Seen) -> bool {
    let mut parts = seen.path.rsplit('/');
    seen.side == Side::Azure && parts.nth(1) == Some("userAssignedIdentities")
}

use Told::{Nothing, Ready};

#[rustfmt::skip]
static ROWS: &[Row] = &[
    Row { name: "wire-put-hang", hits: put, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-put-reset", hits: put, fate: reset, told: Ready("AzureUnavailable", "connection"), most: BACKOFF },
    Row { name: "wire-put-cut-short", hits: put, fate: cut_short, told: Nothing, most: ONCE },
    Row { name: "wire-put-stalled", hits: put, fate: stalled, told: Nothing, most: ONCE },
    Row { name: "wire-put-garbage", hits: put, fate: garbage, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-put-empty", hits: put, fate: empty, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-put-shape", hits: put, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-put-html", hits: put, fate: html, told: Ready("AzureUnavailable", "502 Bad Gateway"), most: BACKOFF },
    Row { name: "wire-put-redirect", hits: put, fate: redirect, told: Ready("AzureRefused", "307"), most: SLOW },
    Row { name: "wire-put-500", hits: put, fate: internal_error, told: Ready("AzureUnavailable", "500"), most: BACKOFF },
    Row { name: "wire-put-503", hits: put, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
    Row { name: "wire-put-504", hits: put, fate: gateway_timeout, told: Ready("AzureUnavailable", "504"), most: BACKOFF },
    Row { name: "wire-put-409", hits: put, fate: conflict, told: Ready("AzureBusy", "409"), most: BUSY },
    Row { name: "wire-put-429", hits: put, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-put-429-second", hits: put, fate: throttled_for_a_second, told: Ready("AzureThrottled", "pause"), most: ASKED_TWICE },
    Row { name: "wire-put-429-backwards", hits: put, fate: throttled_backwards, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-put-429-date", hits: put, fate: throttled_until_a_date, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-put-huge", hits: put, fate: huge, told: Ready("AzureUnavailable", "longer than"), most: BACKOFF },

    Row { name: "wire-list-hang", hits: list, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-list-reset", hits: list, fate: reset, told: Ready("AzureUnavailable", "connection"), most: BACKOFF },
    Row { name: "wire-list-cut-short", hits: list, fate: cut_short, told: Ready("AzureUnavailable", "body"), most: BACKOFF },
    Row { name: "wire-list-stalled", hits: list, fate: stalled, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-list-garbage", hits: list, fate: garbage, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-list-empty", hits: list, fate: empty, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-list-shape", hits: list, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-list-html", hits: list, fate: html, told: Ready("AzureUnavailable", "502 Bad Gateway"), most: BACKOFF },
    Row { name: "wire-list-404", hits: list, fate: no_such_page, told: Ready("AzureRefused", "404"), most: SLOW },
    Row { name: "wire-list-409", hits: list, fate: conflict, told: Ready("AzureBusy", "409"), most: BACKOFF },
    Row { name: "wire-list-429", hits: list, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-list-503", hits: list, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
    Row { name: "wire-list-circle", hits: list, fate: in_a_circle, told: Ready("AzureRefused", ENDLESS), most: PAGES },
    Row { name: "wire-list-endless", hits: list, fate: without_end, told: Ready("AzureRefused", ENDLESS), most: PAGES },
    Row { name: "wire-list-elsewhere", hits: list, fate: elsewhere, told: Ready("AzureRefused", "not followed"), most: SLOW },
    Row { name: "wire-list-huge", hits: list, fate: huge, told: Ready("AzureUnavailable", "longer than"), most: BACKOFF },

    Row { name: "wire-identity-hang", hits: identity, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: HANGS },
    Row { name: "wire-identity-shape", hits: identity, fate: another_shape, told: Ready("AzureUnavailable", "cannot be read"), most: BACKOFF },
    Row { name: "wire-identity-429", hits: identity, fate: throttled, told: Ready("AzureThrottled", "pause"), most: PACED },
    Row { name: "wire-identity-503", hits: identity, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
];

#[rustfmt::skip]
static DELETES: &[Row] = &[
    Row { name: "wire-delete-hang", hits: delete, fate: hang, told: Ready("Deleting", "timed out"), most: HANGS },
    Row { name: "wire-delete-reset", hits: delete, fate: reset, told: Ready("Deleting", "connection"), most: BACKOFF },
    Row { name: "wire-delete-cut-short", hits: delete, fate: cut_short, told: Nothing, most: ONCE },
    Row { name: "wire-delete-garbage", hits: delete, fate: garbage, told: Ready("Deleting", "cannot be read"), most: BACKOFF },
    Row { name: "wire-delete-shape", hits: delete, fate: another_shape, told: Ready("Deleting", "cannot be read"), most: BACKOFF },
    Row { name: "wire-delete-500", hits: delete, fate: internal_error, told: Ready("Deleting", "500"), most: BACKOFF },
    Row { name: "wire-delete-html", hits: delete, fate: html, told: Ready("Deleting", "502"), most: BACKOFF },
    Row { name: "wire-delete-404", hits: delete, fate: no_such_page, told: Ready("Deleting", "404"), most: SLOW },
    Row { name: "wire-delete-409", hits: delete, fate: conflict, told: Ready("Deleting", "409"), most: BUSY },
    Row { name: "wire-delete-429", hits: delete, fate: throttled, told: Ready("Deleting", "pause"), most: PACED },
    Row { name: "wire-delete-429-second", hits: delete, fate: throttled_for_a_second, told: Ready("Deleting", "pause"), most: ASKED_TWICE },
];

/// No answer stops the work for longer than five minutes.
#[rustfmt::skip]
static FOR_EVER: &[Row] = &[
    Row { name: "wire-put-429-for-ever", hits: put, fate: throttled_for_ever, told: Ready("AzureThrottled", "pause"), most: ONCE },
];

/// For the first seconds after a write, Azure may not list it yet.
#[rustfmt::skip]
static LATE: &[Row] = &[
    Row { name: "wire-list-late", hits: |seen| list(seen) || put(seen), fate: lists_nothing, told: Nothing, most: LOOKS },
];
/// Each second one, and at most a write for each.
const LOOKS: usize = 30;

fn lists_nothing(url: &str) -> Fate {
    if url.contains("/federatedIdentityCredentials?") {
        Fate::Map(Box::new(|_| br#"{"value":[]}"#.to_vec()))
    } else {
        Fate::Pass
    }
}

#[test]
fn faults_of_azure() {
    run(check(ROWS, Begin::Before, RARELY));
}

#[test]
fn faults_of_azure_at_the_end() {
    run(check(DELETES, Begin::AtTheEnd, RARELY));
}

#[test]
fn a_list_that_does_not_show_what_was_written_a_moment_ago() {
    run(check(LATE, Begin::Before, OFTEN));
}

#[test]
#[ignore = "takes the five minutes that Azure may ask for at most"]
fn azure_asks_to_wait_for_decades() {
    run(check(FOR_EVER, Begin::Before, RARELY));
}
