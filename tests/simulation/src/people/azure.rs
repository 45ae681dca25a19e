//! What people do with `az`, and the operator of another cluster.

use std::time::Duration;

use airflow_workload_identity::model::{CredentialName, Subject};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{People, object_path};
use crate::azure::PUT_OFF;
use crate::met::Event;
use crate::names::{AUDIENCE, CredentialPath, FOREIGN_ISSUER, identity_id, subject};
use crate::rules::{self, Trust};

/// What somebody calls the one that he wrote for an account of this cluster.
pub(super) const BY_HAND: &str = "by-hand";

/// A credential that is there, and that an object has on record.
pub(super) struct Recorded {
    /// The object's path.
    pub object: String,
    pub identity: String,
    pub name: String,
    pub trust: Trust,
}

impl People {
    pub(super) async fn create_identity(&self, name: &str) {
        let body = json!({ "location": "westeurope" });
        self.az("PUT", &identity_id(name), &body).await;
    }

    pub(super) async fn lose_credential(&mut self, identity: &str) {
        let names = self.credential_names(identity);
        if !names.is_empty() {
            let name = names[self.rng.usize(..names.len())].clone();
            self.az("DELETE", &credential_path(identity, &name), &Value::Null)
                .await;
        }
    }

    /// One that is there trusts something else now.
    pub(super) async fn change_credential(
        &mut self,
        identity: &str,
        namespace: &str,
        account: &str,
    ) {
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
    pub(super) async fn take_over(&mut self) {
        let Some(recorded) = self.one_recorded() else {
            return;
        };
        let Trust {
            issuer,
            subject,
            audience,
        } = &recorded.trust;
        let mut trusts = vec![self.fake(), trust(issuer, subject, audience)];
        trusts.truncate(self.rng.usize(1..=2));
        for trust in trusts {
            self.harm(&recorded.identity, &recorded.name, trust).await;
            let pause = Duration::from_millis(self.rng.u64(6_000..12_000));
            sleep(pause).await;
        }
        self.delete(&recorded.object);
    }

    /// The object goes, Azure puts off the end of what it has on record, and meanwhile that trusts something else.
    pub(super) async fn take_over_meanwhile(&mut self) {
        let Some(recorded) = self.one_recorded() else {
            return;
        };
        self.world.azure.put_off(&identity_id(&recorded.identity));
        self.delete(&recorded.object);
        if self.is_put_off(&recorded.identity).await {
            let trust = self.fake();
            self.harm(&recorded.identity, &recorded.name, trust).await;
            self.world.met(Event::CredentialChangedMeanwhile);
            sleep(PUT_OFF).await;
        }
    }

    /// A credential that an object has on record.
    pub(super) fn one_recorded(&mut self) -> Option<Recorded> {
        let recorded: Vec<(String, CredentialPath)> = {
            let state = self.world.state();
            let objects = state.api.list("airflowworkloadidentities");
            let recorded = objects.flat_map(|object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let path = object_path(text("namespace"), text("name"));
                rules::records(object).map(move |record| (path.clone(), record))
            });
            recorded.collect()
        };
        if recorded.is_empty() {
            return None;
        }
        let (object, credential) = recorded[self.rng.usize(..recorded.len())].clone();
        let live = rules::credentials(&self.world.azure.state(), &credential.identity);
        // What was written down, and not written, is nobody's.
        let trust = live.get(&credential.name)?.clone();
        let identity = credential.identity.rsplit('/').next().unwrap_or_default();
        Some(Recorded {
            object,
            identity: identity.to_owned(),
            name: credential.name,
            trust,
        })
    }

    /// Whether Azure puts off a write to the identity, within the time that people have.
    pub(super) async fn is_put_off(&mut self, identity: &str) -> bool {
        let id = identity_id(identity);
        for _ in 0..30 {
            sleep(Duration::from_millis(500)).await;
            if self.world.azure.has_put_off(&id) {
                return true;
            }
        }
        self.world.azure.put_off_no_more(&id);
        false
    }

    /// Somebody else has the name, or the account.
    pub(super) async fn occupy(&mut self, identity: &str, namespace: &str, account: &str) {
        let issuer = self.issuer.parse().expect("an issuer");
        let derived = CredentialName::derived(&issuer, &Subject::new(namespace, account));
        let (name, trust) = match self.rng.u32(..4) {
            0 => (derived.to_string(), self.fake()),
            1 => ("chosen-airflow-worker".to_owned(), self.fake()),
            2 => (
                BY_HAND.to_owned(),
                trust(&self.issuer, &subject(namespace, account), AUDIENCE),
            ),
            _ => (
                derived.to_string(),
                trust(&self.issuer, &subject(namespace, account), "api://other"),
            ),
        };
        self.harm(identity, &name, trust).await;
    }

    pub(super) fn fake(&mut self) -> Value {
        self.fakes += 1;
        foreign(self.fakes)
    }

    pub(super) async fn other_cluster(&mut self, identity: &str) {
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
    pub(super) async fn fill(&mut self, identity: &str) {
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

    pub(super) async fn put_credential(&self, identity: &str, name: &str, trust: &Value) {
        let body = json!({ "properties": trust });
        // A write of an operator's may be in flight.
        for _ in 0..20 {
            let (status, _) = self
                .az("PUT", &credential_path(identity, name), &body)
                .await;
            if ![409, 429].contains(&status) {
                return;
            }
            sleep(Duration::from_millis(35)).await;
        }
    }

    fn credential_names(&self, identity: &str) -> Vec<String> {
        let state = self.world.azure.state();
        let id = identity_id(identity).to_ascii_lowercase();
        rules::credentials(&state, &id).into_keys().collect()
    }

    pub(super) async fn remove_credential(&self, identity: &str, name: &str) {
        for _ in 0..200 {
            let path = credential_path(identity, name);
            let (status, _) = self.az("DELETE", &path, &Value::Null).await;
            if ![409, 429].contains(&status) {
                return;
            }
            sleep(Duration::from_millis(35)).await;
        }
    }

    pub(super) async fn az(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.world.azure.az(method, path, body).await;
        let changed = CredentialPath::named(path).filter(|_| (200..300).contains(&answer.0));
        if let Some(path) = changed {
            self.world.state().rules.person_changes(path);
        }
        self.world
            .tell(|| format!("person: az {method} {path} {body} → {}", answer.0));
        answer
    }
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
pub(super) fn foreign(number: u32) -> Value {
    trust(
        FOREIGN_ISSUER,
        &subject("elsewhere", &format!("account-{number}")),
        AUDIENCE,
    )
}
