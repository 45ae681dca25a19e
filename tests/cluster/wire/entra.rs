//! Faults of Entra's token endpoint. A token is the operator's, so each row has an operator of its own.

use lab::proxy::Seen;

use super::{
    bench::{Begin, RARELY, Row, Told::Ready, check_each},
    bounds::{ASKED, BACKOFF},
    fates::{
        another_shape, cut_short, empty, garbage, hang, html, huge, internal_error, redirect,
        reset, stalled, throttled, throttled_for_a_second, unavailable,
    },
};
use crate::world::run;

fn token(seen: &Seen) -> bool {
    seen.path.ends_with("/oauth2/v2.0/token")
}

#[rustfmt::skip]
static ROWS: &[Row] = &[
    Row { name: "wire-token-hang", hits: token, fate: hang, told: Ready("AzureUnavailable", "timed out"), most: BACKOFF },
    Row { name: "wire-token-reset", hits: token, fate: reset, told: Ready("AzureUnavailable", "connection"), most: BACKOFF },
    Row { name: "wire-token-cut-short", hits: token, fate: cut_short, told: Ready("AzureUnavailable", "body"), most: BACKOFF },
    Row { name: "wire-token-stalled", hits: token, fate: stalled, told: Ready("AzureUnavailable", "timed out"), most: BACKOFF },
    Row { name: "wire-token-garbage", hits: token, fate: garbage, told: Ready("AzureUnavailable", "the answer to the sign-in cannot be read"), most: BACKOFF },
    Row { name: "wire-token-empty", hits: token, fate: empty, told: Ready("AzureUnavailable", "the answer to the sign-in cannot be read"), most: BACKOFF },
    Row { name: "wire-token-shape", hits: token, fate: another_shape, told: Ready("AzureUnavailable", "the answer to the sign-in cannot be read"), most: BACKOFF },
    Row { name: "wire-token-html", hits: token, fate: html, told: Ready("AzureUnavailable", "the answer to the sign-in cannot be read"), most: BACKOFF },
    Row { name: "wire-token-redirect", hits: token, fate: redirect, told: Ready("AzureUnavailable", "the answer to the sign-in cannot be read"), most: BACKOFF },
    Row { name: "wire-token-429", hits: token, fate: throttled, told: Ready("AzureThrottled", "429"), most: BACKOFF },
    Row { name: "wire-token-429-second", hits: token, fate: throttled_for_a_second, told: Ready("AzureThrottled", "429"), most: ASKED },
    Row { name: "wire-token-500", hits: token, fate: internal_error, told: Ready("AzureUnavailable", "500"), most: BACKOFF },
    Row { name: "wire-token-503", hits: token, fate: unavailable, told: Ready("AzureUnavailable", "503"), most: BACKOFF },
    Row { name: "wire-token-huge", hits: token, fate: huge, told: Ready("AzureUnavailable", "longer than"), most: BACKOFF },
];

#[test]
fn faults_of_entra() {
    run(check_each(ROWS, Begin::Before, RARELY));
}
