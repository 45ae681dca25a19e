//! A test's "given" is what the operator knows, not only what is there: each kind comes to it through a watch of its own,
//! and one that is late would show it a cluster that never was.

use lab::merge;
use serde_json::json;

use crate::world::{World, list};

/// No grant covers it, so nothing is done in Azure for whoever asks for it.
const NOBODYS: &str = "/subscriptions/00000000-0000-0000-0000-00000000000f/resourceGroups/nobody/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nobody";

impl World<'_> {
    /// Waits until the operator has heard of all `ServiceAccounts`, Deployments and `StatefulSets` that are there: of each
    /// kind it hears in order, so one more of each is made, and an object that tells when they are found.
    pub async fn heard(&self) {
        let name = format!("heard-{}", uuid::Uuid::new_v4().simple());
        let [of_deployment, of_stateful_set] = [1, 2].map(|n| format!("{name}-{n}"));
        let labels = json!({ "heard": name });
        let selector = json!({ "matchLabels": labels });
        let metadata = json!({ "name": name, "namespace": self.ns, "labels": labels });
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
        let deployment = workload("Deployment", &of_deployment);
        let mut stateful_set = workload("StatefulSet", &of_stateful_set);
        merge(&mut stateful_set["spec"], json!({ "serviceName": name }));
        let object = self.object(
            &name,
            json!({
                "identity": { "managedIdentity": { "resourceId": NOBODYS } },
                "airflow": { "helmRelease": null, "serviceAccountSelector": selector, "workloadSelector": selector },
            }),
        );
        let all = list([account, deployment, stateful_set, object]);
        self.apply(&all).await.unwrap();

        let expected = vec![name.clone(), of_deployment, of_stateful_set];
        let found = async || {
            let status = self.get(&name).await.and_then(|object| object.status);
            let accounts = status.into_iter().flat_map(|s| s.service_accounts);
            accounts.map(|account| account.name).collect::<Vec<_>>()
        };
        self.becomes(expected, found).await;
        let kinds = "awi,serviceaccount,deployment,statefulset";
        self.kubectl(&format!("delete {kinds} {name} --wait=false"))
            .await
            .unwrap();
        self.until_gone(&name).await;
    }
}
