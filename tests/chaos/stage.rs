//! What one attempt has for itself: a namespace with an Airflow, two identities, a grant, and in all of them things
//! of others.

use std::time::Duration;

use airflow_workload_identity::{
    api::{CLIENT_ID_ANNOTATION, MANAGED_BY_LABEL, OPERATOR},
    model::{CredentialName, Subject},
};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use lab::{Lab, merge};
use serde_json::{Value, json};

use crate::{
    picture::Picture,
    scenario::{BLUE, Scenario},
};

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
/// Accounts that are the operator's business, or may become it.
pub const ACCOUNTS: [&str; 5] = [
    "airflow-scheduler",
    "airflow-triggerer",
    "airflow-worker",
    "airflow-dag-processor",
    "extra",
];
/// Credentials of others on either identity.
pub const FOREIGN_CREDENTIALS: [&str; 3] = ["aks-identity-binding", "someones", "theirs"];
/// Secrets of others.
pub const FOREIGN_SECRETS: [&str; 2] = ["looks-like-ours", "theirs"];

pub struct Stage<'a> {
    pub lab: &'a Lab,
    pub client: Client,
    pub ns: String,
    pub identities: [Identity; 2],
}

pub struct Identity {
    pub id: String,
    pub client_id: String,
    pub tenant_id: String,
}

