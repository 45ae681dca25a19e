//! Tokens, as the emulator's token endpoint and its APIs take them. The first line says what the rest
//! is:
//!
//! * `signed`: a header, in the next line, and claims, signed with the issuer's key;
//! * `text`: a token as it is;
//! * `changed`: what is done to a good token: a place, and what to put there, two bytes and one each;
//! * `bearer`: an `Authorization` header.
//!
//! In the first two and the last, `@NOW`, `@SOON`, `@PAST` and `@TOKEN` stand for what they say.

use std::time::Instant;

use azure_emulator::{
    assertion::Assertion,
    bearer::{Api, Caller, Tokens},
    identity::Trust,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign, get_current_timestamp, jwk::Jwk};
use serde_json::{Value, json};
use uuid::Uuid;

const ISSUER: &str = "https://oidc.example/";
const SUBJECT: &str = "system:serviceaccount:airflow:worker";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const KEY_ID: &str = "k";
/// Clocks may differ by so much.
const SKEW: f64 = 300.0;
const OWN_URL: &str = "https://127.0.0.1:1";

struct Signer {
    key: EncodingKey,
    jwk: Jwk,
}

thread_local! {
    static SIGNER: Signer = Signer::new();
    static GOOD: String = SIGNER.with(Signer::good);
}

/// Nothing is taken that a plain reading of the rules does not take, and nothing that was changed.
pub fn check(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    let Some(end) = end else {
        return;
    };
    let (what, rest) = (&input[..end], &input[end + 1..]);
    match what {
        b"changed" => changed(rest),
        b"bearer" => bearer(&String::from_utf8_lossy(rest)),
        b"signed" => signed(&String::from_utf8_lossy(rest)),
        _ => {
            let text = String::from_utf8_lossy(rest);
            let text = GOOD.with(|good| text.replace("@TOKEN", good));
            let is_good = GOOD.with(|good| *good == text);
            assert_eq!(is_taken(&text), is_good, "{text}");
        }
    }
}

impl Signer {
    fn new() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(KEY_ID.to_owned());
        Self { key, jwk }
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = sign(message.as_bytes(), &self.key, Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    }

    fn good(&self) -> String {
        let header = json!({ "alg": "ES256", "kid": KEY_ID }).to_string();
        let claims = json!({ "iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "exp": get_current_timestamp() + 86400 });
        let good = self.sign(&header, &claims.to_string());
        assert_eq!(taken(self, &good), Ok(()), "a good token is taken");
        good
    }
}

fn is_taken(jwt: &str) -> bool {
    SIGNER.with(|signer| taken(signer, jwt)).is_ok()
}

/// As the token endpoint does it.
fn taken(signer: &Signer, jwt: &str) -> Result<(), String> {
    let text = |error: azure_emulator::oauth_error::OAuthError| error.description;
    let trusts = vec![Trust {
        issuer: ISSUER.into(),
        subject: SUBJECT.into(),
        audiences: vec![AUDIENCE.into()],
    }];
    let assertion = Assertion::read(jwt).map_err(text)?;
    let trusts = assertion.trusted_by(trusts).map_err(text)?;
    if assertion.key_id != KEY_ID {
        return Err("another key".into());
    }
    assertion.verify(&signer.jwk).map_err(text)?;
    assertion.admitted_by(&trusts).map_err(text)
}

fn signed(text: &str) {
    let now = get_current_timestamp();
    let text = text
        .replace("@NOW", &now.to_string())
        .replace("@SOON", &(now + 600).to_string())
        .replace("@PAST", &(now - 600).to_string());
    let (header, claims) = text.split_once('\n').unwrap_or((&text, "{}"));
    let jwt = SIGNER.with(|signer| signer.sign(header, claims));
    if is_taken(&jwt) {
        assert!(may_be_taken(header, claims), "{header} {claims}");
    }
}

/// The rules, read plainly.
fn may_be_taken(header: &str, claims: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (header, claims) = (read(header), read(claims));
    #[expect(clippy::cast_precision_loss, reason = "until the year 285 million")]
    let now = get_current_timestamp() as f64;
    let audience = &claims["aud"];
    let audiences = audience
        .as_array()
        .map_or(std::slice::from_ref(audience), Vec::as_slice);
    // A second goes by while this is compared.
    let is_valid = claims["exp"]
        .as_f64()
        .is_some_and(|end| end + SKEW + 1.0 >= now);
    let is_begun = claims["nbf"]
        .as_f64()
        .is_none_or(|begin| begin <= now + SKEW + 1.0);
    header["alg"] == "ES256"
        && header["kid"] == KEY_ID
        && claims["iss"] == ISSUER
        && claims["sub"] == SUBJECT
        && audiences.iter().any(|audience| audience == AUDIENCE)
        && is_valid
        && is_begun
}

fn changed(changes: &[u8]) {
    let good = GOOD.with(Clone::clone);
    let mut jwt = good.clone().into_bytes();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % jwt.len();
        jwt[place] ^= change[2];
        if let Ok(jwt) = std::str::from_utf8(&jwt) {
            assert_eq!(is_taken(jwt), jwt == good, "{good} became {jwt}");
        }
    }
}

fn bearer(header: &str) {
    let caller = Caller {
        tenant: Uuid::from_u128(1),
        client: Uuid::from_u128(2),
        principal: Uuid::from_u128(3),
    };
    let (mut tokens, now) = (Tokens::default(), Instant::now());
    let token = tokens.issue(caller.clone(), "https://management.azure.com/", now);
    let header = header.replace("@TOKEN", &token);
    let arm = tokens.authenticate(Some(&header), Api::ResourceManager, OWN_URL, now);
    let graph = tokens.authenticate(Some(&header), Api::Graph, OWN_URL, now);
    assert!(
        graph.is_err(),
        "a token of Resource Manager's is none of Graph's"
    );
    let is_ours = header.split_once(' ').is_some_and(|(scheme, rest)| {
        scheme.eq_ignore_ascii_case("bearer") && rest.trim() == token
    });
    assert_eq!(arm.ok(), is_ours.then_some(caller), "{header}");
}
