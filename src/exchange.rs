//! Why Entra takes no token of an account: the one table that turns its answers into what to change.
//! Microsoft may change the codes, so they choose words, and nothing is done on their ground.
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    api::Reason,
    azure::{AzureError, AzureErrorKind},
    model::{IdentityId, Issuer, Subject},
    problem::{Problem, Retry},
};

/// Entra is not asked sooner after a credential was written. An answer that comes too early stays
/// with it for minutes, and the pods get it, too: "wait a short time", says Microsoft.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
const SETTLE: SignedDuration = SignedDuration::from_secs(15);
/// For how long Entra may answer from what it knew before a credential was written: "a couple of
/// minutes", and some. <https://azure.github.io/azure-workload-identity/docs/faq.html>
const CREDENTIAL: SignedDuration = SignedDuration::from_mins(5);
/// For how long it may not know the keys of an issuer that it never heard of: more than half an hour
/// was seen with new clusters.
const ISSUER: SignedDuration = SignedDuration::from_mins(40);
/// How often it is asked meanwhile.
const AGAIN: Duration = Duration::from_secs(20);

/// A token of one account, and the identity that it is to be exchanged for: all that Entra compares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenExchange {
    /// The account's namespace.
    pub namespace: String,
    /// The account.
    pub account: String,
    /// Its uid: another account of that name is not it.
    pub uid: String,
    /// The token's issuer.
    pub issuer: Issuer,
    /// The token's audience.
    pub audience: String,
    /// The identity.
    pub identity: IdentityId,
    /// Its client ID.
    pub client: Uuid,
    /// Its tenant ID.
    pub tenant: Uuid,
    /// The credential that lets the account in.
    pub credential: Option<String>,
    /// When the operator wrote that, if it did.
    pub written: Option<Timestamp>,
    /// Since when Entra may know the issuer: when the first of the object's credentials was written.
    pub issuer_used: Option<Timestamp>,
}

/// Why it is not known that Entra takes the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotVerified {
    /// The credential was written so lately that asking would do harm.
    TooEarly,
    /// The API server gave no token of the account.
    NoToken(Problem),
    /// Entra gave none for it.
    Refused(AzureError),
}

/// What of Entra's may lag behind, so that a refusal may pass by itself.
#[derive(Clone, Copy)]
enum Lag {
    /// The identity's list of credentials.
    Credential,
    /// The issuer's keys.
    Issuer,
}

struct Row {
    codes: &'static [u32],
    reason: Reason,
    lag: Option<Lag>,
    advice: fn(&TokenExchange) -> String,
}

const fn row(
    codes: &'static [u32],
    reason: Reason,
    lag: Option<Lag>,
    advice: fn(&TokenExchange) -> String,
) -> Row {
    Row {
        codes,
        reason,
        lag,
        advice,
    }
}

/// A list that is old can lack a new credential, or hold it as it was before.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(&[70_021], Reason::NoMatchingCredential, Some(Lag::Credential), |of| format!(
        "One of the identity's credentials must have issuer {}, subject {} and audience {}, byte for byte. Compare: {}",
        of.issuer, of.subject(), of.audience, of.identity.az_list(),
    )),
    row(&[70_025], Reason::NoCredentials, Some(Lag::Credential), |of| format!(
        "Entra finds no credential of client ID {}. Look whether it is the identity's, and which it has: {}; {}",
        of.client, of.az_show(), of.identity.az_list(),
    )),
    row(&[700_211], Reason::IssuerNotTrusted, Some(Lag::Credential), |of| format!(
        "The credential must have issuer {}, byte for byte, with the slash at its end if there is one. Compare: {}. If Entra names another issuer than this, the operator was started with a wrong --issuer (Helm: issuer)",
        of.issuer, of.identity.az_list(),
    )),
    row(&[700_212], Reason::AudienceNotTrusted, Some(Lag::Credential), |of| format!(
        "The credential must have audience {}, the one of the cloud, or what the Azure webhook was started with; --federation-audience (Helm: azure.federationAudience) sets it for the operator. Compare: {}",
        of.audience, of.identity.az_list(),
    )),
    row(&[700_213], Reason::SubjectNotTrusted, Some(Lag::Credential), |of| format!(
        "The credential must have subject {}. Compare: {}",
        of.subject(), of.identity.az_list(),
    )),
    row(&[7_002_138], Reason::SubjectCaseDiffers, Some(Lag::Credential), |of| format!(
        "A credential must have subject {}, upper and lower case included. Delete the one that differs, and the operator writes its own: {}",
        of.subject(), of.credential.as_ref().map_or_else(|| of.identity.az_list(), |name| of.identity.az_delete(name)),
    )),
    row(&[700_016], Reason::ClientNotFound, Some(Lag::Credential), |of| format!(
        "Tenant {} must know client ID {}. Compare: {}. The tenant of an application is what spec.identity.tenantId says",
        of.tenant, of.client, of.az_show(),
    )),
    row(&[7_000_272], Reason::SigningKeyUnknown, Some(Lag::Issuer), |of| format!(
        "The keys that the issuer {} publishes must be those of the API server. Compare: curl -sS {}; kubectl get --raw /openid/v1/jwks",
        of.issuer, of.discovery(),
    )),
    row(&[700_024], Reason::TokenTimeInvalid, None, |of| format!(
        "The API server issued the token of {} a moment ago, so its clock is wrong. Compare the time on its nodes: date -u",
        of.subject(),
    )),
    row(&[50_166, 501_661, 90_061], Reason::IssuerUnreachable, None, |of| format!(
        "Everybody on the internet must be able to read the issuer's documents, with a certificate of a public authority. Try from outside of your network: curl -sS {}. On AKS: az aks update -g <group> -n <cluster> --enable-oidc-issuer",
        of.discovery(),
    )),
    row(&[7_002_381], Reason::EntraPolicy, None, |of| format!(
        "A policy of the Entra tenant {} forbids it. Have an administrator of Entra allow the issuer {} for client ID {}; the tenant's sign-in log names the policy",
        of.tenant, of.issuer, of.client,
    )),
];

