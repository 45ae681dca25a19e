//! All that an object has brought about, in the cluster and in Azure, without what differs between
//! two equal namespaces.

use std::collections::BTreeMap;

use airflow_workload_identity::{
    api::GROUP,
    model::{CredentialName, Subject},
    observe::checksum,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Stage;

/// A line for each value: its place, and it.
pub type Picture = BTreeMap<String, String>;

const ACCOUNTS: [&str; 8] = [
    "airflow-scheduler",
    "airflow-triggerer",
    "airflow-worker",
    "airflow-dag-processor",
    "extra-one",
    "extra-two",
    "jobs",
    "not-there",
];

/// Different in each object, and in time.
const FLEETING: [&str; 9] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "observedGeneration",
    "time",
    "lastTransitionTime",
    "federatedAt",
    "since",
];

impl Stage<'_> {
    pub async fn picture(&self) -> Picture {
        let kinds = [
            (
                GROUP,
                "v1alpha1",
                "AirflowWorkloadIdentity",
                "airflowworkloadidentities",
            ),
            ("", "v1", "ServiceAccount", "serviceaccounts"),
            ("", "v1", "Secret", "secrets"),
            ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
            (
                "rbac.authorization.k8s.io",
                "v1",
                "RoleBinding",
                "rolebindings",
            ),
        ];
        let mut all = serde_json::Map::new();
        for (group, version, kind, plural) in kinds {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            let client = self.world.client.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(client, &self.world.ns, &resource);
            for object in api.list(&ListParams::default()).await.unwrap() {
                let name = object.metadata.name.clone().unwrap();
                all.insert(format!("{kind} {name}"), json!(object));
            }
        }
        // Which of the status' fields were ever written is nobody's affair.
        for (_, object) in all
            .iter_mut()
            .filter(|(name, _)| name.starts_with("Airflow"))
        {
            object["metadata"]["managedFields"].take();
        }
        let names = self.replacements(&all);
        all.insert("credentials".into(), self.credentials().await);
        let mut all = Value::Object(all);
        clean(&mut all);
        let mut text = all.to_string();
        for (from, to) in names {
            text = text.replace(&from, &to);
        }
        let mut picture = Picture::new();
        lines("", &serde_json::from_str(&text).unwrap(), &mut picture);
        picture
    }

    /// What belongs to this namespace only, and what stands for it.
    fn replacements(&self, objects: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
        let mut sums = BTreeMap::new();
        for (name, object) in objects {
            if name.starts_with("Secret ") {
                let secret: Secret = serde_json::from_value(object.clone()).unwrap();
                let sum = checksum(&secret.data.unwrap_or_default());
                sums.insert(secret.metadata.name.unwrap(), sum);
            }
        }
        // Of what pods get, which are the sums of the Secrets together.
        let injected = objects.values().filter_map(|object| {
            let accounts = object.pointer("/status/serviceAccounts")?.as_array()?;
            Some(
                accounts
                    .iter()
                    .filter_map(|a| a["injection"]["secrets"].as_array()),
            )
        });
        let together = injected.flatten().filter_map(|secrets| {
            let sums = secrets
                .iter()
                .map(|name| sums.get(name.as_str()?).map(String::as_str));
            let sums: Vec<&str> = sums.collect::<Option<_>>()?;
            let names = json!(secrets);
            let sum = Sha256::digest(sums.concat());
            let sum = sum
                .iter()
                .fold(String::new(), |sum, byte| sum + &format!("{byte:02x}"));
            Some((sum, format!("<sum of {names}>").replace('"', "")))
        });
        let together: Vec<_> = together.collect();
        let issuer = self.world.lab.issuer().parse().unwrap();
        let derived = ACCOUNTS.map(|account| {
            let name = CredentialName::derived(&issuer, &Subject::new(&self.world.ns, account));
            (name.to_string(), format!("<derived for {account}>"))
        });
        let sums = sums
            .into_iter()
            .map(|(name, sum)| (sum, format!("<sum of {name}>")));
        let names = [
            (&self.world.client_id, "<client ID>"),
            (&self.other_client_id, "<other client ID>"),
            (&self.applications[0], "<application>"),
            (&self.applications[1], "<other application>"),
            (&self.world.ns, "<namespace>"),
        ];
        let names = names.map(|(from, to)| (from.clone(), to.to_owned()));
        together
            .into_iter()
            .chain(sums)
            .chain(derived)
            .chain(names)
            .collect()
    }

    /// On every identity, by name.
    async fn credentials(&self) -> Value {
        let mut all = serde_json::Map::new();
        for identity in [&self.world.identity, &self.other_identity] {
            for (name, one) in self.world.credentials_of(identity).await {
                let key = format!("{identity} {name}");
                all.insert(key, json!([one.issuer, one.subject, one.audiences]));
            }
        }
        let azure = self.world.azure().await;
        for app in &self.applications {
            for one in self.of_application(&azure, app).await {
                let key = format!("{app} {}", one["name"].as_str().unwrap());
                let fields = ["issuer", "subject", "audiences", "description"];
                all.insert(key, json!(fields.map(|field| one[field].clone())));
            }
        }
        Value::Object(all)
    }
}

/// What is in one and not in the other.
pub fn difference(expected: &Picture, found: &Picture) -> Vec<String> {
    let missing = expected
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| format!("- {key}: {value}"));
    let more = found
        .iter()
        .filter(|(key, value)| expected.get(*key) != Some(value))
        .map(|(key, value)| format!("+ {key}: {value}"));
    missing.chain(more).collect()
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !FLEETING.contains(&key.as_str()));
            let owner = fields
                .keys()
                .find(|key| key.starts_with(r#"k:{"uid":"#))
                .cloned();
            if let Some(managed) = owner.and_then(|key| fields.remove(&key)) {
                fields.insert("k:owner".into(), managed);
            }
            // Base64 hides the names that are to be replaced.
            if let Some(Value::Object(data)) = fields.get_mut("data") {
                for value in data.values_mut() {
                    let bytes: k8s_openapi::ByteString =
                        serde_json::from_value(value.take()).unwrap();
                    *value = json!(String::from_utf8_lossy(&bytes.0));
                }
            }
            // Ends with the time, if it was written within the last two minutes.
            if let Some(Value::String(message)) = fields.get_mut("message")
                && let Some(at) = message.find(" Written within the last two minutes")
            {
                message.truncate(at);
            }
            fields.values_mut().for_each(clean);
        }
        Value::Array(elements) => {
            elements.iter_mut().for_each(clean);
            // Those of `managedFields` are in the order of time.
            if elements
                .iter()
                .all(|element| element.get("fieldsV1").is_some())
            {
                elements.sort_by_key(ToString::to_string);
            }
        }
        _ => {}
    }
}

fn lines(place: &str, value: &Value, picture: &mut Picture) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                lines(&format!("{place} {key}"), value, picture);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (n, value) in elements.iter().enumerate() {
                lines(&format!("{place} {n}"), value, picture);
            }
        }
        value => {
            picture.insert(place.to_owned(), value.to_string());
        }
    }
}
