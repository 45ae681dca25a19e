//! Airflow connections: one schema per connection type, so that a wrong combination is refused
//! when the object is applied and not when a task runs.
//!
//! Types and fields: the hooks of Airflow's Microsoft Azure provider that take a managed identity.
//! <https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/connections/index.html>

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A URL of Azure's, without what could carry a secret.
const IS_URL: &str = r"self.matches('^https://[a-zA-Z0-9]([-a-zA-Z0-9]*[.])+[-a-zA-Z0-9]+(:[0-9]+)?(/[-._~a-zA-Z0-9/]*)?$')";
const IS_HOST: &str = "self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[.])+[-a-zA-Z0-9]+$')";

/// An Airflow connection: its ID and exactly one connection type.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.adls), has(self.aiAgents), has(self.azure), has(self.batch), has(self.compute), has(self.containerInstance), has(self.containerRegistry), has(self.containerVolume), has(self.cosmos), has(self.dataExplorer), has(self.dataFactory), has(self.fileshare), has(self.serviceBus), has(self.synapse), has(self.wasb)].filter(given, given).size() == 1")
    .message("set exactly one connection type: adls, aiAgents, azure, batch, compute, containerInstance, containerRegistry, containerVolume, cosmos, dataExplorer, dataFactory, fileshare, serviceBus, synapse or wasb (`azure: {}` for its defaults)"),
    validation = Rule::new("!(has(self.wasb) || has(self.adls)) || !has(self.extra) || self.extra.all(e, e.name in ['connection_timeout', 'increment_base', 'initial_backoff', 'logging_body', 'logging_enable', 'max_block_size', 'max_chunk_get_size', 'max_page_size', 'max_single_get_size', 'max_single_put_size', 'min_large_block_upload_threshold', 'random_jitter_range', 'read_timeout', 'retry_connect', 'retry_read', 'retry_status', 'retry_total', 'use_byte_buffer', 'user_agent'])")
        .message("wasb and adls take in extra only sizes, timeouts, retries and logging of Azure's client: connection_timeout, increment_base, initial_backoff, logging_body, logging_enable, max_block_size, max_chunk_get_size, max_page_size, max_single_get_size, max_single_put_size, min_large_block_upload_threshold, random_jitter_range, read_timeout, retry_connect, retry_read, retry_status, retry_total, use_byte_buffer, user_agent. Their hooks pass every field on to the client, and others could send its token elsewhere")
        .field_path(".extra"))]
pub struct Connection {
    /// The connection's ID in Airflow, for example `azure_default`. Which characters it may hold
    /// depends on connectionSecret.format.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9_#!()./:-]+$')")
        .message("must be letters, digits and _ # ! ( ) - . / :, as Airflow allows in a connection ID"))]
    pub id: String,

    /// What it connects to.
    #[serde(flatten)]
    pub to: ConnectionType,

    /// More of the connection's `extra` fields, as the provider's documentation lists them for
    /// the type. Those that would choose a credential, send its token elsewhere or break the hook
    /// are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub extra: Vec<ExtraField>,
}

/// What a connection connects to: one of Airflow's connection types.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionType {
    /// Azure Data Lake Storage Gen2 (Airflow's connection type `adls`).
    Adls(StorageAccount),
    /// Azure AI Agents (`azure_ai_agents`).
    AiAgents(AiAgents),
    /// Azure Resource Manager (`azure`).
    Azure(Azure),
    /// Azure Batch (`azure_batch`).
    Batch(Batch),
    /// Azure virtual machines (`azure_compute`).
    Compute(Subscription),
    /// Azure Container Instances (`azure_container_instance`).
    ContainerInstance(Subscription),
    /// Azure Container Registry (`azure_container_registry`).
    ContainerRegistry(ContainerRegistry),
    /// Volumes of Azure Container Instances (`azure_container_volume`).
    ContainerVolume(ResourceGroup),
    /// Azure Cosmos DB (`azure_cosmos`).
    Cosmos(Cosmos),
    /// Azure Data Explorer (`azure_data_explorer`).
    DataExplorer(DataExplorer),
    /// Azure Data Factory (`azure_data_factory`).
    DataFactory(DataFactory),
    /// Azure file shares (`azure_fileshare`).
    Fileshare(StorageAccount),
    /// Azure Service Bus (`azure_service_bus`).
    ServiceBus(ServiceBus),
    /// Azure Synapse (`azure_synapse`).
    Synapse(Synapse),
    /// Azure Blob Storage (`wasb`).
    Wasb(StorageAccount),
}

/// Airflow's connection type `azure`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The subscription that Airflow's hooks work in. Left out, a hook asks for it when it
    /// needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,

    /// Gives DAG code an `azure.identity.DefaultAzureCredential` instead of the adapter for old
    /// Azure SDKs (Airflow's extra `use_azure_identity_object`). Left out, Airflow decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_azure_identity_object: Option<bool>,
}

