//! Tokens of ServiceAccounts, which nobody has signed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Answer,
    kinds::SERVICE_ACCOUNTS,
    refusal::{Cause, Refusal},
    request::{self, Target},
    store::{Store, key},
    write::time,
};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const LIFETIME: i64 = 3600;

pub(super) fn answer(
    store: &Store,
    issuer: &str,
    request: &Request<Vec<u8>>,
    target: &Target,
    now: Timestamp,
) -> Result<Answer, Refusal> {
    let (kind, Some(name), Some(namespace)) = (target.kind, target.name, target.namespace) else {
        return Err(Refusal::unknown_path());
    };
    if kind.store != SERVICE_ACCOUNTS {
        return Err(Refusal::unknown_path());
    }
    if request.method() != Method::POST {
        return Err(Refusal::no_such_method());
    }
    let mut wanted = request::json(request)?;
    for (field, expected) in [("name", name), ("namespace", namespace)] {
        if let Some(given) = wanted["metadata"][field]
            .as_str()
            .filter(|given| *given != expected)
        {
            let why = format!("must match the service account {field} if specified");
            let cause = Cause::invalid(&format!("metadata.{field}"), &format!("{given:?}"), &why);
            return Err(Refusal::invalid_kind(GROUP, KIND, name, &[cause]));
        }
    }
    let account = store.get(kind, &key(target.namespace, name));
    let account = account.ok_or_else(|| Refusal::not_found(kind, name))?;
    let uid = &account["metadata"]["uid"];
    if let Some(given) = wanted["metadata"]["uid"]
        .as_str()
        .filter(|given| uid != given)
    {
        let found = uid.as_str().unwrap_or_default();
        let why = format!(
            "the UID in the token request ({given}) does not match the UID of the service account ({found})"
        );
        return Err(Refusal::conflict_of_kind(GROUP, KIND, name, &why));
    }
    let seconds = wanted["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(LIFETIME);
    let audiences = match wanted["spec"]["audiences"].take() {
        Value::Array(given) if !given.is_empty() => Value::Array(given),
        _ => json!([issuer]),
    };
    let subject = format!("system:serviceaccount:{namespace}:{name}");
    let claims = json!({
        "iss": issuer,
        "sub": subject,
        "aud": audiences,
        "exp": now.as_second() + seconds,
    });
    let header = json!({ "alg": "RS256", "kid": "none" });
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let answer = json!({
        "kind": KIND,
        "apiVersion": format!("{GROUP}/v1"),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": time(now),
        },
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": null,
        },
        "status": {
            "token": format!("{header}.{claims}."),
            "expirationTimestamp": time(now + SignedDuration::from_secs(seconds)),
        },
    });
    Ok(Answer::json(201, &answer))
}
