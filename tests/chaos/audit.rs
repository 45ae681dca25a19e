//! Nothing else was touched: what the API server and Azure have on record.

use airflow_workload_identity::api::OPERATOR;
use anyhow::Result;
use lab::{AuditEntry, Lab};

use crate::stage::{ACCOUNTS, FOREIGN_CREDENTIALS, FOREIGN_SECRETS};

/// Every write of the operator's that it had no business with, in words.
pub async fn trespasses(lab: &Lab) -> Result<Vec<String>> {
    let user = format!("system:serviceaccount:{OPERATOR}:{OPERATOR}");
    let entries = lab.audit_log()?;
    let writes = entries
        .iter()
        .filter(|entry| entry.user == user && entry.is_write());
    let mut trespasses: Vec<String> = writes
        .filter(|entry| !is_own_business(entry))
        .map(|entry| format!("{} {}", entry.verb, entry.request_uri))
        .collect();
    let requests = lab.emulator().requests(0).await?;
    let writes = requests.iter().filter(|request| {
        request.is_operators()
            && matches!(request.method.as_str(), "PUT" | "DELETE" | "PATCH" | "POST")
    });
    trespasses.extend(
        writes
            .filter(|request| !is_own_credential(&request.path))
            .map(|request| format!("{} {}", request.method, request.path)),
    );
    Ok(trespasses)
}

fn is_own_business(entry: &AuditEntry) -> bool {
    let name = entry.name.as_str();
    let is_on_stage = entry.namespace.starts_with("chaos-");
    match (entry.resource.as_str(), entry.subresource.as_str()) {
        ("leases", "") => name == OPERATOR || name.is_empty(),
        ("configmaps", "") => name.ends_with("-issuers") || name.is_empty(),
        ("events", "") => is_on_stage,
        ("airflowworkloadidentities", "" | "status") => is_on_stage && name == "prod",
        ("serviceaccounts", "") => is_on_stage && entry.verb == "patch" && ACCOUNTS.contains(&name),
        ("secrets", "") => is_on_stage && !FOREIGN_SECRETS.contains(&name),
        ("roles" | "rolebindings", "") => is_on_stage && name.starts_with("prod"),
        _ => false,
    }
}

fn is_own_credential(path: &str) -> bool {
    let Some((identity, name)) = path.split_once("/federatedIdentityCredentials/") else {
        return false;
    };
    let is_on_stage = identity
        .rsplit('/')
        .next()
        .is_some_and(|identity| identity.starts_with("chaos-"));
    is_on_stage && !FOREIGN_CREDENTIALS.contains(&name)
}
