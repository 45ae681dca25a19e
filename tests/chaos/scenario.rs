//! What happens while the operator dies.

use serde_json::{Value, json};

use crate::stage::{ACCOUNTS, Stage};

/// The issuer that the cluster seems to have.
pub const BLUE: &str = "https://oidc.example/blue/";

#[expect(clippy::struct_excessive_bools, reason = "what sets it apart")]
pub struct Scenario {
    pub name: &'static str,
    /// The specs of the object, one after the other, each until it is settled.
    pub before: Vec<Value>,
    pub change: Change,
    /// Whether the user may take the change back while the operator is dead; then everything is as before.
    pub can_be_undone: bool,
    /// The accounts that have to work all the time: those that did before and do afterwards. Azure takes no second
    /// credential for one account, so one that gets another name has none for a moment.
    pub always_work: &'static [&'static str],
    /// Whether an annotation may stay for a moment although its credential is gone: it has to go at once, or gets
    /// another name.
    pub is_cut_off: bool,
    /// The operator remembers nothing of other attempts: the namespace is its own, too.
    pub has_own_operator: bool,
    /// Two operators, of which one leads.
    pub is_elected: bool,
    /// Whether somebody wrote credentials by hand before.
    pub has_az_loop: bool,
    /// Whether what the operator wrote may stay when the object is gone.
    pub retains: bool,
}

pub enum Change {
    /// Of the object's spec.
    Spec(Value),
    /// Of the grant's spec; none: it is deleted.
    Grant(Option<Value>),
    /// The cluster has another issuer, and so the operator is started anew.
    Issuer,
    /// The object is deleted.
    Delete,
}

const ALL: &[&str] = ACCOUNTS.first_chunk::<3>().unwrap();

impl Scenario {
    fn new(name: &'static str, before: Vec<Value>, change: Change) -> Self {
        Self {
            name,
            before,
            change,
            can_be_undone: true,
            always_work: &[],
            is_cut_off: false,
            has_own_operator: false,
            is_elected: false,
            has_az_loop: false,
            retains: false,
        }
    }

    /// Of an object with this spec, to another one; all accounts work all the time.
    fn edit(name: &'static str, before: Value, after: Value) -> Self {
        Self {
            always_work: ALL,
            ..Self::new(name, vec![before], Change::Spec(after))
        }
    }

    /// The spec that the object has before the change.
    pub fn spec(&self) -> Option<&Value> {
        self.before.last()
    }
}

impl Change {
    pub async fn make(&self, stage: &Stage<'_>) -> anyhow::Result<()> {
        match self {
            Self::Spec(spec) => stage.apply(&stage.prod(spec)).await,
            Self::Grant(Some(spec)) => stage.apply(&stage.grant(spec.clone())).await,
            Self::Grant(None) => stage.delete("AzureIdentityGrant", &stage.ns).await,
            Self::Issuer => Ok(()),
            Self::Delete => stage.delete("AirflowWorkloadIdentity", "prod").await,
        }
    }

    pub async fn take_back(&self, stage: &Stage<'_>, scenario: &Scenario) -> anyhow::Result<()> {
        match (self, scenario.spec()) {
            (Self::Spec(_), Some(before)) => stage.apply(&stage.prod(before)).await,
            (Self::Spec(_), None) => stage.delete("AirflowWorkloadIdentity", "prod").await,
            (Self::Grant(_), _) => stage.apply(&stage.grant(json!({}))).await,
            (Self::Issuer | Self::Delete, _) => Ok(()),
        }
    }
}

