//! A test's "given" is what the operator knows, not only what is there: each kind comes to it through a watch of its own,
//! and one that is late would show it a cluster that never was.

use lab::merge;
use serde_json::json;

use crate::world::{World, list};

/// No grant covers it, so that nothing is written for who asks for it.
const NOBODYS: &str = "/subscriptions/00000000-0000-0000-0000-00000000000f/resourceGroups/nobody/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nobody";

impl World<'_> {
    /// Waits until the operator has heard of all `ServiceAccounts`, Deployments and `StatefulSets` that are there: of each
    /// kind it hears in order, so one more of each is made, and an object that tells when they are found.
    pub async fn heard(&self) {
        let labels = json!({ "heard": "yes" });
        let selector = json!({ "matchLabels": labels });
        let metadata = json!({ "name": "heard", "namespace": self.ns, "labels": labels });
        // Their accounts need not be there.
        let workload = |kind: &str, account: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
                "spec": { "replicas": 0, "selector": selector, "template": {
                    "metadata": { "labels": labels },
                    "spec": { "serviceAccountName": account, "containers": [{ "name": "heard", "image": "heard" }] },
                }},
            })
        };
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
        let deployment = workload("Deployment", "heard-1");
        let mut stateful_set = workload("StatefulSet", "heard-2");
        merge(&mut stateful_set["spec"], json!({ "serviceName": "heard" }));
        let object = self.object(
            "heard",
            json!({
                "identity": { "managedIdentity": { "resourceId": NOBODYS } },
                "airflow": { "helmRelease": null, "serviceAccountSelector": selector, "workloadSelector": selector },
            }),
        );
        let all = list([account, deployment, stateful_set, object]);
        self.apply(&all).await.unwrap();

        let expected = ["heard", "heard-1", "heard-2"].map(str::to_owned);
        let found = async || {
            let status = self.get("heard").await.and_then(|object| object.status);
            let accounts = status.into_iter().flat_map(|s| s.service_accounts);
            accounts.map(|account| account.name).collect::<Vec<_>>()
        };
        self.becomes(expected.to_vec(), found).await;
        self.kubectl("delete awi,serviceaccount,deployment,statefulset heard")
            .await
            .unwrap();
    }
}
