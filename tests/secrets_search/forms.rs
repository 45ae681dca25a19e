//! What a value looks like where it may have been written.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

/// Each form, and its name.
pub fn forms(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let escaped = escape(value);
    let mut forms = vec![
        ("as it is", value.to_owned()),
        ("escaped", escaped.clone()),
        ("escaped twice", escape(&escaped)),
        (
            "percent-encoded",
            percent_encode(value.as_bytes(), NON_ALPHANUMERIC).to_string(),
        ),
        ("form-encoded", form_encoded(value)),
        ("as numbers", numbers(value)),
    ];
    for alphabet in [STANDARD, URL_SAFE] {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        forms.extend((0..3).map(|before| ("in Base64", inner_base64(&engine, value, before))));
    }
    forms.sort();
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
        .into_iter()
        .map(|(name, form)| (name, form.into_bytes()))
        .collect()
}

/// As in JSON, and in Rust's debug form.
fn escape(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>
fn form_encoded(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'*')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_');
    percent_encode(text.as_bytes(), ENCODED)
        .to_string()
        .replace("%20", "+")
}

/// As Rust's debug form has bytes.
fn numbers(text: &str) -> String {
    let numbers: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    numbers.join(", ")
}

/// What of the Base64 of a longer text depends on this part only, which has so many bytes more than a
/// multiple of three before it.
fn inner_base64(engine: &GeneralPurpose, value: &str, before: usize) -> String {
    let padded = [&vec![0; before], value.as_bytes()].concat();
    let encoded = engine.encode(&padded);
    let start = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    encoded[start..end].to_owned()
}