pub fn scenarios() -> Vec<Scenario> {
    let plain = || json!({});
    let chosen = || json!({ "federation": { "credentialName": "chosen" } });
    let other = || json!({ "identity": { "managedIdentity": { "resourceId": "OTHER" } } });
    let two = || json!([{ "id": "azure_default", "azure": {} }, { "id": "lake", "adls": { "account": "lake" } }]);
    let backend = || json!({ "connections": two(), "connectionSecret": { "format": "SecretsBackend", "readerRole": true } });
    let file = || json!({ "connections": two(), "connectionSecret": { "format": "File", "name": "conns" } });
    let adopt = || json!({ "federation": { "existingCredentials": "Adopt" } });
    vec![
        Scenario {
            has_own_operator: true,
            ..Scenario::new("create", vec![], Change::Spec(plain()))
        },
        Scenario::edit("connections", plain(), json!({ "connections": two() })),
        Scenario::edit(
            "secret",
            plain(),
            json!({ "connectionSecret": { "name": "conns" } }),
        ),
        Scenario::edit(
            "key-vault",
            plain(),
            json!({ "keyVaultBackend": { "vaultUrl": "https://kv.vault.azure.net" } }),
        ),
        Scenario::edit("backend", plain(), backend()),
        Scenario::edit("file", backend(), file()),
        Scenario {
            always_work: &["airflow-worker"],
            ..Scenario::edit(
                "accounts",
                plain(),
                json!({ "airflow": { "components": ["worker", "dag-processor"], "serviceAccounts": ["extra"] } }),
            )
        },
        Scenario {
            always_work: &["airflow-worker"],
            ..Scenario::edit(
                "selector",
                plain(),
                json!({ "airflow": {
                    "components": ["worker"],
                    "serviceAccountSelector": { "matchLabels": { "component": "dag-processor" } },
                }}),
            )
        },
        Scenario {
            always_work: &["airflow-worker"],
            ..Scenario::edit(
                "workloads",
                plain(),
                json!({ "airflow": {
                    "helmRelease": null,
                    "workloadSelector": { "matchLabels": { "component": "worker" } },
                }}),
            )
        },
        Scenario::edit("identity", plain(), other()),
        Scenario::edit(
            "tenant",
            plain(),
            json!({ "identity": { "tenantId": "bbbbbbbb-0000-4000-8000-00000000000b" } }),
        ),
        // Not the one that the identity has: nothing of it may be used.
        Scenario::edit(
            "client",
            plain(),
            json!({ "identity": { "clientId": "bbbbbbbb-0000-4000-8000-00000000000b" } }),
        ),
        Scenario::edit(
            "pods",
            backend(),
            json!({
                "connections": two(),
                "connectionSecret": { "format": "Environment" },
                "pods": { "connections": "InjectAll", "restart": "OnChange" },
            }),
        ),
        Scenario {
            always_work: &[],
            is_cut_off: true,
            ..Scenario::edit("names", plain(), chosen())
        },
        Scenario::edit(
            "everything",
            plain(),
            json!({
                "identity": { "managedIdentity": { "resourceId": "OTHER" } },
                "federation": { "credentialName": "chosen" },
                "connectionSecret": { "name": "conns" },
                "airflow": { "components": ["scheduler", "triggerer", "worker", "dag-processor"] },
            }),
        ),
        Scenario::edit("suspend", plain(), json!({ "suspend": true })),
        Scenario {
            before: vec![plain(), json!({ "suspend": true })],
            // Suspended again, it stays as far as it came.
            can_be_undone: false,
            ..Scenario::edit("resume", plain(), other())
        },
        Scenario {
            has_az_loop: true,
            can_be_undone: false,
            ..Scenario::edit("adopt", plain(), adopt())
        },
        Scenario {
            always_work: ALL,
            ..Scenario::new("issuer", vec![plain()], Change::Issuer)
        },
        Scenario {
            always_work: ALL,
            ..Scenario::new("issuer-names", vec![chosen()], Change::Issuer)
        },
        Scenario {
            always_work: &["airflow-worker"],
            is_cut_off: true,
            ..Scenario::new(
                "narrowed",
                vec![plain()],
                Change::Grant(Some(json!({ "serviceAccounts": ["airflow-worker"] }))),
            )
        },
        Scenario {
            is_cut_off: true,
            ..Scenario::new("revoked", vec![plain()], Change::Grant(None))
        },
        Scenario {
            can_be_undone: false,
            ..Scenario::new("delete", vec![backend()], Change::Delete)
        },
        Scenario {
            can_be_undone: false,
            retains: true,
            ..Scenario::new(
                "retain",
                vec![json!({ "federation": { "deletionPolicy": "Retain" } })],
                Change::Delete,
            )
        },
        Scenario {
            has_own_operator: true,
            is_elected: true,
            can_be_undone: false,
            ..Scenario::edit("election", plain(), other())
        },
    ]
}
