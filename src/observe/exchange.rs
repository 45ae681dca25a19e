//! Whether Entra takes the accounts' tokens: tried, as Airflow's pods do it, and thrown away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Client, Resource,
    api::{ObjectMeta, PostParams, Request},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Snapshot, Sources};
use crate::{
    api::{Reason, ServiceAccountStatus},
    azure::{AccountToken, AzureClient, AzureErrorKind},
    exchange::{NotVerified, TokenExchange},
    problem::{ClusterError, Problem, Retry, bounded},
};

/// How long a success stands. A token lives for about as long, so the pods ask no more often.
const VERIFIED: Duration = Duration::from_secs(3600);
/// However many events there are, what failed is not tried more often.
const PAUSE: Duration = Duration::from_secs(2);
/// The shortest life that the API server takes; the token is used at once.
/// <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>
const LIFETIME: i64 = 600;

/// All exchanges of this process.
#[derive(Debug)]
pub struct Exchanges {
    azure: AzureClient,
    known: Mutex<HashMap<TokenExchange, Known>>,
}

/// What came of an exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was exchanged.
    pub of: TokenExchange,
    /// Whether Entra gave a token.
    pub result: Result<(), NotVerified>,
    /// When it should be tried again.
    pub again_in: Duration,
}

#[derive(Debug)]
struct Known {
    result: Result<(), NotVerified>,
    /// How many tries failed up to this one.
    failures: u32,
    /// It stands until then, whatever happens.
    stands: Instant,
    /// It should be tried again then.
    again: Instant,
}

/// The accounts whose tokens may be tried: done for, granted, and still those that they were.
#[must_use]
pub fn exchanges_of(snapshot: &Snapshot) -> Vec<TokenExchange> {
    let Some(status) = &snapshot.object.status else {
        return Vec::new();
    };
    if snapshot.is_deleting() || snapshot.object.spec.suspend {
        return Vec::new();
    }
    let accounts = &status.service_accounts;
    let written = |account: &ServiceAccountStatus| Some(account.federated_at.as_ref()?.0);
    let issuer_used = accounts.iter().filter_map(written).min();
    let exchange = |account: &ServiceAccountStatus| {
        let identity = snapshot.identity.as_ref().ok()?;
        let found = snapshot.discovery.accounts.iter();
        let uid = found
            .filter(|found| found.name == account.name)
            .find_map(super::Account::uid)?;
        let is_it = account.uid.as_ref() == Some(&uid);
        let is_done = account.federated && account.annotated;
        if !is_it || !is_done || !snapshot.covers(identity, &account.name) {
            return None;
        }
        // The status may still speak of the identity that the spec named before.
        let live = snapshot.azure.get(identity)?.identity.as_ref().ok()?;
        let client = status.client_id.as_ref()?.parse().ok()?;
        let tenant = status.tenant_id.as_ref()?.parse().ok()?;
        let issuer = snapshot.issuer.as_ref().ok()?;
        (client == live.client_id).then(|| TokenExchange {
            namespace: snapshot.namespace.clone(),
            account: account.name.clone(),
            uid,
            issuer: issuer.clone(),
            audience: snapshot.audience.clone(),
            identity: identity.clone(),
            client,
            tenant,
            credential: account.credential_name.clone(),
            written: written(account),
            issuer_used,
        })
    };
    accounts.iter().filter_map(exchange).collect()
}

/// Tries what is not known, one after the other; none if the operator was not told to.
pub(super) async fn observe(
    sources: &Sources,
    snapshot: &Snapshot,
) -> Option<BTreeMap<String, Exchange>> {
    let exchanges = sources.exchanges.as_ref()?;
    let mut observed = BTreeMap::new();
    // Who got no answer waits no second time for it.
    let mut silent: Option<Exchange> = None;
    for of in exchanges_of(snapshot) {
        let exchange = match (exchanges.known(&of), &silent) {
            (Some(known), _) => known,
            (None, Some(silent)) => Exchange {
                of: of.clone(),
                ..silent.clone()
            },
            (None, None) => exchanges.attempt(&sources.client, &of).await,
        };
        if exchange.is_silence() {
            silent = Some(exchange.clone());
        }
        observed.insert(of.account, exchange);
    }
    Some(observed)
}

impl Exchanges {
    /// Exchanges at one Entra; nothing is known yet.
    #[must_use]
    pub fn new(azure: AzureClient) -> Self {
        Self {
            azure,
            known: Mutex::default(),
        }
    }

