//! What people do meanwhile, with kubectl and `az`: tenants, administrators, and the operator of
//! another cluster.

use std::sync::Arc;
use std::time::Duration;

use airflow_workload_identity::model::{CredentialName, Subject};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::names::{
    ACCOUNTS, API, AUDIENCE, CredentialPath, FOREIGN_ISSUER, GROUP, IDENTITIES, NAMESPACES,
    OBJECTS, SPOILT, identity_id, subject,
};
use crate::rules::Trust;
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
        self.put_credential(IDENTITIES[0], "aks-identity-binding", &foreign(0))
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
            36..41 => self.move_on(&an_object).await,
            41..44 => self.take_over().await,
            44..50 => self.delete(&an_object),
            50..55 => self.grant(namespace),
            55..58 => self.delete(&grant_path(namespace)),
            58..61 => {
                let narrowed = json!({ "spec": { "serviceAccounts": [account] } });
                self.patch(&grant_path(namespace), &narrowed);
            }
            61..65 => self.create_account(namespace, account),
            65..68 => self.delete(&account_path(namespace, account)),
            68..71 => {
                let value = [json!(null), json!("00000000-0000-0000-0000-00000000000f")];
                let value = value[self.rng.usize(..2)].clone();
                let annotations = json!({ "azure.workload.identity/client-id": value });
                let patch = json!({ "metadata": { "annotations": annotations } });
                self.patch(&account_path(namespace, account), &patch);
            }
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

    /// The object gets the other identity, on which the operator may not write yet, perhaps. People give it time,
    /// before and after, or there would be nothing to leave.
    async fn move_on(&mut self, object: &str) {
        self.wait().await;
        let (_, found) = self.send("GET", object, &Value::Null);
        let now = &found["spec"]["identity"]["managedIdentity"]["resourceId"];
        let mut ids = IDENTITIES.iter().map(|name| identity_id(name));
        let Some(other) = ids.find(|id| now.is_string() && *now != **id) else {
            return;
        };
        if self.chance(40) {
            self.world
                .tell(|| format!("no role on {other}, but to read"));
            self.world.azure.bar(&other, true);
        }
        let identity = json!({ "managedIdentity": { "resourceId": other } });
        self.patch(object, &json!({ "spec": { "identity": identity } }));
        self.wait().await;
    }

    async fn wait(&mut self) {
        let pause = Duration::from_millis(self.rng.u64(..15_000));
        tokio::time::sleep(pause).await;
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

    fn grant(&mut self, namespace: &str) {
        let which = self.rng.u32(..3);
        let identity = match which {
            0 => json!({ "resourceId": identity_id(self.one(&IDENTITIES)) }),
            _ => json!({ "resourceGroupId": GROUP }),
        };
        let spec = json!({
            "identities": [identity], "namespaces": { "names": [namespace] }, "serviceAccounts": [],
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

    async fn create_identity(&self, name: &str) {
        let body = json!({ "location": "westeurope" });
        self.az("PUT", &identity_id(name), &body).await;
    }

    async fn lose_credential(&mut self, identity: &str) {
        let names = self.credential_names(identity);
        if !names.is_empty() {
            let name = names[self.rng.usize(..names.len())].clone();
            self.az("DELETE", &credential_path(identity, &name), &Value::Null)
                .await;
        }
    }

    /// One that is there trusts something else now.
    async fn change_credential(&mut self, identity: &str, namespace: &str, account: &str) {
        let names = self.credential_names(identity);
        if names.is_empty() {
            return;
        }
        let name = names[self.rng.usize(..names.len())].clone();
        let trust = match self.rng.u32(..3) {
            0 => trust(&self.issuer, &subject(namespace, account), "api://other"),
            1 => trust(FOREIGN_ISSUER, &subject(namespace, account), AUDIENCE),
            _ => trust(&self.issuer, &subject(namespace, "somebody"), AUDIENCE),
        };
        self.harm(identity, &name, trust).await;
    }

    /// What an object has on record trusts something else now, and what it did before again, perhaps; and a
    /// while later, in which the operator may not have looked, the object goes.
    async fn take_over(&mut self) {
        let recorded: Vec<(String, CredentialPath)> = {
            let state = self.world.state();
            let objects = state.api.list("airflowworkloadidentities");
            let recorded = objects.flat_map(|object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let path = object_path(text("namespace"), text("name"));
                crate::rules::records(object).map(move |record| (path.clone(), record))
            });
            recorded.collect()
        };
        if recorded.is_empty() {
            return;
        }
        let (object, credential) = &recorded[self.rng.usize(..recorded.len())];
        let identity = credential.identity.rsplit('/').next().unwrap_or_default();
        let live = crate::rules::credentials(&self.world.azure.state(), &credential.identity);
        // What was written down, and not written, is nobody's.
        let Some(Trust {
            issuer,
            subject,
            audience,
        }) = live.get(&credential.name)
        else {
            return;
        };
        let mut trusts = vec![self.fake(), trust(issuer, subject, audience)];
        trusts.truncate(self.rng.usize(1..=2));
        for trust in trusts {
            self.harm(identity, &credential.name, trust).await;
            let pause = Duration::from_millis(self.rng.u64(6_000..12_000));
            tokio::time::sleep(pause).await;
        }
        self.delete(object);
    }

    /// Somebody else has the name, or the account.
    async fn occupy(&mut self, identity: &str, namespace: &str, account: &str) {
        let issuer = self.issuer.parse().expect("an issuer");
        let derived = CredentialName::derived(&issuer, &Subject::new(namespace, account));
        let (name, trust) = match self.rng.u32(..4) {
            0 => (derived.to_string(), self.fake()),
            1 => ("chosen-airflow-worker".to_owned(), self.fake()),
            2 => (
                "by-hand".to_owned(),
                trust(&self.issuer, &subject(namespace, account), AUDIENCE),
            ),
            _ => (
                derived.to_string(),
                trust(&self.issuer, &subject(namespace, account), "api://other"),
            ),
        };
        self.harm(identity, &name, trust).await;
    }

    fn fake(&mut self) -> Value {
        self.fakes += 1;
        foreign(self.fakes)
    }

    async fn other_cluster(&mut self, identity: &str) {
        let name = format!("other-{}", self.rng.u32(..3));
        if self.chance(70) {
            let trust = self.fake();
            self.put_credential(identity, &name, &trust).await;
        } else {
            self.az("DELETE", &credential_path(identity, &name), &Value::Null)
                .await;
        }
    }

    /// No room is left.
    async fn fill(&mut self, identity: &str) {
        for number in 0..20 {
            let trust = self.fake();
            self.harm(identity, &format!("fill-{number}"), trust).await;
        }
    }

    async fn harm(&mut self, identity: &str, name: &str, trust: Value) {
        self.put_credential(identity, name, &trust).await;
        self.harm
            .push((identity.into(), name.to_ascii_lowercase(), trust));
    }

    async fn put_credential(&self, identity: &str, name: &str, trust: &Value) {
        let body = json!({ "properties": trust });
        // A write of an operator's may be in flight.
        for _ in 0..20 {
            let (status, _) = self
                .az("PUT", &credential_path(identity, name), &body)
                .await;
            if ![409, 429].contains(&status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(35)).await;
        }
    }

    fn credential_names(&self, identity: &str) -> Vec<String> {
        let state = self.world.azure.state();
        let id = identity_id(identity).to_ascii_lowercase();
        crate::rules::credentials(&state, &id).into_keys().collect()
    }

    /// The faults end, and whoever did harm undoes it: everything that is asked for can be had.
    pub async fn heal(&mut self) {
        for identity in IDENTITIES {
            self.create_identity(identity).await;
        }
        for (identity, name, put) in std::mem::take(&mut self.harm) {
            let id = identity_id(&identity).to_ascii_lowercase();
            let state = self.world.azure.state();
            let live = crate::rules::credentials(&state, &id).remove(&name);
            if live == Some(Trust::of(&put)) {
                self.remove_credential(&identity, &name).await;
            }
        }
        self.remove_retained().await;
        for namespace in NAMESPACES {
            for account in ACCOUNTS {
                self.create_account(namespace, account);
                let path = account_path(namespace, account);
                let (_, found) = self.send("GET", &path, &Value::Null);
                let annotation =
                    &found["metadata"]["annotations"]["azure.workload.identity/client-id"];
                if annotation == "00000000-0000-0000-0000-00000000000f" {
                    let annotations = json!({ "azure.workload.identity/client-id": null });
                    self.patch(
                        &path,
                        &json!({ "metadata": { "annotations": annotations } }),
                    );
                }
            }
            let grant = json!({
                "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant",
                "metadata": { "name": namespace },
                "spec": { "identities": [{ "resourceGroupId": GROUP }], "namespaces": { "names": [namespace] } },
            });
            self.delete(&grant_path(namespace));
            self.send("POST", &format!("{API}/azureidentitygrants"), &grant);
            // Two objects share no account.
            let shares = [&ACCOUNTS[..2], &ACCOUNTS[2..]];
            for (object, accounts) in OBJECTS.into_iter().zip(shares) {
                let secret = secret_path(namespace, &secret_name(object));
                let (_, found) = self.send("GET", &secret, &Value::Null);
                if !found["data"]["theirs"].is_null() {
                    self.delete(&secret);
                }
                let role = role_path(namespace, object);
                let (_, found) = self.send("GET", &role, &Value::Null);
                if found["rules"][0]["resources"][0] == "pods" {
                    self.delete(&role);
                }
                let mut spec =
                    json!({ "suspend": false, "airflow": { "serviceAccounts": accounts } });
                let name = self.chosen_name(namespace, object);
                let mut others = OBJECTS.iter().map(|of| self.chosen_name(NAMESPACES[0], of));
                if namespace != NAMESPACES[0] && name.is_string() && others.any(|of| of == name) {
                    // An account of the other namespace has the same name; on one identity only one can have it.
                    spec["federation"] = json!({ "credentialName": null });
                }
                if object == OBJECTS[1] {
                    // Nor do they, in Airflow's eyes, have the same connection.
                    spec["connectionSecret"] = json!({ "format": "File", "readerRole": false });
                } else if self.chance(50) {
                    // Of what it had before, nothing may be left.
                    let format = ["Environment", "SecretsBackend"][self.rng.usize(..2)];
                    spec["connectionSecret"] = json!({ "format": format, "readerRole": false });
                }
                self.patch(&object_path(namespace, object), &json!({ "spec": spec }));
            }
        }
    }

    fn chosen_name(&self, namespace: &str, object: &str) -> Value {
        let (_, found) = self.send("GET", &object_path(namespace, object), &Value::Null);
        found["spec"]["federation"]["credentialName"].clone()
    }

    /// What was let go of is nobody's, and keeps its name from whoever moved to another issuer.
    async fn remove_retained(&self) {
        let retained = self.world.state().rules.retained.clone();
        for path in retained {
            let state = self.world.azure.state();
            let live = crate::rules::credentials(&state, &path.identity).remove(&path.name);
            if live.is_some_and(|trust| trust.issuer != self.issuer) {
                let identity = path.identity.rsplit('/').next().unwrap_or_default();
                self.remove_credential(identity, &path.name).await;
            }
        }
    }

    async fn remove_credential(&self, identity: &str, name: &str) {
        for _ in 0..200 {
            let path = credential_path(identity, name);
            let (status, _) = self.az("DELETE", &path, &Value::Null).await;
            if ![409, 429].contains(&status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(35)).await;
        }
    }

    async fn az(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.world.azure.az(method, path, body).await;
        let changed = CredentialPath::named(path).filter(|_| (200..300).contains(&answer.0));
        if let Some(path) = changed {
            self.world.state().rules.changes(path);
        }
        self.world
            .tell(|| format!("person: az {method} {path} {body} → {}", answer.0));
        answer
    }

    fn patch(&self, path: &str, patch: &Value) {
        self.send("PATCH", path, patch);
    }

    fn delete(&self, path: &str) {
        self.send("DELETE", path, &Value::Null);
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let content = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?fieldManager=kubectl"))
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

fn credential_path(identity: &str, name: &str) -> String {
    format!(
        "{}/federatedIdentityCredentials/{name}",
        identity_id(identity)
    )
}

fn trust(issuer: &str, subject: &str, audience: &str) -> Value {
    json!({ "issuer": issuer, "subject": subject, "audiences": [audience] })
}

/// What another cluster would write; no two are the same.
fn foreign(number: u32) -> Value {
    trust(
        FOREIGN_ISSUER,
        &subject("elsewhere", &format!("account-{number}")),
        AUDIENCE,
    )
}
