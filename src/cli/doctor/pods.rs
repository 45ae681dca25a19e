//! The running pods of each account: those that lack something one by one, the others counted.

use super::{
    finding::{Finding, Level},
    object::Seen,
};
use crate::status::shortfall;

const CHECK: &str = "pods";

/// The running pods of each account.
#[must_use]
pub fn check(seen: &Seen) -> Vec<Finding> {
    let client_id = seen.now.client_id.as_deref().unwrap_or_default();
    let mut findings = Vec::new();
    for account in &seen.now.service_accounts {
        let Some(injection) = &account.injection else {
            continue;
        };
        let mut well = 0;
        for pod in seen.snapshot.pods.get(&account.name).into_iter().flatten() {
            match shortfall(seen.snapshot, pod, injection, client_id) {
                None => well += 1,
                Some((reason, what, advice)) => findings.push(
                    Finding::ok(CHECK, format!("pod/{}", pod.name), what)
                        .at(Level::Error)
                        .why(reason.to_string())
                        .fix(advice),
                ),
            }
        }
        let what = match well {
            0 => continue,
            1 => "1 running pod has what it should".to_owned(),
            more => format!("{more} running pods have what they should"),
        };
        let object = format!("serviceaccount/{}", account.name);
        findings.push(Finding::ok(CHECK, object, what));
    }
    findings
}
