//! Connections as Airflow reads them.
//!
//! Airflow drops a connection that has any key it does not know, and any tenant key other than
//! `workload_identity_tenant_id` would switch the hook to a client secret: so a closed struct.
//! What each type needs is what its hook reads:
//! <https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/connections/index.html>

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::Ids;
use crate::{
    api::{Connection, ConnectionType, KeyVaultBackend},
    secrets::{BACKEND_KEY, Content, FILE_KEY, variable},
};

/// A Secret's data.
pub(super) fn render(content: Content, ids: Ids) -> BTreeMap<String, ByteString> {
    let bytes = |text: String| ByteString(text.into_bytes());
    match content {
        Content::Environment(connections) => connections
            .iter()
            .map(|connection| {
                let key = variable(&connection.id);
                (key, bytes(text(&airflow(connection, ids))))
            })
            .collect(),
        Content::Backend(connection) => [(
            BACKEND_KEY.to_owned(),
            bytes(text(&airflow(connection, ids))),
        )]
        .into(),
        // <https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/local-filesystem-secrets-backend.html>
        Content::File(connections) => {
            let file: BTreeMap<&str, AirflowConnection> = connections
                .iter()
                .map(|connection| (connection.id.as_str(), airflow(connection, ids)))
                .collect();
            [(FILE_KEY.to_owned(), bytes(text(&file)))].into()
        }
        Content::KeyVault(backend) => key_vault(backend, ids)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), bytes(value)))
            .collect(),
    }
}

#[derive(Serialize)]
struct AirflowConnection {
    conn_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    extra: Map<String, Value>,
}

fn airflow(connection: &Connection, ids: Ids) -> AirflowConnection {
    let mut rendered = typed(&connection.to);
    // Ours last: nothing that the user adds replaces a field of the type or of the identity.
    let free = connection.extra.iter();
    rendered.extra = free
        .map(|field| (field.name.clone(), field.value.clone()))
        .chain(rendered.extra)
        .chain(given(identity(ids)))
        .collect();
    rendered
}

/// What the type's hook reads, without the identity.
fn typed(to: &ConnectionType) -> AirflowConnection {
    use ConnectionType as To;
    match to {
        To::Adls(to) => of("adls")
            .host(to.account.as_ref())
            .extra(json!({ "account_url": to.account_url })),
        To::AiAgents(to) => of("azure_ai_agents").host(Some(&to.endpoint)),
        To::Azure(to) => of("azure").extra(json!({
            "subscriptionId": to.subscription_id,
            "use_azure_identity_object": to.use_azure_identity_object,
        })),
        To::Batch(to) => of("azure_batch").extra(json!({ "account_url": to.account_url })),
        To::Compute(to) => {
            of("azure_compute").extra(json!({ "subscriptionId": to.subscription_id }))
        }
        To::ContainerInstance(to) => {
            of("azure_container_instance").extra(json!({ "subscriptionId": to.subscription_id }))
        }
        To::ContainerRegistry(to) => {
            let server = format!("{}.azurecr.io", to.registry);
            of("azure_container_registry")
                .host(Some(to.server.as_ref().unwrap_or(&server)))
                .login(Some(&to.registry))
                .extra(json!({
                    "subscription_id": to.subscription_id,
                    "resource_group": to.resource_group,
                }))
        }
        To::ContainerVolume(to) => of("azure_container_volume").extra(json!({
            "subscription_id": to.subscription_id,
            "resource_group": to.resource_group,
        })),
        To::Cosmos(to) => of("azure_cosmos").login(Some(&to.endpoint)).extra(json!({
            "subscription_id": to.subscription_id,
            "resource_group_name": to.resource_group,
            "database_name": to.database,
            "collection_name": to.collection,
            "partition_key": to.partition_key,
        })),
        To::DataExplorer(to) => of("azure_data_explorer")
            .host(Some(&to.cluster_url))
            .extra(json!({ "auth_method": "AZURE_TOKEN_CRED" })),
        To::DataFactory(to) => of("azure_data_factory").extra(json!({
            "subscriptionId": to.subscription_id,
            "resource_group_name": to.resource_group,
            "factory_name": to.factory,
        })),
        To::Fileshare(to) => {
            of("azure_fileshare").login(to.account.as_ref().or(to.account_url.as_ref()))
        }
        To::ServiceBus(to) => AirflowConnection {
            // Without it the hook takes "None" for a connection string.
            schema: Some(""),
            ..of("azure_service_bus").extra(json!({ "fully_qualified_namespace": to.host }))
        },
        To::Synapse(to) => of("azure_synapse")
            .host(Some(&to.workspace_url))
            .extra(json!({ "subscriptionId": to.subscription_id })),
        To::Wasb(to) => of("wasb")
            .host(to.account_url.as_ref())
            .login(to.account.as_ref()),
    }
}

fn of(conn_type: &'static str) -> AirflowConnection {
    AirflowConnection {
        conn_type,
        host: None,
        login: None,
        schema: None,
        extra: Map::new(),
    }
}

impl AirflowConnection {
    fn host(self, host: Option<&String>) -> Self {
        let host = host.cloned();
        Self { host, ..self }
    }

    fn login(self, login: Option<&String>) -> Self {
        let login = login.cloned();
        Self { login, ..self }
    }

    /// What has no value is left out.
    fn extra(self, fields: Value) -> Self {
        let extra = given(fields);
        Self { extra, ..self }
    }
}

/// Both, or the hooks silently ignore the other one.
fn identity(ids: Ids) -> Value {
    json!({
        "managed_identity_client_id": ids.client,
        "workload_identity_tenant_id": ids.tenant,
    })
}

/// The fields that have a value.
fn given(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(mut fields) => {
            fields.retain(|_, value| !value.is_null());
            fields
        }
        _ => Map::new(),
    }
}

/// <https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/secrets-backends/azure-key-vault.html>
fn key_vault(backend: &KeyVaultBackend, ids: Ids) -> [(&'static str, String); 2] {
    const CLASS: &str = "airflow.providers.microsoft.azure.secrets.key_vault.AzureKeyVaultBackend";
    let prefixes = [
        ("connections_prefix", &backend.connections_prefix),
        ("variables_prefix", &backend.variables_prefix),
        ("config_prefix", &backend.config_prefix),
    ];
    let mut kwargs = given(identity(ids));
    kwargs.insert("vault_url".into(), json!(backend.vault_url));
    for (key, prefix) in prefixes {
        if let Some(prefix) = prefix {
            // Null: not looked up.
            let value = Some(prefix).filter(|prefix| !prefix.is_empty());
            kwargs.insert(key.into(), json!(value));
        }
    }
    [
        ("AIRFLOW__SECRETS__BACKEND", CLASS.to_owned()),
        ("AIRFLOW__SECRETS__BACKEND_KWARGS", text(&kwargs)),
    ]
}

fn text(value: &impl Serialize) -> String {
    json!(value).to_string()
}
