//! The faults end. People undo the harm that they did, and no two objects want the same any longer; but not
//! everybody is given what he asks for.

use airflow_workload_identity::model::{CredentialName, Subject};
use serde_json::{Value, json};

use super::accounts::THEIRS;
use super::azure::BY_HAND;
use super::{People, account_path, grant_path, object_path, role_path, secret_name, secret_path};
use crate::names::{ACCOUNTS, AUDIENCE, GROUP, IDENTITIES, NAMESPACES, OBJECTS, identity_id};
use crate::rules::{self, Trust};

impl People {
    /// What objects have from now on is what they will have in the end.
    pub async fn end(&mut self) {
        for identity in IDENTITIES {
            self.create_identity(identity).await;
        }
        self.undo_harm().await;
        self.remove_retained().await;
        let all_is_given = self.chance(50);
        let suspended = (!all_is_given && self.chance(40)).then(|| self.one(&NAMESPACES));
        for namespace in NAMESPACES {
            self.end_accounts(namespace);
            self.end_grant(namespace, all_is_given);
            // Two objects share no account.
            let shares = [&ACCOUNTS[..2], &ACCOUNTS[2..]];
            for (object, accounts) in OBJECTS.into_iter().zip(shares) {
                self.make_way(namespace, object);
                let spec = if suspended == Some(namespace) {
                    json!({ "suspend": true })
                } else {
                    self.end_spec(namespace, object, accounts, all_is_given)
                };
                self.patch(&object_path(namespace, object), &json!({ "spec": spec }));
            }
        }
        if !all_is_given && self.chance(50) {
            self.stand_in_the_way().await;
        }
    }

    async fn undo_harm(&mut self) {
        let stays = self.chance(50);
        for (identity, name, put) in std::mem::take(&mut self.harm) {
            let trust = Trust::of(&put);
            let is_of_use = trust.issuer == self.issuer && trust.audience == AUDIENCE;
            if name == BY_HAND && is_of_use && stays {
                continue; // the operator uses it as it is
            }
            let id = identity_id(&identity).to_ascii_lowercase();
            let state = self.world.azure.state();
            let live = rules::credentials(&state, &id).remove(&name);
            if live == Some(trust) {
                self.remove_credential(&identity, &name).await;
            }
        }
    }

    /// What was let go of is nobody's, and keeps its name from whoever moved to another issuer.
    async fn remove_retained(&self) {
        let retained = self.world.state().rules.retained.clone();
        for path in retained.into_keys() {
            let state = self.world.azure.state();
            let live = rules::credentials(&state, &path.identity).remove(&path.name);
            if live.is_some_and(|trust| trust.issuer != self.issuer) {
                let identity = path.identity.rsplit('/').next().unwrap_or_default();
                self.remove_credential(identity, &path.name).await;
            }
        }
    }

    fn end_accounts(&self, namespace: &str) {
        for account in ACCOUNTS {
            self.create_account(namespace, account);
            let path = account_path(namespace, account);
            let (_, found) = self.send("GET", &path, &Value::Null);
            let annotation = &found["metadata"]["annotations"]["azure.workload.identity/client-id"];
            if annotation == THEIRS {
                self.annotate_by_hand(namespace, account, &Value::Null);
            }
        }
    }

    /// Everything, nothing, one account, or one identity.
    fn end_grant(&mut self, namespace: &str, all_is_given: bool) {
        self.delete(&grant_path(namespace));
        let all = json!({ "resourceGroupId": GROUP });
        let some = if all_is_given { 3 } else { self.rng.u32(..5) };
        match some {
            0 => {}
            1 => {
                let account = self.one(&ACCOUNTS);
                self.put_grant(namespace, &all, &json!([account]));
            }
            2 => {
                let identity = json!({ "resourceId": identity_id(self.one(&IDENTITIES)) });
                self.put_grant(namespace, &identity, &json!([]));
            }
            _ => self.put_grant(namespace, &all, &json!([])),
        }
    }

    /// What somebody made under the names that the object's own would have goes.
    fn make_way(&self, namespace: &str, object: &str) {
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
    }

    fn end_spec(
        &mut self,
        namespace: &str,
        object: &str,
        accounts: &[&str],
        all_is_given: bool,
    ) -> Value {
        let mut spec = json!({ "suspend": false, "airflow": { "serviceAccounts": accounts } });
        let before = self.chosen_name(namespace, object);
        let name = if all_is_given && self.chance(25) {
            let names = [json!(null), json!("chosen"), json!("other")];
            names[self.rng.usize(..names.len())].clone()
        } else {
            before.clone()
        };
        let mut others = OBJECTS.iter().map(|of| self.chosen_name(NAMESPACES[0], of));
        let is_anothers = namespace != NAMESPACES[0] && others.any(|of| of == name);
        if name.is_string() && (is_anothers || !all_is_given) {
            // An account of the other namespace has the same name; on one identity only one can have it. And
            // whoever may not leave keeps what he chose before.
            spec["federation"] = json!({ "credentialName": null });
        } else if name != before {
            spec["federation"] = json!({ "credentialName": name });
        }
        if object == OBJECTS[1] {
            // Nor do they, in Airflow's eyes, have the same connection.
            spec["connectionSecret"] = json!({ "format": "File", "readerRole": false });
        } else if self.chance(50) {
            // Of what it had before, nothing may be left.
            let format = ["Environment", "SecretsBackend"][self.rng.usize(..2)];
            spec["connectionSecret"] = json!({ "format": format, "readerRole": false });
        }
        spec
    }

    fn chosen_name(&self, namespace: &str, object: &str) -> Value {
        let (_, found) = self.send("GET", &object_path(namespace, object), &Value::Null);
        found["spec"]["federation"]["credentialName"].clone()
    }

    /// Somebody has the name of an account's credential, and keeps it.
    async fn stand_in_the_way(&mut self) {
        let namespace = self.one(&NAMESPACES);
        let object = self.one(&OBJECTS);
        let (_, found) = self.send("GET", &object_path(namespace, object), &Value::Null);
        let id = found["spec"]["identity"]["managedIdentity"]["resourceId"].as_str();
        let accounts = found["spec"]["airflow"]["serviceAccounts"].as_array();
        let accounts = accounts.into_iter().flatten().filter_map(Value::as_str);
        let accounts: Vec<&str> = accounts.collect();
        let Some(identity) = id.and_then(|id| id.rsplit('/').next()) else {
            return;
        };
        let account = self.one(&accounts);
        let issuer = self.issuer.parse().expect("an issuer");
        let name = CredentialName::derived(&issuer, &Subject::new(namespace, account));
        let trust = self.fake();
        self.put_credential(identity, name.as_str(), &trust).await;
    }
}