/// A code that is not in the table.
const OTHER: Row = row(&[], Reason::ExchangeRefused, None, |of| {
    format!(
        "It is about subject {} and client ID {} in tenant {}",
        of.subject(),
        of.client,
        of.tenant
    )
});

impl TokenExchange {
    /// The token's subject.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject::new(&self.namespace, &self.account)
    }

    /// How long it is too early to ask Entra.
    #[must_use]
    pub fn settles_in(&self, now: Timestamp) -> Option<Duration> {
        left(self.written?, SETTLE, now)
    }

    /// What stands in the way, in words for the user, and when to try again.
    #[must_use]
    pub fn problem(&self, error: &NotVerified, now: Timestamp) -> Problem {
        match error {
            NotVerified::TooEarly => Problem {
                reason: Reason::Propagating,
                message: format!(
                    "{}: its credential was written just now. Entra is asked {} seconds later: to ask too early makes it wrong for minutes.",
                    self.named(),
                    SETTLE.as_secs(),
                ),
                retry: self.settles_in(now).map_or(Retry::Backoff, Retry::After),
            },
            NotVerified::NoToken(problem) => problem.clone(),
            NotVerified::Refused(error) if error.kind == AzureErrorKind::Unauthenticated => {
                self.refused(error, now)
            }
            NotVerified::Refused(error) => {
                let what = "cannot exchange ServiceAccount tokens at Entra";
                Problem::azure(what, &self.identity, error)
            }
        }
    }

    fn refused(&self, error: &AzureError, now: Timestamp) -> Problem {
        let codes = error.code.as_deref().unwrap_or_default();
        let codes: Vec<u32> = codes.split(',').filter_map(|c| c.parse().ok()).collect();
        let knows = |row: &&Row| codes.iter().any(|code| row.codes.contains(code));
        let row = TABLE.iter().find(knows).unwrap_or(&OTHER);
        let said = format!("{}: {}", self.named(), error.message.trim_end_matches('.'));
        let advice = (row.advice)(self);
        match self.normal_until(row.lag, now) {
            Some((until, why)) => Problem {
                reason: Reason::Propagating,
                message: format!(
                    "{said}. Until {until} that is normal: {why}. Entra is asked again every {} seconds. If it lasts: {advice}.",
                    AGAIN.as_secs(),
                    until = until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                ),
                retry: Retry::After(AGAIN),
            },
            None => Problem {
                reason: row.reason,
                message: format!("{said}. {advice}."),
                retry: Retry::Slow,
            },
        }
    }

    /// Until when Entra's answer may be one from before, and why. What the operator did not write may
    /// have been there for long.
    fn normal_until(&self, lag: Option<Lag>, now: Timestamp) -> Option<(Timestamp, String)> {
        let (since, grace, why) = match lag? {
            Lag::Credential => {
                let why = "the credential is new, and Entra does not know it everywhere";
                (self.written?, CREDENTIAL, why.to_owned())
            }
            Lag::Issuer => {
                let why = format!("Entra learns the keys of the new issuer {}", self.issuer);
                (self.issuer_used?, ISSUER, why)
            }
        };
        left(since, grace, now).map(|_| (since + grace, why))
    }

    fn named(&self) -> String {
        format!("ServiceAccount {}", self.account)
    }

    fn discovery(&self) -> String {
        let issuer = self.issuer.as_str().trim_end_matches('/');
        format!("{issuer}/.well-known/openid-configuration")
    }

    fn az_show(&self) -> String {
        match &self.identity {
            IdentityId::Managed(id) => {
                format!(
                    "az identity show --ids {id} --query '{{client: clientId, tenant: tenantId}}'"
                )
            }
            IdentityId::Application(id) => format!("az ad app show --id {id} --query appId"),
        }
    }
}

/// What is left of `grace` from `since` on. A clock that was set back must not make it last for ever.
#[must_use]
pub fn left(since: Timestamp, grace: SignedDuration, now: Timestamp) -> Option<Duration> {
    Duration::try_from(grace - now.duration_since(since))
        .ok()
        .filter(|left| !left.is_zero() && *left <= grace.unsigned_abs())
}
