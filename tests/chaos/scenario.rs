//! What happens while the operator dies.

use lab::merge;
use serde_json::{Value, json};

use crate::{
    end::{
        ALL, BACKEND, CONNS, CUT_OFF, End, FILE, Issuer, KEY_VAULT, NOTHING, Names, PLAIN,
        RETAINED, TWO, WORKER, Which,
    },
    stage::Stage,
};

/// The issuer that the cluster seems to have.
pub const BLUE: &str = "https://oidc.example/blue/";

#[expect(clippy::struct_excessive_bools, reason = "what sets it apart")]
pub struct Scenario {
    pub name: &'static str,
    /// The specs of the object, one after the other, each until it is settled.
    pub before: Vec<Value>,
    /// What the last of them comes to.
    pub beginning: End,
    pub change: Change,
    /// What it comes to, by what the user asked for.
    pub end: End,
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

impl Scenario {
    /// From an object with these specs, the last of which comes to `beginning`, to `end`.
    fn new(
        name: &'static str,
        before: Vec<Value>,
        beginning: End,
        change: Change,
        end: End,
    ) -> Self {
        Self {
            name,
            before,
            beginning,
            change,
            end,
            can_be_undone: true,
            always_work: &[],
            is_cut_off: false,
            has_own_operator: false,
            is_elected: false,
            has_az_loop: false,
            retains: false,
        }
    }