/// A storage account, by its name or by its URL. Exactly one is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.account) != has(self.accountUrl)")
    .message("set exactly one of account (the storage account's name) and accountUrl (for sovereign clouds and private endpoints)"))]
pub struct StorageAccount {
    /// The storage account's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]{3,24}$')")
        .message("must be the name of a storage account: 3 to 24 lower case letters and digits. For a URL use accountUrl"))]
    pub account: Option<String>,

    /// The URL of the storage account's service, for example
    /// `https://mylake.blob.core.windows.net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(r"self.matches('^https://[a-zA-Z0-9][-a-zA-Z0-9]{0,23}([.][-a-zA-Z0-9]+)+(:[0-9]+)?(/[-._~a-zA-Z0-9/]*)?$')")
        .message("must be a URL: https://<host>. Airflow cuts the first part of the host to 24 characters, so it must not be longer"))]
    pub account_url: Option<String>,
}

/// An Azure AI project.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AiAgents {
    /// The project's endpoint, for example `https://<name>.services.ai.azure.com/api/projects/<project>`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_URL)
        .message("must be a URL: https://<host>/api/projects/<project>"))]
    pub endpoint: String,
}

/// An Azure Batch account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// The Batch account's URL, for example `https://<account>.<region>.batch.azure.com`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_URL)
        .message("must be a URL: https://<account>.<region>.batch.azure.com"))]
    pub account_url: String,
}

/// A subscription.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// The subscription's ID.
    pub subscription_id: Uuid,
}

/// A resource group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceGroup {
    /// The subscription's ID.
    pub subscription_id: Uuid,
    /// The resource group's name.
    #[schemars(length(min = 1, max = 90))]
    pub resource_group: String,
}

/// A container registry.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRegistry {
    /// The registry's name. Its admin user must be enabled: Airflow asks for that user's password.
    #[schemars(length(max = 50))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9]{5,50}$')")
        .message("must be the registry's name: 5 to 50 letters and digits"))]
    pub registry: String,

    /// The registry's login server, if not `<registry>.azurecr.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_HOST)
        .message("must be a host name, without https://"))]
    pub server: Option<String>,

    /// The subscription's ID.
    pub subscription_id: Uuid,
    /// The resource group's name.
    #[schemars(length(min = 1, max = 90))]
    pub resource_group: String,
}

/// A Cosmos DB account. The identity needs the right to list its keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cosmos {
    /// The account's endpoint, for example `https://<account>.documents.azure.com`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_URL)
        .message("must be a URL: https://<account>.documents.azure.com"))]
    pub endpoint: String,
    /// The subscription's ID.
    pub subscription_id: Uuid,
    /// The resource group's name.
    #[schemars(length(min = 1, max = 90))]
    pub resource_group: String,
    /// The database that hooks use unless they are told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub database: Option<String>,
    /// The collection that hooks use unless they are told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub collection: Option<String>,
    /// The partition key that hooks use unless they are told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub partition_key: Option<String>,
}

/// A Data Explorer cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataExplorer {
    /// The cluster's URL, for example `https://<cluster>.<region>.kusto.windows.net`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_URL)
        .message("must be a URL: https://<cluster>.<region>.kusto.windows.net"))]
    pub cluster_url: String,
}

/// A Data Factory.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataFactory {
    /// The subscription's ID.
    pub subscription_id: Uuid,
    /// The resource group that hooks use unless they are told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 90))]
    pub resource_group: Option<String>,
    /// The factory that hooks use unless they are told another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub factory: Option<String>,
}

/// A Service Bus namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBus {
    /// The namespace's host name, for example `<namespace>.servicebus.windows.net`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_HOST)
        .message("must be a host name, without https://: <namespace>.servicebus.windows.net"))]
    pub host: String,
}

/// A Synapse workspace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Synapse {
    /// The workspace's development endpoint, for example `https://<workspace>.dev.azuresynapse.net`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(IS_URL)
        .message("must be a URL: https://<workspace>.dev.azuresynapse.net"))]
    pub workspace_url: String,
    /// The subscription's ID.
    pub subscription_id: Uuid,
}

/// One field of a connection's `extra`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExtraField {
    /// The field's name.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("!self.startsWith('extra__') && !self.startsWith('_') && !(self in ['account_key', 'account_url', 'audience', 'auth_method', 'client_id', 'client_secret', 'connection_string', 'credential', 'key_json', 'key_path', 'location_mode', 'managed_identity_client_id', 'retry_policy', 'sas_token', 'sdk_moniker', 'service', 'session', 'shared_access_key', 'tenant', 'tenantId', 'tenant_id', 'transport', 'use_azure_identity_object', 'workload_identity_tenant_id'])")
        .message("is refused in extra: it would choose the credential, send its token elsewhere or break the hook; or another field of the connection sets it"))]
    pub name: String,

    /// Its value: any JSON.
    #[schemars(schema_with = "any_json")]
    pub value: Value,
}

fn any_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
