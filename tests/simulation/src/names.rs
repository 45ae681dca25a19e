//! What things are called in a run.

pub const OWN_NAMESPACE: &str = "airflow-workload-identity";
pub const NAMESPACES: [&str; 2] = ["team-a", "team-b"];
pub const OBJECTS: [&str; 2] = ["one", "two"];
pub const ACCOUNTS: [&str; 3] = ["airflow-scheduler", "airflow-triggerer", "airflow-worker"];
pub const IDENTITIES: [&str; 2] = ["id-a", "id-b"];
pub const ISSUERS: [&str; 2] = [
    "https://westeurope.oic.prod-aks.azure.com/t/first/",
    "https://westeurope.oic.prod-aks.azure.com/t/second/",
];
/// Another cluster's.
pub const FOREIGN_ISSUER: &str = "https://westeurope.oic.prod-aks.azure.com/t/foreign/";
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
/// What somebody writes into a Secret of the operator's.
pub const SPOILT: &str = "bm90aGluZw==";
pub const API: &str = "/apis/airflow-workload-identity.io/v1alpha1";
pub const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";

pub fn identity_id(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}")
}

pub fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Namespace and account of a subject.
pub fn account_of(subject: &str) -> Option<(&str, &str)> {
    subject
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')
}

/// A credential in Azure, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialPath {
    pub identity: String,
    pub name: String,
}

impl CredentialPath {
    /// The credential that a request is about.
    pub fn of(request: &http::Request<Vec<u8>>) -> Option<Self> {
        Self::named(request.uri().path())
    }

    /// The credential of this resource ID.
    pub fn named(id: &str) -> Option<Self> {
        let path = id.to_ascii_lowercase();
        let (identity, name) = path.split_once("/federatedidentitycredentials/")?;
        Some(Self {
            identity: identity.to_owned(),
            name: name.to_owned(),
        })
    }
}
