//! What there is at one moment: whether it keeps the rules, and whether two attempts came to the same.

use std::collections::{BTreeMap, BTreeSet};

use airflow_workload_identity::api::{
    CHECKSUM_ANNOTATION, CLIENT_ID_ANNOTATION, FINALIZER, TENANT_ID_ANNOTATION,
};
use anyhow::Result;
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::api::ListParams;
use lab::Credential;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    scenario::{BLUE, Scenario},
    stage::{ACCOUNTS, FOREIGN_CREDENTIALS, FOREIGN_SECRETS, Stage},
};

pub type Named<T> = BTreeMap<String, T>;
/// A credential by its identity's place and its name.
pub type Key = (usize, String);

/// What an attempt's namespace and identities hold.
pub struct Picture {
    pub object: Option<Value>,
    pub accounts: Named<Value>,
    secrets: Named<Value>,
    roles: Named<Value>,
    pub credentials: BTreeMap<Key, Credential>,
}

/// Whether somebody else wrote the credential, and it has to stay as it is: what the az loop wrote on the first
/// identity may be adopted.
pub fn is_of_others((place, name): &Key) -> bool {
    FOREIGN_CREDENTIALS.contains(&name.as_str()) || *place > 0 && name.starts_with("loop-")
}

impl Picture {
    pub async fn take(stage: &Stage<'_>) -> Result<Self> {
        let list = async |version: &str, kind: &str| -> Result<Named<Value>> {
            let all = stage
                .api(version, kind)
                .list(&ListParams::default())
                .await?;
            let named = all.items.into_iter().map(|object| {
                let name = format!(
                    "{}{}",
                    object.metadata.name.clone().unwrap_or_default(),
                    if kind == "RoleBinding" {
                        " binding"
                    } else {
                        ""
                    }
                );
                Ok((name, serde_json::to_value(object)?))
            });
            named.collect()
        };
        let objects = stage.api(
            "airflow-workload-identity.io/v1alpha1",
            "AirflowWorkloadIdentity",
        );
        let rbac = "rbac.authorization.k8s.io/v1";
        let azure = stage.lab.azure().await?;
        let [first, second] = stage
            .identities
            .each_ref()
            .map(|identity| azure.list_credentials(&identity.id));
        // Azure first: whatever stands there must have been told in the cluster before.
        let (first, second) = try_join!(first, second)?;
        let object = async { Ok(objects.get_opt("prod").await?) };
        let (object, accounts, secrets, roles, bindings) = try_join!(
            object,
            list("v1", "ServiceAccount"),
            list("v1", "Secret"),
            list(rbac, "Role"),
            list(rbac, "RoleBinding"),
        )?;
        let credentials =
            [first, second]
                .into_iter()
                .enumerate()
                .flat_map(|(place, credentials)| {
                    credentials
                        .into_iter()
                        .map(move |credential| ((place, credential.name.clone()), credential))
                });
        Ok(Self {
            object: object.map(serde_json::to_value).transpose()?,
            accounts,
            secrets,
            roles: roles.into_iter().chain(bindings).collect(),
            credentials: credentials.collect(),
        })
    }

    /// Whether the status speaks of the object as it is, of nothing that is about to be written, and of no credential
    /// that is not there; or there is no object, or nobody has to look at it any longer.
    pub fn is_settled(&self) -> bool {
        let Some(object) = &self.object else {
            // The control plane collects what it owned.
            return self.ours().next().is_none();
        };
        let status = &object["status"];
        status["observedGeneration"] == object["metadata"]["generation"]
            && !status.to_string().contains("It is being written")
            && self
                .recorded()
                .is_subset(&self.credentials.keys().cloned().collect())
    }

    /// The credentials on record.
    fn recorded(&self) -> BTreeSet<Key> {
        let object = self.object.as_ref();
        let records = object.and_then(|object| object["status"]["credentials"].as_array());
        let text =
            |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let place = |record: &Value| usize::from(text(record, "identity").ends_with("-other"));
        let records = records.into_iter().flatten();
        records
            .map(|record| (place(record), text(record, "name")))
            .collect()
    }

    /// Whether the object is ready, or is told not to be.
    pub fn is_at_rest(&self) -> bool {
        let conditions = self
            .object
            .as_ref()
            .and_then(|object| object["status"]["conditions"].as_array());
        let ready =
            conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
        self.is_settled()
            && ready
                .is_some_and(|ready| ready["status"] == "True" || ready["reason"] == "Suspended")
    }

