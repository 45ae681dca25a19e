//! Client assertions: the `ServiceAccount` tokens that workloads present.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::identity::Trust;
use crate::oauth_error::OAuthError;

/// Entra accepts clocks that differ by up to five minutes.
const CLOCK_SKEW_SECONDS: u64 = 300;

/// What an assertion says about itself. Not to be believed before [`Assertion::verify`].
#[derive(Debug)]
pub struct Assertion<'a> {
    jwt: &'a str,
    algorithm: Algorithm,
    /// Id of the signing key.
    pub key_id: String,
    /// Issuer.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
}

/// RFC 7519 allows one string instead of a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl<'a> Assertion<'a> {
    /// Reads an assertion.
    pub fn read(jwt: &'a str) -> Result<Self, OAuthError> {
        let malformed = || OAuthError::assertion(50027, "The client assertion is not a valid JWT.");
        let header = jsonwebtoken::decode_header(jwt).map_err(|_| malformed())?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(invalid_signature("its algorithm is not supported"));
        }
        let payload = jwt.split('.').nth(1).ok_or_else(malformed)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| malformed())?;
        Ok(Self {
            jwt,
            algorithm: header.alg,
            key_id: header.kid.ok_or_else(malformed)?,
            issuer: claims.iss,
            subject: claims.sub,
            audiences: match claims.aud {
                Audiences::One(audience) => vec![audience],
                Audiences::Many(audiences) => audiences,
            },
        })
    }

    /// Keeps the credentials that trust the assertion's issuer. Comparisons
    /// are exact: Entra tells a trailing slash and letter case apart.
    pub fn trusted_by(&self, trusts: Vec<Trust>) -> Result<Vec<Trust>, OAuthError> {
        if trusts.is_empty() {
            return Err(OAuthError::assertion(
                70025,
                "The client has no federated identity credentials configured.",
            ));
        }
        let trusts: Vec<Trust> = trusts
            .into_iter()
            .filter(|trust| trust.issuer == self.issuer)
            .collect();
        if trusts.is_empty() {
            return Err(OAuthError::assertion(
                700_211,
                &format!(
                    "No matching federated identity record found for presented assertion issuer '{}'.",
                    self.issuer
                ),
            ));
        }
        Ok(trusts)
    }

    /// Checks signature and validity period.
    pub fn verify(&self, key: &Jwk) -> Result<(), OAuthError> {
        let mut validation = Validation::new(self.algorithm);
        validation.validate_nbf = true;
        validation.leeway = CLOCK_SKEW_SECONDS;
        // Issuer and audience are compared with the credentials instead.
        validation.validate_aud = false;
        let key =
            DecodingKey::from_jwk(key).map_err(|_| invalid_signature("its key is not usable"))?;
        let Err(error) = jsonwebtoken::decode::<Value>(self.jwt, &key, &validation) else {
            return Ok(());
        };
        Err(match error.kind() {
            ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => OAuthError::assertion(
                700_024,
                "Client assertion is not within its valid time range.",
            ),
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
                OAuthError::assertion(
                    50027,
                    &format!("The client assertion is not a valid JWT: {error}."),
                )
            }
            _ => invalid_signature(&error.to_string()),
        })
    }

    /// Finds a credential for subject and audience, among those that trust the issuer.
    pub fn admitted_by(&self, trusts: &[Trust]) -> Result<(), OAuthError> {
        let subject = &self.subject;
        let Some(trust) = trusts.iter().find(|trust| trust.subject == *subject) else {
            let in_other_case = |trust: &&Trust| trust.subject.eq_ignore_ascii_case(subject);
            return Err(match trusts.iter().find(in_other_case) {
                Some(trust) => OAuthError::assertion(
                    7_002_138,
                    &format!(
                        "The presented assertion subject '{subject}' matches the federated identity record's subject '{}' only when case is ignored.",
                        trust.subject
                    ),
                ),
                None => OAuthError::assertion(
                    700_213,
                    &format!(
                        "No matching federated identity record found for presented assertion subject '{subject}'."
                    ),
                ),
            });
        };
        if self
            .audiences
            .iter()
            .any(|presented| trust.audiences.contains(presented))
        {
            return Ok(());
        }
        Err(OAuthError::assertion(
            700_212,
            &format!(
                "No matching federated identity record found for presented assertion audience '{}'.",
                self.audiences.join(", ")
            ),
        ))
    }
}

