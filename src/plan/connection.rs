//! The connection Secret: rendered as Airflow reads it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::Serialize;
use uuid::Uuid;

use super::{Action, Ids, Plan, Progress, SecretPlan};
use crate::{
    api::{AzureConnection, ConditionType, Connection, Reason},
    observe::{SecretState, Snapshot, checksum, secret_name},
    problem::{Problem, Retry},
};

/// Plans the Secret that the spec asks for, and the end of those of a former name.
pub(super) fn plan(snapshot: &Snapshot, plan: &mut Plan) {
    let Some(ids) = plan.ids else {
        let problem = Problem::on_change(Reason::Waiting, "The identity must be known first.");
        plan.blocked
            .insert(ConditionType::ConnectionsWritten, problem);
        return;
    };
    let name = secret_name(&snapshot.object);
    let data = render(&snapshot.object.spec.connections, ids);
    let checksum = checksum(&data);
    let mut write = |replaces| {
        let action = Action::WriteSecret {
            name: name.clone(),
            data: data.clone(),
            checksum: checksum.clone(),
            replaces,
        };
        Progress::Pending(plan.push(action, Vec::new()))
    };
    let progress = match &snapshot.secret {
        Ok(SecretState::Absent) => write(None),
        Ok(SecretState::Ours {
            checksum: found,
            is_marked,
            resource_version,
            ..
        }) => {
            if *found == checksum && *is_marked {
                Progress::Holds
            } else {
                write(resource_version.clone())
            }
        }
        Ok(SecretState::Foreign) => Progress::Blocked(Problem {
            reason: Reason::Conflict,
            message: format!(
                "Secret {name} exists and was not made for this object. It is left alone. Set spec.connectionSecret.name to another name, or delete it: kubectl delete secret {name} -n {namespace}",
                namespace = snapshot.namespace,
            ),
            // Foreign Secrets are not watched; reading one is cheap.
            retry: Retry::Backoff,
        }),
        Err(problem) => Progress::Blocked(problem.clone()),
    };
    // The new one exists before the old one goes.
    let after: Vec<usize> = match progress {
        Progress::Pending(step) => vec![step],
        Progress::Holds => Vec::new(),
        Progress::Blocked(_) | Progress::Unverified(_) => {
            plan.secret = Some(SecretPlan {
                name,
                checksum,
                progress,
            });
            return;
        }
    };
    for secret in snapshot.stale_secrets.clone() {
        plan.push(Action::DeleteSecret(secret), after.clone());
    }
    plan.secret = Some(SecretPlan {
        name,
        checksum,
        progress,
    });
}

/// One key `AIRFLOW_CONN_<ID>` per connection. Airflow looks the ID up in upper case.
/// <https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#storing-connections-in-environment-variables>
fn render(connections: &[Connection], ids: Ids) -> BTreeMap<String, ByteString> {
    connections
        .iter()
        .filter_map(|connection| {
            let json = azure(connection.azure.as_ref()?, ids);
            let key = format!("AIRFLOW_CONN_{}", connection.id.to_ascii_uppercase());
            Some((key, ByteString(json.into_bytes())))
        })
        .collect()
}

/// Airflow drops a connection that has any key it does not know, and any tenant key other than
/// `workload_identity_tenant_id` would switch the hook to a client secret: so a closed struct.
/// <https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/connections/azure.html>
#[derive(Serialize)]
struct AirflowConnection<'a> {
    conn_type: &'a str,
    extra: AzureExtra,
}

#[derive(Serialize)]
struct AzureExtra {
    managed_identity_client_id: Uuid,
    workload_identity_tenant_id: Uuid,
    #[serde(rename = "subscriptionId", skip_serializing_if = "Option::is_none")]
    subscription_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_azure_identity_object: Option<bool>,
}

fn azure(connection: &AzureConnection, ids: Ids) -> String {
    let connection = AirflowConnection {
        conn_type: "azure",
        extra: AzureExtra {
            managed_identity_client_id: ids.client,
            workload_identity_tenant_id: ids.tenant,
            subscription_id: connection.subscription_id,
            use_azure_identity_object: connection.use_azure_identity_object,
        },
    };
    serde_json::json!(connection).to_string()
}
