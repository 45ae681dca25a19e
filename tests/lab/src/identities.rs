//! The managed identities that a lab's Azure has from the start.

use serde_json::{Value, json};

pub const TENANT_ID: &str = "00000000-0000-0000-0000-0000000000aa";
pub const SUBSCRIPTION_ID: &str = "00000000-0000-0000-0000-000000000001";
/// The audience of the tokens that Entra exchanges.
pub const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";

/// A user-assigned managed identity.
#[derive(Clone, Copy, Debug)]
pub struct ManagedIdentity {
    pub resource_group: &'static str,
    pub name: &'static str,
    pub client_id: &'static str,
}

/// What the samples use.
pub const AIRFLOW: ManagedIdentity =
    ManagedIdentity::new("data", "airflow", "00000000-0000-0000-0000-00000000000a");
pub const AIRFLOW_DEV: ManagedIdentity = ManagedIdentity::new(
    "data",
    "airflow-dev",
    "00000000-0000-0000-0000-00000000000b",
);
pub const AIRFLOW_OTHER: ManagedIdentity = ManagedIdentity::new(
    "data",
    "airflow-other",
    "00000000-0000-0000-0000-00000000000c",
);
/// Of another team: in a resource group of its own.
pub const FOREIGN: ManagedIdentity =
    ManagedIdentity::new("other", "foreign", "00000000-0000-0000-0000-00000000000d");

/// The operator's own.
pub const OPERATOR: ManagedIdentity = ManagedIdentity::new(
    "platform",
    "awi-operator",
    "00000000-0000-0000-0000-00000000000e",
);
/// Whom the lab itself is when it acts in Azure as someone with `az` would.
pub const ADMIN: ManagedIdentity = ManagedIdentity::new(
    "platform",
    "lab-admin",
    "00000000-0000-0000-0000-00000000000f",
);

impl ManagedIdentity {
    const fn new(
        resource_group: &'static str,
        name: &'static str,
        client_id: &'static str,
    ) -> Self {
        Self {
            resource_group,
            name,
            client_id,
        }
    }

    #[must_use]
    pub fn resource_id(&self) -> String {
        format!(
            "/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{}",
            self.resource_group, self.name
        )
    }

    fn seed(&self, credentials: &Value) -> Value {
        json!({
            "resourceId": self.resource_id(),
            "location": "westeurope",
            "tenantId": TENANT_ID,
            "clientId": self.client_id,
            "federatedIdentityCredentials": credentials,
        })
    }
}

/// The emulator's seed: Airflow's identities without credentials, and two that are federated with the
/// `ServiceAccounts` given as (namespace, name).
pub(crate) fn seed(issuer: &str, operator: (&str, &str), admin: (&str, &str)) -> Value {
    let federated = |(namespace, name): (&str, &str)| {
        json!([{
            "name": "kubernetes",
            "issuer": issuer,
            "subject": format!("system:serviceaccount:{namespace}:{name}"),
            "audiences": [EXCHANGE_AUDIENCE],
        }])
    };
    let mut identities = vec![
        OPERATOR.seed(&federated(operator)),
        ADMIN.seed(&federated(admin)),
    ];
    identities
        .extend([AIRFLOW, AIRFLOW_DEV, AIRFLOW_OTHER, FOREIGN].map(|one| one.seed(&json!([]))));
    json!({"identities": identities})
}
