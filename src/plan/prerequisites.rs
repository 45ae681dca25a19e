//! What has to hold before anything is written: a grant, the identity and the issuer.

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
    let names: Vec<&str> = if snapshot.is_granted() {
        refused
            .iter()
            .map(|account| account.name.as_str())
            .collect()
    } else {
        Vec::new()
    };
    let what = match names.as_slice() {
        [] if snapshot.is_granted() => return,
        [] => format!("namespace {namespace}"),
        some => format!("{names} of namespace {namespace}", names = some.join(", ")),
    };
    let message = format!(
        "No AzureIdentityGrant lets {what} use identity {identity}. A cluster administrator can apply:\n{yaml}",
        yaml = grant::missing(identity, namespace, &names),
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
        ("clientId", spec.client_id, Some(found.client_id)),
        ("tenantId", spec.tenant_id, found.tenant_id),
    ] {
        if let (Some(pinned), Some(actual)) = (pinned, actual)
            && pinned != actual
        {
            return Err(Problem::on_change(
                Reason::IdentityMismatch,
                format!(
                    "spec.identity.{field} is {pinned}, but Azure says {actual} for {identity}. Correct {field}, or leave it out."
                ),
            ));
        }
    }
    let tenant = found.tenant_id.or(spec.tenant_id).ok_or_else(|| {
        let message =
            format!("spec.identity.tenantId is missing: Azure does not tell it of {identity}.");
        Problem::on_change(Reason::InvalidSpec, message)
    })?;
    Ok(Some(Ids {
        client: found.client_id,
        tenant,
    }))
}