    /// From an object with this spec, to another one, each with what it comes to; all accounts work all the time.
    fn edit(name: &'static str, before: (Value, End), after: (Value, End)) -> Self {
        Self {
            always_work: ALL,
            ..Self::new(
                name,
                vec![before.0],
                before.1,
                Change::Spec(after.0),
                after.1,
            )
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
    let empty = || json!({});
    let two = || json!([{ "id": "azure_default", "azure": {} }, { "id": "lake", "adls": { "account": "lake" } }]);
    // Specs, each with what it comes to.
    let plain = || (empty(), PLAIN);
    let chosen = || {
        let spec = json!({ "federation": { "credentialName": "chosen" } });
        (spec, PLAIN.named(Names::Chosen))
    };
    let other = || {
        let spec = json!({ "identity": { "managedIdentity": { "resourceId": "OTHER" } } });
        (spec, PLAIN.on(Which::Other))
    };
    let backend = || {
        let spec = json!({ "connections": two(), "connectionSecret": { "format": "SecretsBackend", "readerRole": true } });
        (spec, BACKEND)
    };
    let suspended = || (json!({ "suspend": true }), PLAIN.told("False Suspended"));
    let retain = || json!({ "federation": { "deletionPolicy": "Retain" } });
    let adopt = || json!({ "federation": { "existingCredentials": "Adopt" } });
    let mut suspended_backend = backend().0;
    merge(&mut suspended_backend, suspended().0);
    let by_loop = PLAIN.named(Names::OfLoop);
    let green = |end: End| end.issued_by(Issuer::Green);
    vec![
        Scenario {
            has_own_operator: true,
            ..Scenario::new("create", vec![], NOTHING, Change::Spec(empty()), PLAIN)
        },
        Scenario::edit(
            "connections",
            plain(),
            (json!({ "connections": two() }), TWO),
        ),
        Scenario::edit(
            "secret",
            plain(),
            (
                json!({ "connectionSecret": { "name": "conns" } }),
                PLAIN.with(CONNS),
            ),
        ),
        Scenario::edit(
            "key-vault",
            plain(),
            (
                json!({ "keyVaultBackend": { "vaultUrl": "https://kv.vault.azure.net" } }),
                PLAIN.with(KEY_VAULT),
            ),
        ),
        Scenario::edit("backend", plain(), backend()),
        Scenario::edit(
            "file",
            backend(),
            (
                json!({ "connections": two(), "connectionSecret": { "format": "File", "name": "conns" } }),
                PLAIN.with(FILE),
            ),
        ),
        Scenario {
            always_work: WORKER,
            ..Scenario::edit(
                "accounts",
                plain(),
                (
                    json!({ "airflow": { "components": ["worker", "dag-processor"], "serviceAccounts": ["extra"] } }),
                    PLAIN.of(&["airflow-worker", "airflow-dag-processor", "extra"]),
                ),
            )
        },
        Scenario {
            always_work: WORKER,
            ..Scenario::edit(
                "selector",
                plain(),
                (
                    json!({ "airflow": {
                        "components": ["worker"],
                        "serviceAccountSelector": { "matchLabels": { "component": "dag-processor" } },
                    }}),
                    PLAIN.of(&["airflow-worker", "airflow-dag-processor"]),
                ),
            )
        },
        Scenario {
            always_work: WORKER,
            ..Scenario::edit(
                "workloads",
                plain(),
                (
                    json!({ "airflow": {
                        "helmRelease": null,
                        "workloadSelector": { "matchLabels": { "component": "worker" } },
                    }}),
                    PLAIN.of(WORKER),
                ),
            )
        },
        Scenario::edit("identity", plain(), other()),
        // Not what the identity has: nothing of it may be used, and all stays as it was.
        Scenario::edit(
            "tenant",
            plain(),
            (
                json!({ "identity": { "tenantId": "bbbbbbbb-0000-4000-8000-00000000000b" } }),
                PLAIN.told("False IdentityMismatch"),
            ),
        ),
        Scenario::edit(
            "client",
            plain(),
            (
                json!({ "identity": { "clientId": "bbbbbbbb-0000-4000-8000-00000000000b" } }),
                PLAIN.told("False IdentityMismatch"),
            ),
        ),
        Scenario::edit(
            "pods",
            backend(),
            (
                json!({
                    "connections": two(),
                    "connectionSecret": { "format": "Environment" },
                    "pods": { "connections": "InjectAll", "restart": "OnChange" },
                }),
                TWO,
            ),
        ),
        Scenario {
            always_work: &[],
            is_cut_off: true,
            ..Scenario::edit("names", plain(), chosen())
        },
        Scenario::edit(
            "everything",
            plain(),
            (
                json!({
                    "identity": { "managedIdentity": { "resourceId": "OTHER" } },
                    "federation": { "credentialName": "chosen" },
                    "connectionSecret": { "name": "conns" },
                    "airflow": { "components": ["scheduler", "triggerer", "worker", "dag-processor"] },
                }),
                PLAIN
                    .of(&[
                        "airflow-scheduler",
                        "airflow-triggerer",
                        "airflow-worker",
                        "airflow-dag-processor",
                    ])
                    .on(Which::Other)
                    .named(Names::Chosen)
                    .with(CONNS),
            ),
        ),
        Scenario::edit("suspend", plain(), suspended()),
        Scenario {
            before: vec![empty(), suspended().0],
            // Suspended again, it stays as far as it came.
            can_be_undone: false,
            ..Scenario::edit("resume", suspended(), other())
        },
        Scenario {
            has_az_loop: true,
            can_be_undone: false,
            ..Scenario::edit("adopt", (empty(), by_loop), (adopt(), by_loop))
        },
        // What adopting comes to.
        Scenario {
            has_az_loop: true,
            can_be_undone: false,
            ..Scenario::new("adopted", vec![adopt()], by_loop, Change::Delete, NOTHING)
        },
        Scenario {
            always_work: ALL,
            ..Scenario::new("issuer", vec![empty()], PLAIN, Change::Issuer, green(PLAIN))
        },
        Scenario {
            always_work: ALL,
            ..Scenario::new(
                "issuer-names",
                vec![chosen().0],
                chosen().1,
                Change::Issuer,
                green(chosen().1),
            )
        },
        Scenario {
            always_work: WORKER,
            is_cut_off: true,
            ..Scenario::new(
                "narrowed",
                vec![empty()],
                PLAIN,
                Change::Grant(Some(json!({ "serviceAccounts": WORKER }))),
                PLAIN.of(WORKER).told("False NotGranted"),
            )
        },
        Scenario {
            is_cut_off: true,
            ..Scenario::new(
                "revoked",
                vec![empty()],
                PLAIN,
                Change::Grant(None),
                PLAIN.of(&[]).told("False NotGranted"),
            )
        },
        Scenario {
            always_work: &["airflow-worker"],
            is_cut_off: true,
            ..Scenario::new(
                "narrowed-reader",
                vec![backend().0],
                BACKEND,
                Change::Grant(Some(json!({ "serviceAccounts": WORKER }))),
                BACKEND.of(WORKER).read_by(WORKER).told("False NotGranted"),
            )
        },
        Scenario {
            is_cut_off: true,
            ..Scenario::new(
                "revoked-retain",
                vec![retain()],
                PLAIN,
                Change::Grant(None),
                PLAIN.of(&[]).told("False NotGranted"),
            )
        },
        Scenario {
            is_cut_off: true,
            // What was taken back stays so.
            can_be_undone: false,
            ..Scenario::new(
                "revoked-suspended",
                vec![backend().0, suspended_backend],
                BACKEND.told("False Suspended"),
                Change::Grant(None),
                CUT_OFF,
            )
        },
        Scenario {
            can_be_undone: false,
            ..Scenario::new(
                "delete",
                vec![backend().0],
                BACKEND,
                Change::Delete,
                NOTHING,
            )
        },
        Scenario {
            can_be_undone: false,
            retains: true,
            ..Scenario::new("retain", vec![retain()], PLAIN, Change::Delete, RETAINED)
        },
        Scenario {
            has_own_operator: true,
            is_elected: true,
            can_be_undone: false,
            ..Scenario::edit("election", plain(), other())
        },
    ]
}
