//! Whether Entra takes the accounts' tokens.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::verdict::{Verdict, merged, waiting};
use crate::{
    api::{AirflowWorkloadIdentityStatus, Reason, ServiceAccountStatus},
    azure::AzureErrorKind,
    exchange::NotVerified,
    observe::{Exchange, Snapshot},
    problem::Problem,
};

/// What is done in this pass is tried in the next one.
const NEXT: Duration = Duration::from_secs(1);

pub(super) fn verdict(
    exchanges: &BTreeMap<String, Exchange>,
    accounts: &[ServiceAccountStatus],
    now: Timestamp,
) -> Verdict {
    if accounts.is_empty() {
        return waiting("There is no ServiceAccount yet.");
    }
    let mut refused = Vec::new();
    let mut unknown = Vec::new();
    for account in accounts {
        let exchange = tried(exchanges, account);
        let Some(error) = exchange.map(|exchange| exchange.result.as_ref().err()) else {
            unknown.push(untried(account));
            continue;
        };
        let Some((exchange, error)) = exchange.zip(error) else {
            continue;
        };
        let problem = exchange.of.problem(error, now);
        let is_no =
            matches!(error, NotVerified::Refused(e) if e.kind == AzureErrorKind::Unauthenticated);
        if is_no && problem.reason != Reason::Propagating {
            refused.push(problem);
        } else {
            unknown.push(problem);
        }
    }
    if refused.is_empty() && unknown.is_empty() {
        return Verdict::True("Entra takes a token of every ServiceAccount.".into());
    }
    // What is waited for says more than what waits.
    unknown.sort_by_key(|problem| problem.reason == Reason::Waiting);
    if refused.is_empty() {
        return Verdict::Unknown(merged(unknown));
    }
    refused.extend(unknown);
    Verdict::False(merged(refused))
}

/// When a pass has to come because of an exchange; none if there is nothing to try.
#[must_use]
pub fn exchanges_in(
    snapshot: &Snapshot,
    after: &AirflowWorkloadIdentityStatus,
) -> Option<Duration> {
    let exchanges = snapshot.exchanges.as_ref()?;
    let before = snapshot.object.status.iter();
    let before: Vec<_> = before.flat_map(|status| &status.service_accounts).collect();
    let accounts = after.service_accounts.iter();
    let wait = accounts.filter_map(|account| match tried(exchanges, account) {
        Some(exchange) => Some(exchange.again_in),
        // What was as it is, and was not tried, is not tried in the next pass either.
        None if before.iter().any(|before| is_same(before, account)) => None,
        None => is_done(account).then_some(NEXT),
    });
    wait.min()
}

/// The try that was with this very account and credential.
fn tried<'a>(
    exchanges: &'a BTreeMap<String, Exchange>,
    account: &ServiceAccountStatus,
) -> Option<&'a Exchange> {
    let exchange = exchanges.get(&account.name)?;
    let of = &exchange.of;
    let is_it = account.uid.as_ref() == Some(&of.uid)
        && account.credential_name == of.credential
        && account.federated_at == of.written.map(Time);
    (is_it && is_done(account)).then_some(exchange)
}

fn untried(account: &ServiceAccountStatus) -> Problem {
    let name = &account.name;
    let message = if is_done(account) {
        format!("ServiceAccount {name} is tried as soon as identity, issuer and grant are known.")
    } else {
        format!("ServiceAccount {name} has to be federated and annotated first.")
    };
    Problem::on_change(Reason::Waiting, message)
}

fn is_done(account: &ServiceAccountStatus) -> bool {
    account.federated && account.annotated
}

fn is_same(before: &ServiceAccountStatus, after: &ServiceAccountStatus) -> bool {
    let known = |account: &ServiceAccountStatus| {
        let credential = (
            account.credential_name.clone(),
            account.federated_at.clone(),
        );
        (
            account.name.clone(),
            account.uid.clone(),
            credential,
            is_done(account),
        )
    };
    known(before) == known(after)
}
