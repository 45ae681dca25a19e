//! Access tokens: the token endpoint issues them, ARM and Graph accept them.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use uuid::Uuid;

use crate::arm_error::ArmError;

/// Life of an access token: Entra's default is about an hour.
pub const LIFETIME: Duration = Duration::from_secs(3599);

/// Resources that ARM goes by: its present and its older audience, of the
/// public cloud and of those for the US government and China.
const ARM_AUDIENCES: [&str; 6] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
    "https://management.core.chinacloudapi.cn",
];

/// Resources that Microsoft Graph goes by, in the same clouds.
const GRAPH_AUDIENCES: [&str; 3] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
];

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub enum Api {
    /// Azure Resource Manager.
    ResourceManager,
    /// Microsoft Graph.
    Graph,
}

/// Who an access token was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Tenant of the identity.
    pub tenant: Uuid,
    /// Client id of the identity.
    pub client: Uuid,
    /// Object id of the identity.
    pub principal: Uuid,
}

struct Issued {
    caller: Caller,
    audience: String,
    expires: Instant,
}

/// Access tokens issued so far.
#[derive(Default)]
pub struct Tokens {
    issued: HashMap<String, Issued>,
}

impl Tokens {
    /// Issues a token for a resource. It has the three parts of a JWT, because
    /// clients (azure-cli) read claims from it; that it is known here is what counts.
    pub fn issue(&mut self, caller: Caller, audience: &str, now: Instant) -> String {
        let issued_at = unix_now();
        let claims = json!({
            "aud": audience,
            "iss": format!("https://sts.windows.net/{}/", caller.tenant),
            "tid": caller.tenant,
            "appid": caller.client,
            "oid": caller.principal,
            "sub": caller.principal,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + LIFETIME.as_secs(),
            "uti": Uuid::new_v4(),
            "ver": "1.0",
        });
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let token = [
            part(json!({ "typ": "JWT", "alg": "none" }).to_string()),
            part(claims.to_string()),
            part("not signed: issued by an emulator".to_owned()),
        ]
        .join(".");
        self.issued.insert(
            token.clone(),
            Issued {
                caller,
                audience: audience.to_owned(),
                expires: now + LIFETIME,
            },
        );
        token
    }

    /// Ends the life of all tokens of a client.
    pub fn expire(&mut self, client: Uuid, now: Instant) {
        let issued = self.issued.values_mut();
        for issued in issued.filter(|issued| issued.caller.client == client) {
            issued.expires = now;
        }
    }

    /// Whom an `Authorization` header of a request to an API at `own_url` stands for.
    pub fn authenticate(
        &self,
        header: Option<&str>,
        api: Api,
        own_url: &str,
        now: Instant,
    ) -> Result<Caller, ArmError> {
        let refuse = |code, message| ArmError::new(StatusCode::UNAUTHORIZED, code, message);
        let header = header.ok_or_else(|| {
            refuse(
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            )
        })?;
        let token = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                refuse(
                    "AuthenticationFailed",
                    "Authentication failed. The 'Authorization' header is provided in an invalid format.",
                )
            })?;
        let issued = self
            .issued
            .get(token)
            .ok_or_else(|| refuse("InvalidAuthenticationToken", "The access token is invalid."))?;
        if now >= issued.expires {
            return Err(refuse(
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time has passed.",
            ));
        }
        if !api.takes(&issued.audience, own_url) {
            return Err(refuse(
                "InvalidAuthenticationToken",
                "The access token has been obtained for the wrong audience or resource.",
            ));
        }
        Ok(issued.caller.clone())
    }
}

impl Api {
    fn takes(self, audience: &str, own_url: &str) -> bool {
        let audience = audience.trim_end_matches('/');
        let own = match self {
            Self::ResourceManager => ARM_AUDIENCES.as_slice(),
            Self::Graph => GRAPH_AUDIENCES.as_slice(),
        };
        own.iter()
            .chain([&own_url])
            .any(|accepted| accepted.eq_ignore_ascii_case(audience))
    }
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://127.0.0.1:1";

    fn caller() -> Caller {
        Caller {
            tenant: Uuid::new_v4(),
            client: Uuid::new_v4(),
            principal: Uuid::new_v4(),
        }
    }

    #[test]
    fn tokens_for_arm_are_accepted_until_they_expire() {
        let (mut tokens, now, caller) = (Tokens::default(), Instant::now(), caller());
        for (audience, refused) in [
            (OWN, None),
            ("https://management.azure.com", None),
            ("https://management.core.windows.net/", None),
            ("https://127.0.0.1:2", Some("InvalidAuthenticationToken")),
            (
                "https://graph.microsoft.com",
                Some("InvalidAuthenticationToken"),
            ),
        ] {
            let header = format!("Bearer {}", tokens.issue(caller.clone(), audience, now));
            let at = |after| {
                tokens
                    .authenticate(Some(&header), Api::ResourceManager, OWN, now + after)
                    .map_err(|error| error.code)
            };
            let expected = refused.map_or_else(|| Ok(caller.clone()), |code| Err(code.to_owned()));
            assert_eq!(at(Duration::from_secs(3598)), expected, "{audience}");
            assert_eq!(
                at(LIFETIME),
                Err("ExpiredAuthenticationToken".to_owned()),
                "{audience}"
            );
        }
    }

    #[test]
    fn the_tokens_of_one_client_can_be_ended_before_their_time() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let (ended, other) = (caller(), caller());
        let headers = [&ended, &other]
            .map(|caller| format!("Bearer {}", tokens.issue(caller.clone(), OWN, now)));
        tokens.expire(ended.client, now);
        let [refused, accepted] = headers.map(|header| {
            let api = Api::ResourceManager;
            tokens
                .authenticate(Some(&header), api, OWN, now)
                .map_err(|error| error.code)
        });
        assert_eq!(refused, Err("ExpiredAuthenticationToken".to_owned()));
        assert_eq!(accepted, Ok(other));
    }

    #[test]
    fn anything_else_is_refused() {
        let tokens = Tokens::default();
        for (header, code) in [
            (None, "AuthenticationFailed"),
            (Some("Bearer"), "AuthenticationFailed"),
            (Some("Basic abc"), "AuthenticationFailed"),
            (Some("Bearer a.b.c"), "InvalidAuthenticationToken"),
        ] {
            let error = tokens
                .authenticate(header, Api::ResourceManager, OWN, Instant::now())
                .unwrap_err();
            assert_eq!(
                (error.status, error.code.as_str()),
                (StatusCode::UNAUTHORIZED, code)
            );
        }
    }
}