impl<'a> Stage<'a> {
    pub async fn set(lab: &'a Lab, client: &Client, ns: &str, scenario: &Scenario) -> Result<Self> {
        let stage = Self {
            lab,
            client: client.clone(),
            ns: ns.to_owned(),
            identities: [
                identity(lab, ns).await?,
                identity(lab, &format!("{ns}-other")).await?,
            ],
        };
        stage
            .apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ns } }))
            .await?;
        let mut objects = stage.airflow();
        objects.extend(stage.of_others());
        if scenario.has_own_operator {
            objects.extend(stage.rights_of_operator());
        }
        objects.push(stage.grant(json!({})));
        try_join_all(objects.iter().map(|object| stage.apply(object))).await?;
        stage.credentials_of_others(scenario).await?;
        // The control plane makes it soon after the namespace, and from then on it must not change.
        while stage
            .get("v1", "ServiceAccount", "default")
            .await?
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(stage)
    }

    /// As the official chart lays it out.
    fn airflow(&self) -> Vec<Value> {
        let ns = &self.ns;
        let mut objects = Vec::new();
        for component in [
            "scheduler",
            "triggerer",
            "worker",
            "dag-processor",
            "webserver",
        ] {
            let name = format!("airflow-{component}");
            let labels = json!({ "tier": "airflow", "component": component, "release": "airflow", "chart": "airflow-1.22.0", "heritage": "Helm" });
            objects.push(json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": name, "namespace": ns, "labels": labels },
            }));
            objects.push(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": { "name": name, "namespace": ns, "labels": labels },
                "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
                    "metadata": { "labels": labels },
                    "spec": { "serviceAccountName": name, "containers": [{ "name": component, "image": "apache/airflow:3.2.2" }] },
                }},
            }));
        }
        objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "extra", "namespace": ns },
        }));
        objects
    }

    fn of_others(&self) -> Vec<Value> {
        let ns = &self.ns;
        let [looks_like_ours, theirs] = FOREIGN_SECRETS;
        let labels = json!({ MANAGED_BY_LABEL: OPERATOR });
        let data = json!({ "password": "c2VjcmV0" });
        let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }]);
        vec![
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": "by-hand", "namespace": ns, "annotations": { CLIENT_ID_ANNOTATION: "theirs" } },
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "data": data,
                "metadata": { "name": looks_like_ours, "namespace": ns, "labels": labels },
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "data": data,
                "metadata": { "name": theirs, "namespace": ns },
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules,
                "metadata": { "name": "theirs", "namespace": ns, "labels": labels },
            }),
        ]
    }

    /// What the chart lets the operator do in its own namespace, which here is this one.
    fn rights_of_operator(&self) -> Vec<Value> {
        let ns = &self.ns;
        let role = "rbac.authorization.k8s.io";
        vec![
            json!({
                "apiVersion": format!("{role}/v1"), "kind": "Role",
                "metadata": { "name": "operator", "namespace": ns },
                "rules": [
                    { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "update"] },
                    { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"] },
                ],
            }),
            json!({
                "apiVersion": format!("{role}/v1"), "kind": "RoleBinding",
                "metadata": { "name": "operator", "namespace": ns },
                "roleRef": { "apiGroup": role, "kind": "Role", "name": "operator" },
                "subjects": [{ "kind": "ServiceAccount", "name": OPERATOR, "namespace": OPERATOR }],
            }),
        ]
    }

    /// One of another namespace, one for an account of this namespace that nobody asked for, and AKS's own; and what
    /// the guide's az loop wrote for two components, where the scenario is about that.
    async fn credentials_of_others(&self, scenario: &Scenario) -> Result<()> {
        let [binding, someones, theirs] = FOREIGN_CREDENTIALS;
        let ns = &self.ns;
        let mut all = vec![
            (binding.to_owned(), format!("{ns}:airflow-webserver")),
            (someones.to_owned(), format!("{ns}:by-hand")),
            (theirs.to_owned(), "elsewhere:airflow-worker".to_owned()),
        ];
        if scenario.has_az_loop {
            let by_loop = |component| {
                (
                    format!("loop-{component}"),
                    format!("{ns}:airflow-{component}"),
                )
            };
            all.extend(["scheduler", "worker"].map(by_loop));
        }
        let azure = self.lab.azure().await?;
        for Identity { id, .. } in &self.identities {
            for (name, account) in &all {
                let subject = format!("system:serviceaccount:{account}");
                azure.put_credential(id, name, BLUE, &subject).await?;
            }
        }
        Ok(())
    }

    /// The grant of both identities, with `more` in its spec.
    pub fn grant(&self, more: Value) -> Value {
        let identities = self
            .identities
            .each_ref()
            .map(|identity| json!({ "resourceId": identity.id }));
        let mut spec = json!({ "identities": identities, "namespaces": { "names": [self.ns] } });
        merge(&mut spec, more);
        json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant",
            "metadata": { "name": self.ns }, "spec": spec,
        })
    }

    /// The object `prod` on the first identity, with `more` in its spec, or without what is null there; `OTHER`
    /// stands for the second.
    pub fn prod(&self, more: &Value) -> Value {
        let mut spec = json!({
            "identity": { "managedIdentity": { "resourceId": self.identities[0].id } },
            "airflow": { "helmRelease": "airflow" },
        });
        let more = more.to_string().replace("OTHER", &self.identities[1].id);
        merge(
            &mut spec,
            serde_json::from_str(&more).expect("it was JSON before"),
        );
        if let Some(airflow) = spec["airflow"].as_object_mut() {
            airflow.retain(|_, value| !value.is_null());
        }
        json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AirflowWorkloadIdentity",
            "metadata": { "name": "prod", "namespace": self.ns }, "spec": spec,
        })
    }

    /// As a user who takes back what is no longer in the manifest.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let name = text(&object["metadata"]["name"]);
        let api = self.api(&version, &kind);
        let params = PatchParams::apply("user").force();
        api.patch(&name, &params, &Patch::Apply(object))
            .await
            .with_context(|| format!("cannot apply {kind} {name}"))?;
        Ok(())
    }

    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let api = self.api("airflow-workload-identity.io/v1alpha1", kind);
        api.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn get(&self, version: &str, kind: &str, name: &str) -> Result<Option<DynamicObject>> {
        Ok(self.api(version, kind).get_opt(name).await?)
    }

    /// Of the kinds that have no namespace, too.
    pub fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if matches!(kind, "Namespace" | "AzureIdentityGrant") {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.ns, &resource)
        }
    }

    pub async fn picture(&self) -> Result<Picture> {
        Picture::take(self).await
    }

    pub fn green(&self) -> String {
        format!("https://oidc.example/green-{}/", self.ns)
    }

    /// The same text whatever the attempt: without names, IDs and hashes of its own.
    pub fn neutral(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (colour, issuer) in [("blue", BLUE.to_owned()), ("green", self.green())] {
            for account in ACCOUNTS {
                let issuer = issuer.parse().expect("an issuer");
                let name = CredentialName::derived(&issuer, &Subject::new(&self.ns, account));
                text = text.replace(name.as_str(), &format!("derived-{account}-{colour}"));
            }
        }
        let [first, second] = &self.identities;
        text.replace(&first.client_id, "FIRST-CLIENT")
            .replace(&second.client_id, "SECOND-CLIENT")
            .replace(&self.ns, "NS")
    }
}

async fn identity(lab: &Lab, name: &str) -> Result<Identity> {
    let id = format!(
        "{SUBSCRIPTION}/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    );
    let made = lab.azure().await?.put_identity(&id).await?;
    let given = |field: &str| {
        let text = made["properties"][field].as_str().map(str::to_owned);
        text.with_context(|| format!("no {field}"))
    };
    Ok(Identity {
        client_id: given("clientId")?,
        tenant_id: given("tenantId")?,
        id,
    })
}
