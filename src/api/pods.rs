//! What Airflow's pods get, and who restarts those that started without it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pods of the accounts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Which new pods get the connection Secret, and that of keyVaultBackend, as envFrom. Only with
    /// connectionSecret.format Environment, and where the cluster runs the operator's admission
    /// policy.
    #[serde(default)]
    pub connections: PodConnections,

    /// What becomes of pods that started before the identity or the connections were what they are.
    #[serde(default)]
    pub restart: Restart,
}

/// Which new pods get the connections.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PodConnections {
    /// Those of Airflow's own components, including the pods of the KubernetesExecutor.
    #[default]
    Inject,
    /// Those of all accounts of the object, also of accounts that are only named.
    InjectAll,
    /// None: the pods take them from Airflow's Helm values, or from elsewhere.
    None,
}

/// Who restarts pods that started too early.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Restart {
    /// The user. The condition PodsInjected names them, and the command.
    #[default]
    Never,
    /// The operator restarts their Deployment or StatefulSet, once per change, as `kubectl rollout
    /// restart` does. It must have been installed with workloadRestarts.enabled.
    OnChange,
}
