//! A credential that was just written is not yet known everywhere in Entra. That is no reason to
//! call the account not ready, but the user should know.
//! <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{AirflowWorkloadIdentityStatus, ServiceAccountStatus},
    apply::Outcome,
    exchange::left,
    plan::{AccountPlan, Progress},
};

/// How long Microsoft says that it may take: "a couple of minutes".
const GRACE: SignedDuration = SignedDuration::from_mins(2);

/// When the account's credential was last written.
pub(super) fn federated_at(
    account: &AccountPlan,
    outcome: &Outcome,
    before: Option<&ServiceAccountStatus>,
    now: Timestamp,
) -> Option<Time> {
    match account.credential {
        Progress::Pending(step) if outcome.is_done(step) => Some(Time(now)),
        _ => before
            .filter(|before| before.credential_name == account.credential_name)
            .and_then(|before| before.federated_at.clone())
            // Or a clock that was set back would reach it once more.
            .map(|Time(at)| Time(at.min(now))),
    }
}

/// Which accounts Entra may not know everywhere yet, in words.
pub(super) fn note(accounts: &[ServiceAccountStatus], now: Timestamp) -> Option<String> {
    let fresh: Vec<&str> = accounts
        .iter()
        .filter(|account| account.federated && until_settled(account, now).is_some())
        .map(|account| account.name.as_str())
        .collect();
    (!fresh.is_empty()).then(|| {
        format!(
            "Written within the last two minutes: {}. Until Entra knows it everywhere it may answer AADSTS70021, AADSTS70025 or AADSTS700213; a task that fails so succeeds when it is tried again.",
            fresh.join(", ")
        )
    })
}

/// When the status has to be written again because the last of these accounts has settled.
#[must_use]
pub fn settles_in(status: &AirflowWorkloadIdentityStatus, now: Timestamp) -> Option<Duration> {
    let accounts = status.service_accounts.iter();
    accounts
        .filter_map(|account| until_settled(account, now))
        .max()
}

fn until_settled(account: &ServiceAccountStatus, now: Timestamp) -> Option<Duration> {
    let Time(written) = account.federated_at.as_ref()?;
    left(*written, GRACE, now)
}