fn invalid_signature(reason: &str) -> OAuthError {
    OAuthError::assertion(
        700_027,
        &format!("The client assertion failed signature validation: {reason}."),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
    use serde_json::json;

    /// A signing key with its public half.
    pub struct Signer {
        key: EncodingKey,
        /// Public half.
        pub jwk: Jwk,
    }

    impl Signer {
        pub fn new(key_id: &str) -> Self {
            let pair = rcgen::KeyPair::generate().unwrap();
            let key = EncodingKey::from_ec_der(pair.serialized_der());
            let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
            jwk.common.key_id = Some(key_id.to_owned());
            Self { key, jwk }
        }

        pub fn sign(&self, claims: &Value) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid.clone_from(&self.jwk.common.key_id);
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://issuer/",
            "sub": "system:serviceaccount:ns:sa",
            "aud": ["api://AzureADTokenExchange"],
            "exp": get_current_timestamp() + 600,
        })
    }

    fn with(name: &str, value: impl Into<Value>) -> Value {
        let mut claims = claims();
        claims[name] = value.into();
        claims
    }

    fn trust(issuer: &str, subject: &str, audience: &str) -> Trust {
        Trust {
            issuer: issuer.into(),
            subject: subject.into(),
            audiences: vec![audience.into()],
        }
    }

    #[test]
    fn signature_and_time_are_verified() {
        let signer = Signer::new("k");
        let now = get_current_timestamp();
        let skew = CLOCK_SKEW_SECONDS;
        let mut no_expiry = claims();
        no_expiry.as_object_mut().unwrap().remove("exp");
        let table = [
            (claims(), None),
            (with("exp", now - skew + 30), None),
            (with("exp", now - skew - 30), Some(700_024)),
            (with("nbf", now + skew - 30), None),
            (with("nbf", now + skew + 30), Some(700_024)),
            (no_expiry, Some(50027)),
        ];
        for (claims, expected) in table {
            let jwt = signer.sign(&claims);
            let verified = Assertion::read(&jwt).unwrap().verify(&signer.jwk);
            assert_eq!(
                verified.err().and_then(|error| error.number()),
                expected,
                "{claims}"
            );
        }
        let jwt = signer.sign(&claims());
        let verified = Assertion::read(&jwt).unwrap().verify(&Signer::new("k").jwk);
        assert_eq!(verified.unwrap_err().number(), Some(700_027), "another key");
    }

    #[test]
    fn malformed_assertions_are_refused() {
        let signer = Signer::new("k");
        let good = signer.sign(&claims());
        let none = {
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
            format!("{header}.{}.", good.split('.').nth(1).unwrap())
        };
        let key = EncodingKey::from_secret(b"secret");
        let symmetric =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        let no_key_id =
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims(), &signer.key).unwrap();
        for (jwt, expected) in [
            ("", 50027),
            ("a.b.c", 50027),
            (&none, 50027),
            (&symmetric, 700_027),
            (&no_key_id, 50027),
            (&signer.sign(&with("sub", 7)), 50027),
        ] {
            assert_eq!(
                Assertion::read(jwt).unwrap_err().number(),
                Some(expected),
                "{jwt}"
            );
        }
    }

    #[test]
    fn issuer_then_subject_then_audience_are_compared_exactly() {
        let (issuer, subject, audience) = (
            "https://issuer/",
            "system:serviceaccount:ns:sa",
            "api://AzureADTokenExchange",
        );
        let other = trust("other", "other", "other");
        let table = [
            (vec![other.clone(), trust(issuer, subject, audience)], None),
            (vec![], Some(70025)),
            (vec![other], Some(700_211)),
            (
                vec![trust("https://issuer", subject, audience)],
                Some(700_211),
            ),
            (
                vec![trust("https://Issuer/", subject, audience)],
                Some(700_211),
            ),
            (
                vec![trust(issuer, "system:serviceaccount:ns:other", "other")],
                Some(700_213),
            ),
            (
                vec![trust(issuer, "system:serviceaccount:NS:sa", "other")],
                Some(7_002_138),
            ),
            (
                vec![trust(issuer, subject, "api://azureadtokenexchange")],
                Some(700_212),
            ),
        ];
        let jwt = Signer::new("k").sign(&claims());
        let assertion = Assertion::read(&jwt).unwrap();
        for (trusts, expected) in table {
            let shown = format!("{trusts:?}");
            let outcome = assertion
                .trusted_by(trusts)
                .and_then(|trusts| assertion.admitted_by(&trusts));
            assert_eq!(
                outcome.err().and_then(|error| error.number()),
                expected,
                "{shown}"
            );
        }
    }

    #[test]
    fn one_audience_may_be_a_plain_string() {
        let jwt = Signer::new("k").sign(&with("aud", "api://AzureADTokenExchange"));
        assert_eq!(
            Assertion::read(&jwt).unwrap().audiences,
            ["api://AzureADTokenExchange"]
        );
    }
}