    /// What is others', byte for byte.
    pub fn of_others(&self) -> Value {
        let accounts: Vec<_> = self
            .accounts
            .iter()
            .filter(|(name, _)| !ACCOUNTS.contains(&name.as_str()))
            .collect();
        let secrets: Vec<_> = self
            .secrets
            .iter()
            .filter(|(name, _)| FOREIGN_SECRETS.contains(&name.as_str()))
            .collect();
        let roles: Vec<_> = self
            .roles
            .iter()
            .filter(|(name, _)| !name.starts_with("prod"))
            .collect();
        let credentials: Vec<_> = self
            .credentials
            .iter()
            .filter(|(key, _)| is_of_others(key))
            .map(|(place, credential)| format!("{place:?} {credential:?}"))
            .collect();
        json!([accounts, secrets, roles, credentials])
    }

    /// The rules that do not hold, in words.
    pub fn wrongs(&self, stage: &Stage<'_>, scenario: &Scenario, of_others: &Value) -> Vec<String> {
        let mut wrongs = Vec::new();
        if self.of_others() != *of_others {
            wrongs.push(format!(
                "what is others' has changed from {of_others} to {}",
                self.of_others()
            ));
        }
        for account in ACCOUNTS {
            let has_to_work = scenario.always_work.contains(&account);
            match self.client_id(account) {
                None if has_to_work => {
                    wrongs.push(format!("{account} has to work, and is not annotated"));
                }
                Some(_)
                    if (has_to_work || !scenario.is_cut_off) && !self.is_let_in(stage, account) =>
                {
                    wrongs.push(format!(
                        "{account} is annotated, and no credential lets it in"
                    ));
                }
                _ => {}
            }
        }
        wrongs.extend(self.leftovers(scenario));
        wrongs.extend(self.orphans());
        wrongs
    }

    /// The client ID that an account carries.
    fn client_id(&self, account: &str) -> Option<&str> {
        self.accounts.get(account)?["metadata"]["annotations"][CLIENT_ID_ANNOTATION].as_str()
    }

    /// Whether the identity that an account is annotated with trusts it: with the issuer that the cluster has, or
    /// has had.
    fn is_let_in(&self, stage: &Stage<'_>, account: &str) -> bool {
        let client_id = self.client_id(account);
        let place = stage
            .identities
            .iter()
            .position(|identity| Some(identity.client_id.as_str()) == client_id);
        let subject = format!("system:serviceaccount:{}:{account}", stage.ns);
        let issuers = [BLUE.to_owned(), stage.green()];
        self.credentials.iter().any(|((at, _), credential)| {
            Some(*at) == place
                && credential.subject == subject
                && issuers.contains(&credential.issuer)
        })
    }