    /// What stands of an earlier try.
    fn known(&self, of: &TokenExchange) -> Option<Exchange> {
        let now = Instant::now();
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(of).filter(|known| now < known.stands)?;
        Some(Exchange {
            of: of.clone(),
            result: known.result.clone(),
            again_in: known.again.duration_since(now),
        })
    }

    async fn attempt(&self, client: &Client, of: &TokenExchange) -> Exchange {
        if let Some(again_in) = of.settles_in(Timestamp::now()) {
            return Exchange {
                of: of.clone(),
                result: Err(NotVerified::TooEarly),
                again_in,
            };
        }
        let result = match token(client, of).await {
            Ok(token) => {
                let exchanged = self.azure.exchange(of.tenant, of.client, token).await;
                exchanged.map_err(NotVerified::Refused)
            }
            Err(error) => Err(NotVerified::NoToken(no_token(of, &error))),
        };
        let again_in = self.remember(of, &result);
        Exchange {
            of: of.clone(),
            result,
            again_in,
        }
    }

    /// Returns when it should be tried again.
    fn remember(&self, of: &TokenExchange, result: &Result<(), NotVerified>) -> Duration {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, known| now < known.again + VERIFIED);
        let failures = all.get(of).map_or(0, |known| known.failures);
        let (failures, stands_for, again_in) = match result {
            Ok(()) => (0, VERIFIED, VERIFIED),
            Err(error) => {
                let retry = of.problem(error, Timestamp::now()).retry;
                let wait = retry.wait(failures).unwrap_or(VERIFIED);
                let stands_for = match retry {
                    Retry::After(_) => wait,
                    Retry::OnChange | Retry::Slow | Retry::Backoff => wait.min(PAUSE),
                };
                (failures.saturating_add(1), stands_for, wait)
            }
        };
        let known = Known {
            result: result.clone(),
            failures,
            stands: now + stands_for,
            again: now + again_in,
        };
        all.insert(of.clone(), known);
        again_in
    }
}

impl Exchange {
    /// Whether the other accounts would get no other answer.
    fn is_silence(&self) -> bool {
        match &self.result {
            Ok(()) | Err(NotVerified::TooEarly) => false,
            Err(NotVerified::NoToken(problem)) => problem.reason != Reason::Waiting,
            Err(NotVerified::Refused(error)) => error.kind != AzureErrorKind::Unauthenticated,
        }
    }
}

/// What of the API server's answer is used. Not kube's own call: it logs the whole answer, with the
/// token in it, if it cannot read it.
#[derive(Deserialize)]
struct Answer {
    status: AnswerStatus,
}

#[derive(Deserialize)]
struct AnswerStatus {
    token: String,
}

async fn token(client: &Client, of: &TokenExchange) -> Result<AccountToken, ClusterError> {
    let wanted = TokenRequest {
        metadata: ObjectMeta {
            name: Some(of.account.clone()),
            namespace: Some(of.namespace.clone()),
            uid: Some(of.uid.clone()),
            ..ObjectMeta::default()
        },
        spec: TokenRequestSpec {
            audiences: vec![of.audience.clone()],
            expiration_seconds: Some(LIFETIME),
            ..TokenRequestSpec::default()
        },
        status: None,
    };
    let path = ServiceAccount::url_path(&(), Some(&of.namespace));
    let body = serde_json::to_vec(&wanted).map_err(kube::Error::SerdeError)?;
    let request = Request::new(path)
        .create_subresource("token", &of.account, &PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    let text = bounded(client.request_text(request)).await?;
    let answer: Answer = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
    Ok(AccountToken::new(answer.status.token))
}

fn no_token(of: &TokenExchange, error: &ClusterError) -> Problem {
    let account = &of.account;
    // Not there, or another one by now.
    if error.is_status(404) || error.is_status(409) {
        return Problem {
            reason: Reason::Waiting,
            message: format!("ServiceAccount {account} has to be there again first."),
            retry: Retry::Backoff,
        };
    }
    let what = format!("cannot get a token of ServiceAccount {account}");
    let mut problem = Problem::cluster(&what, error);
    if error.is_status(403) {
        problem.reason = Reason::TokenRequestForbidden;
        problem.message.push_str(" The operator was told to verify the exchange, and may not ask for tokens until a cluster administrator lets it: with Helm exchangeVerification.enabled=true and rbac.create=true, else kubectl apply -f deploy/components/exchange-verification/role.yaml");
    }
    problem
}
