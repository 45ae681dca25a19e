//! The identity in Azure: how full it is, and who may write to it.

use super::{
    finding::{Finding, Level},
    object::Seen,
};
use crate::{
    api::ConditionType,
    azure::AzureError,
    plan::{CREDENTIAL_LIMIT, credential_users},
};

/// How full the identity is.
pub(super) fn quota(seen: &Seen) -> Option<Finding> {
    const CHECK: &str = "quota";
    let Seen { snapshot, plan, .. } = seen;
    let identity = snapshot.identity.as_ref().ok()?;
    let credentials = snapshot.azure.get(identity)?.credentials.as_ref().ok()?;
    let object = format!("identity/{}", identity.name());
    let carries = format!("{} of {CREDENTIAL_LIMIT} credentials", credentials.len());
    let found = Finding::ok(CHECK, object, carries);
    let nearly_full = plan
        .notes
        .contains_key(&ConditionType::CredentialsFederated);
    Some(match &snapshot.issuer {
        Ok(issuer) if nearly_full => found
            .at(Level::Warning)
            .why(format!("Used by {}", credential_users(issuer, credentials)))
            .fix(format!(
                "Delete what nobody needs: {}; or use one identity per Airflow",
                identity.az_list()
            )),
        _ => found,
    })
}

/// Whether whoever looks may write to the identity: the operator's own right shows in its conditions.
#[must_use]
pub fn permission(seen: &Seen, may_write: &Result<bool, AzureError>) -> Option<Finding> {
    const CHECK: &str = "permission";
    let identity = seen.snapshot.identity.as_ref().ok()?;
    let found = |what: &str| Finding::ok(CHECK, format!("identity/{}", identity.name()), what);
    Some(match may_write {
        Ok(true) => found("whoever runs this command may write its credentials").why(
            "The operator signs in as somebody else, unless this runs with its identity; its own right shows in the condition CredentialsFederated",
        ),
        Ok(false) => found("whoever runs this command may not write its credentials").why(
            "It need not; the operator must, and its own right shows in the condition CredentialsFederated",
        ),
        Err(error) => found("who may write its credentials is not known")
            .at(Level::Warning)
            .why(error.to_string())
            .fix("It takes Microsoft.Authorization/permissions/read, which the role Reader has"),
    })
}