    /// Credentials that are on no record, and what nobody would clean up.
    fn leftovers(&self, scenario: &Scenario) -> Vec<String> {
        let object = self.object.as_ref();
        let recorded = self.recorded();
        let finalizers = object.map_or(&Value::Null, |object| &object["metadata"]["finalizers"]);
        let is_kept = finalizers
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == FINALIZER));
        let is_by_hand = |key: &Key| is_of_others(key) || key.1.starts_with("loop-");
        let is_going = object.is_none_or(|o| o["metadata"]["deletionTimestamp"].is_string());
        let is_let_go = scenario.retains && is_going;
        let mut leftovers = Vec::new();
        let ours = self.credentials.keys();
        for credential in ours.filter(|key| !is_by_hand(key)) {
            let name = &credential.1;
            if !recorded.contains(credential) && !is_let_go {
                leftovers.push(format!("credential {name} is on no record"));
            }
            if !is_kept && !is_let_go {
                leftovers.push(format!("credential {name} is there without a finalizer"));
            }
        }
        for account in ACCOUNTS
            .iter()
            .filter(|account| self.client_id(account).is_some())
        {
            if !is_kept {
                leftovers.push(format!("{account} is annotated without a finalizer"));
            }
        }
        leftovers
    }

    /// Secrets and Roles that nobody owns.
    fn orphans(&self) -> Vec<String> {
        let uid = self
            .object
            .as_ref()
            .map(|object| &object["metadata"]["uid"]);
        // The control plane takes a moment to collect those of an object that is gone.
        let orphans = self.ours().filter(|(_, object)| {
            let owner = &object["metadata"]["ownerReferences"][0]["uid"];
            uid.map_or(owner.is_null(), |uid| owner != uid)
        });
        orphans
            .map(|(name, _)| format!("{name} has no owner"))
            .collect()
    }

    /// Secrets and Roles that the operator made.
    fn ours(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.secrets_of_ours().chain(self.roles_of_ours())
    }

    pub fn secrets_of_ours(&self) -> impl Iterator<Item = (&String, &Value)> {
        let secrets = self.secrets.iter();
        secrets.filter(|(name, _)| !FOREIGN_SECRETS.contains(&name.as_str()))
    }

    /// And `RoleBinding`s.
    pub fn roles_of_ours(&self) -> impl Iterator<Item = (&String, &Value)> {
        let roles = self.roles.iter();
        roles.filter(|(name, _)| name.starts_with("prod"))
    }

    /// The same text for all attempts that came to the same end.
    pub fn text(&self, stage: &Stage<'_>) -> Result<String> {
        let object = self.object.clone().map(|object| {
            json!({
                "finalizers": object["metadata"]["finalizers"],
                "isDeleting": object["metadata"]["deletionTimestamp"].is_string(),
                "status": object["status"],
            })
        });
        let annotations = |(name, account): (&String, &Value)| {
            let all = &account["metadata"]["annotations"];
            (
                name.clone(),
                json!([all[CLIENT_ID_ANNOTATION], all[TENANT_ID_ANNOTATION]]),
            )
        };
        let accounts: Map<String, Value> = self.accounts.iter().map(annotations).collect();
        let mut secrets = Map::new();
        for (name, secret) in &self.secrets {
            let metadata = &secret["metadata"];
            let data: Named<ByteString> = serde_json::from_value(secret["data"].clone())?;
            let data: Named<String> = data
                .into_iter()
                .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                .collect();
            secrets.insert(
                name.clone(),
                json!([metadata["labels"], metadata["annotations"], data]),
            );
        }
        let roles: Map<String, Value> = self
            .roles
            .iter()
            .map(|(name, role)| {
                (
                    name.clone(),
                    json!([
                        role["metadata"]["labels"],
                        role["rules"],
                        role["roleRef"],
                        role["subjects"]
                    ]),
                )
            })
            .collect();
        let credentials: Vec<String> = self
            .credentials
            .iter()
            .map(|(place, credential)| format!("{place:?} {credential:?}"))
            .collect();
        let all = json!({ "object": object, "accounts": accounts, "secrets": secrets, "roles": roles, "credentials": credentials });
        let neutral: Value = serde_json::from_str(&stage.neutral(&all.to_string()))?;
        Ok(serde_json::to_string_pretty(&timeless(neutral))?)
    }

    /// Whether the status knows the Secrets as they are.
    pub fn checksums_agree(&self) -> bool {
        let told = self
            .object
            .as_ref()
            .and_then(|object| object["status"]["secrets"].as_array());
        told.into_iter().flatten().all(|told| {
            let name = told["name"].as_str().unwrap_or_default();
            let secret = self.secrets.get(name);
            secret.is_some_and(|secret| {
                secret["metadata"]["annotations"][CHECKSUM_ANNOTATION] == told["checksum"]
            })
        })
    }
}

/// Without what differs from run to run: times, uids, checksums, and how often the object was edited; and who was
/// federated only now, which is forgotten with the operator.
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .into_iter()
                .filter(|(key, _)| !["federatedAt", "observedGeneration"].contains(&key.as_str()));
            fields.map(|(key, value)| (key, timeless(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        Value::String(text) => {
            let is_checksum = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if text.parse::<Timestamp>().is_ok() {
                "a time".into()
            } else if text.parse::<Uuid>().is_ok() {
                "a uid".into()
            } else if is_checksum {
                "a checksum".into()
            } else {
                let (lasting, _) = text
                    .split_once(" Written within the last two minutes")
                    .unwrap_or((&text, ""));
                lasting.into()
            }
        }
        other => other,
    }
}

/// The lines in which two texts differ.
pub fn difference(expected: &str, found: &str) -> String {
    let (one, other): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let start = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let rest = |lines: &[&str]| {
        lines[start..]
            .iter()
            .take(25)
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!(
        "from line {start} on, expected\n{}\nfound\n{}",
        rest(&one),
        rest(&other)
    )
}
