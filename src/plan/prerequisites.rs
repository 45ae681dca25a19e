//! What has to hold before anything is written: a grant, the identity, the issuer, and somebody
//! to write it for.

use super::{Ids, Plan};
use crate::{
    api::{ConditionType, Reason},
    grant,
    observe::{Account, Snapshot},
    problem::Problem,
};

pub(super) fn check_grant(snapshot: &Snapshot, refused: &[&Account], plan: &mut Plan) {
    let Ok(identity) = &snapshot.identity else {
        return;
    };
    let namespace = &snapshot.namespace;
    let what = if !snapshot.is_granted() {
        format!("namespace {namespace}")
    } else if refused.is_empty() {
        return;
    } else {
        let names: Vec<_> = refused
            .iter()
            .map(|account| account.name.as_str())
            .collect();
        format!(
            "ServiceAccounts {names} of namespace {namespace}",
            names = names.join(", ")
        )
    };
    let message = format!(
        "No AzureIdentityGrant lets {what} use identity {identity}. A cluster administrator can apply:\n{yaml}",
        yaml = grant::missing(identity, namespace),
    );
    plan.blocked.insert(
        ConditionType::Granted,
        Problem::on_change(Reason::NotGranted, message),
    );
}

/// Client and tenant ID, and the issuer.
pub(super) fn resolve(snapshot: &Snapshot, plan: &mut Plan) {
    match resolved(snapshot) {
        Ok(ids) => plan.ids = ids,
        Err(problem) => {
            plan.blocked
                .insert(ConditionType::IdentityResolved, problem);
        }
    }
    if let (Err(problem), Some(_)) = (&snapshot.issuer, plan.ids) {
        plan.blocked
            .insert(ConditionType::IdentityResolved, problem.clone());
    }
}

fn resolved(snapshot: &Snapshot) -> Result<Option<Ids>, Problem> {
    let identity = snapshot.identity.as_ref().map_err(Clone::clone)?;
    if !snapshot.is_granted() {
        return Ok(None);
    }
    let Some(view) = snapshot.azure.get(identity) else {
        return Ok(None);
    };
    let found = view.identity.as_ref().map_err(|error| {
        Problem::azure(&format!("cannot read identity {identity}"), identity, error)
    })?;
    let spec = &snapshot.object.spec.identity;
    for (field, pinned, actual) in [
        ("clientId", spec.client_id, found.client_id),
        ("tenantId", spec.tenant_id, found.tenant_id),
    ] {
        if let Some(pinned) = pinned.filter(|pinned| *pinned != actual) {
            return Err(Problem::on_change(
                Reason::IdentityMismatch,
                format!(
                    "spec.identity.{field} is {pinned}, but Azure says {actual} for {identity}. Correct {field}, or leave it out."
                ),
            ));
        }
    }
    Ok(Some(Ids {
        client: found.client_id,
        tenant: found.tenant_id,
    }))
}

pub(super) fn check_components(snapshot: &Snapshot, plan: &mut Plan) {
    let airflow = &snapshot.object.spec.airflow;
    let release = airflow.helm_release.as_deref().unwrap_or_default();
    let namespace = &snapshot.namespace;
    if snapshot.accounts.is_empty() {
        let message = format!(
            "No ServiceAccount or workload of namespace {namespace} has the labels tier=airflow, release={release} and one of the components. \
             Install Airflow, correct spec.airflow.helmRelease (helm list -n {namespace}), or name the accounts in spec.airflow.serviceAccounts."
        );
        let problem = Problem::on_change(Reason::NoServiceAccounts, message);
        plan.blocked
            .insert(ConditionType::ServiceAccountsAnnotated, problem);
    } else if airflow.helm_release.is_some() {
        let missing: Vec<_> = airflow
            .components
            .iter()
            .filter(|component| {
                !snapshot
                    .accounts
                    .iter()
                    .any(|a| a.components.contains(component))
            })
            .map(|component| component.as_str())
            .collect();
        if !missing.is_empty() {
            let note = format!(
                "Release {release} has no ServiceAccount for: {}.",
                missing.join(", ")
            );
            plan.notes
                .insert(ConditionType::ServiceAccountsAnnotated, note);
        }
    }
}
