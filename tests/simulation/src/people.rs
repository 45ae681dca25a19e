//! What people do meanwhile, with kubectl and `az`: tenants, administrators, and the operator of
//! another cluster.

mod accounts;
mod azure;
mod end;
mod moves;

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::names::{ACCOUNTS, API, GROUP, IDENTITIES, NAMESPACES, OBJECTS, SPOILT, identity_id};
use crate::world::World;

/// All people at once.
pub struct People {
    world: Arc<World>,
    rng: Rng,
    /// The cluster's.
    pub issuer: String,
    /// What the people of another cluster, and careless ones of this, have put into Azure.
    fakes: u32,
    /// What they put where the operator wants something else: identity, name and content.
    harm: Vec<(String, String, Value)>,
}

impl People {
    pub fn new(world: &Arc<World>, rng: Rng, issuer: String) -> Self {
        Self {
            world: world.clone(),
            rng,
            issuer,
            fakes: 0,
            harm: Vec::new(),
        }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.usize(..of.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    /// Namespaces, accounts, identities, most grants, and a first object.
    pub async fn set_up(&mut self) {
        for namespace in NAMESPACES.into_iter().chain([crate::names::OWN_NAMESPACE]) {
            let manifest = json!({ "metadata": { "name": namespace } });
            self.send("POST", "/api/v1/namespaces", &manifest);
        }
        for namespace in NAMESPACES {
            for account in ACCOUNTS {
                if self.chance(80) {
                    self.create_account(namespace, account);
                }
            }
            if self.chance(85) {
                self.grant(namespace);
            }
        }
        for identity in IDENTITIES {
            self.create_identity(identity).await;
        }
        // Bystanders.
        self.put_credential(IDENTITIES[0], "aks-identity-binding", &azure::foreign(0))
            .await;
        self.create_object(NAMESPACES[0], OBJECTS[0]);
    }

    /// Something that somebody does.
    pub async fn act(&mut self) {
        let namespace = self.one(&NAMESPACES[..]);
        let namespace = if self.chance(60) {
            NAMESPACES[0]
        } else {
            namespace
        };
        let account = self.one(&ACCOUNTS);
        let object = if self.chance(70) {
            OBJECTS[0]
        } else {
            OBJECTS[1]
        };
        let identity = self.one(&IDENTITIES);
        let an_object = self.one_there("airflowworkloadidentities", object_path);
        match self.rng.u32(..100) {
            0..14 => self.create_object(namespace, object),
            14..36 => {
                let spec = self.change();
                self.patch(&an_object, &json!({ "spec": spec }));
            }
            36..40 => self.move_on(&an_object).await,
            40 => self.take_back(&an_object).await,
            41..43 => self.take_over().await,
            43..45 => self.take_over_meanwhile().await,
            45 => self.declare_meanwhile().await,
            46..50 => self.delete(&an_object),
            50..55 => self.grant(namespace),
            55..58 => self.delete(&grant_path(namespace)),
            58..61 => {
                let narrowed = json!({ "spec": { "serviceAccounts": [account] } });
                self.patch(&grant_path(namespace), &narrowed);
            }
            61..65 => self.create_account(namespace, account),
            65..68 => self.delete(&account_path(namespace, account)),
            68..71 => self.annotate(namespace, account),
            71..73 => {
                let secret = self.one_there("secrets", secret_path);
                self.delete(&secret);
            }
            73 => self.delete(&role_path(namespace, object)),
            74 => self.create_secret(namespace, object),
            75 => self.create_role(namespace, object),
            76..78 => {
                let patch = json!({ "data": { "AIRFLOW_CONN_AZURE_DEFAULT": SPOILT } });
                let secret = self.one_there("secrets", secret_path);
                self.patch(&secret, &patch);
            }
            78..82 => self.lose_credential(identity).await,
            82..86 => self.change_credential(identity, namespace, account).await,
            86..90 => self.occupy(identity, namespace, account).await,
            90..94 => self.other_cluster(identity).await,
            94..95 => self.fill(identity).await,
            95..97 => {
                self.az("DELETE", &identity_id(identity), &Value::Null)
                    .await;
            }
            97 => self.create_identity(identity).await,
            _ => {
                let patch = json!({ "metadata": { "annotations": {
                    "airflow-workload-identity.io/abandon-credentials": "true",
                }}});
                self.patch(&an_object, &patch);
            }
        }
    }

    /// The path of one that is there; of one that is not, if there is none.
    fn one_there(&mut self, plural: &str, path: fn(&str, &str) -> String) -> String {
        let all: Vec<String> = {
            let state = self.world.state();
            let all = state.api.list(plural).map(|found| {
                let text = |field: &str| found["metadata"][field].as_str().unwrap_or_default();
                path(text("namespace"), text("name"))
            });
            all.collect()
        };
        match all.len() {
            0 => path(NAMESPACES[0], "nothing"),
            count => all[self.rng.usize(..count)].clone(),
        }
    }

    /// One field of an object, or two.
    fn change(&mut self) -> Value {
        let mut spec = json!({});
        for _ in 0..=self.rng.usize(..2) {
            let (field, value) = match self.rng.u32(..12) {
                0 | 1 => ("identity", self.identity()),
                2 | 3 => ("airflow", self.airflow()),
                4 => {
                    let name = [json!(null), json!("chosen"), json!("other")];
                    let name = name[self.rng.usize(..3)].clone();
                    ("federation", json!({ "credentialName": name }))
                }
                5 => {
                    let policy = ["Use", "Adopt"][self.rng.usize(..2)];
                    ("federation", json!({ "existingCredentials": policy }))
                }
                6 => {
                    let policy = ["Delete", "Delete", "Retain"][self.rng.usize(..3)];
                    ("federation", json!({ "deletionPolicy": policy }))
                }
                7..10 => ("connectionSecret", self.connection_secret()),
                10 => {
                    let mut all = vec![json!({ "id": "azure_default", "azure": {} })];
                    if self.chance(60) {
                        all.push(json!({ "id": "lake", "adls": { "account": "lake" } }));
                    }
                    ("connections", json!(all))
                }
                _ => ("suspend", json!(self.chance(40))),
            };
            spec[field] = value;
        }
        spec
    }

    fn connection_secret(&mut self) -> Value {
        let format = ["Environment", "SecretsBackend", "File"][self.rng.usize(..3)];
        let reads = format == "SecretsBackend" && self.chance(60);
        json!({ "format": format, "readerRole": reads })
    }

    fn identity(&mut self) -> Value {
        let identity = identity_id(self.one(&IDENTITIES));
        json!({ "managedIdentity": { "resourceId": identity } })
    }

    fn airflow(&mut self) -> Value {
        let mut accounts: Vec<&str> = Vec::new();
        for account in ACCOUNTS {
            if self.chance(70) {
                accounts.push(account);
            }
        }
        if accounts.is_empty() {
            accounts.push(ACCOUNTS[0]);
        }
        json!({ "serviceAccounts": accounts })
    }

    fn create_object(&mut self, namespace: &str, name: &str) {
        let manifest = json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1",
            "kind": "AirflowWorkloadIdentity",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "identity": self.identity(), "airflow": self.airflow(),
                "connectionSecret": self.connection_secret(),
            },
        });
        let path = format!("{API}/namespaces/{namespace}/airflowworkloadidentities");
        self.send("POST", &path, &manifest);
    }

    /// One identity, or all of them, for all accounts of the namespace.
    fn grant(&mut self, namespace: &str) {
        let identity = match self.rng.u32(..3) {
            0 => json!({ "resourceId": identity_id(self.one(&IDENTITIES)) }),
            _ => json!({ "resourceGroupId": GROUP }),
        };
        self.put_grant(namespace, &identity, &json!([]));
    }

    fn put_grant(&self, namespace: &str, identity: &Value, accounts: &Value) {
        let spec = json!({
            "identities": [identity], "namespaces": { "names": [namespace] }, "serviceAccounts": accounts,
        });
        let manifest = json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant",
            "metadata": { "name": namespace }, "spec": spec,
        });
        let (status, _) = self.send("POST", &format!("{API}/azureidentitygrants"), &manifest);
        if status == 409 {
            self.patch(&grant_path(namespace), &json!({ "spec": spec }));
        }
    }

    fn create_account(&self, namespace: &str, account: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let manifest = json!({ "metadata": { "name": account, "namespace": namespace } });
        self.send("POST", &path, &manifest);
    }

    /// A Secret of the name that the operator would take.
    fn create_secret(&self, namespace: &str, object: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let name = secret_name(object);
        let metadata = json!({ "name": name, "namespace": namespace });
        let manifest = json!({ "metadata": metadata, "data": { "theirs": "dGhlaXJz" } });
        self.send("POST", &path, &manifest);
    }

    /// A Role of the name that the operator would take.
    fn create_role(&self, namespace: &str, object: &str) {
        let path = format!("{RBAC}/namespaces/{namespace}/roles");
        let metadata = json!({ "name": role_name(object), "namespace": namespace });
        let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]);
        let manifest = json!({ "metadata": metadata, "rules": rules });
        self.send("POST", &path, &manifest);
    }

    fn patch(&self, path: &str, patch: &Value) {
        self.send("PATCH", path, patch);
    }

    fn delete(&self, path: &str) {
        self.send("DELETE", path, &Value::Null);
    }

    /// Server-side, over whoever else declares it.
    fn apply(&self, path: &str, manifest: &Value) {
        let path = format!("{path}?fieldManager=gitops&force=true");
        self.request("PATCH", &path, "application/apply-patch+yaml", manifest);
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let content = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.request(
            method,
            &format!("{path}?fieldManager=kubectl"),
            content,
            body,
        )
    }

    fn request(&self, method: &str, path: &str, content: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .header("user-agent", "kubectl")
            .body(body);
        self.world.kubectl(&request.expect("a valid request"))
    }
}

fn object_path(namespace: &str, name: &str) -> String {
    format!("{API}/namespaces/{namespace}/airflowworkloadidentities/{name}")
}

fn grant_path(name: &str) -> String {
    format!("{API}/azureidentitygrants/{name}")
}

fn account_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
}

fn secret_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn role_path(namespace: &str, object: &str) -> String {
    let name = role_name(object);
    format!("{RBAC}/namespaces/{namespace}/roles/{name}")
}

fn role_name(object: &str) -> String {
    format!("{object}-airflow-connections-reader")
}

fn secret_name(object: &str) -> String {
    format!("{object}-airflow-connections")
}
