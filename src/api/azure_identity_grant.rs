//! `AzureIdentityGrant`: which namespaces may use which Azure identities.

#![allow(clippy::struct_field_names, reason = "Azure's names")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which identities which namespaces may federate. Written by the platform team.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airflow-workload-identity.io",
    version = "v1alpha1",
    kind = "AzureIdentityGrant",
    plural = "azureidentitygrants",
    shortname = "aig",
    category = "airflow",
    derive = "PartialEq",
    doc = "Allows AirflowWorkloadIdentity objects of some namespaces to federate some Azure \
           identities. Without a grant nothing is federated: whoever can federate an identity \
           can become it.",
    printcolumn(
        name = "Namespaces",
        type_ = "string",
        json_path = ".spec.namespaces.names"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AzureIdentityGrantSpec {
    /// The identities that are granted.
    #[schemars(length(min = 1, max = 64))]
    pub identities: Vec<GrantedIdentity>,

    /// The namespaces they are granted to.
    pub namespaces: GrantedNamespaces,

    /// Only these ServiceAccounts of those namespaces, by name. Empty: all of them.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub service_accounts: Vec<String>,
}

/// One identity, or all managed identities of a resource group. Exactly one is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.resourceId), has(self.resourceGroupId), has(self.appId)].filter(given, given).size() == 1")
    .message("set exactly one of resourceId (one managed identity), resourceGroupId (all managed identities of a resource group) and appId (an Entra application)"))]
pub struct GrantedIdentity {
    /// The ARM resource ID of a user-assigned managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches('(?i)^/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/resourceGroups/[-a-z0-9_.()]{0,89}[-a-z0-9_()]/providers/Microsoft[.]ManagedIdentity/userAssignedIdentities/[a-z0-9][-a-z0-9_]{2,127}$')")
        .message("must be /subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>; `az identity show -g <group> -n <name> --query id -o tsv` prints it"))]
    pub resource_id: Option<String>,

    /// The ARM resource ID of a resource group: all identities in it, also later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new(r"self.matches('(?i)^/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/resourceGroups/[-a-z0-9_.()]{0,89}[-a-z0-9_()]$')")
        .message("must be /subscriptions/<id>/resourceGroups/<group>; `az group show -n <group> --query id -o tsv` prints it"))]
    pub resource_group_id: Option<String>,

    /// The application (client) ID of an Entra application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<Uuid>,
}

/// Namespaces, by name or by label. A namespace matches when either does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.names) > 0 || has(self.selector)")
    .message("set names, or a selector over the namespaces' labels"))]
pub struct GrantedNamespaces {
    /// Namespaces by name.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,

    /// Namespaces by their labels. An empty selector matches every namespace. Whoever may
    /// label a namespace can bring it under this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}
