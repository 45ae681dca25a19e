//! The object gets the other identity.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{People, grant_path};
use crate::azure::PUT_OFF;
use crate::met::Event;
use crate::names::{ACCOUNTS, GROUP, IDENTITIES, identity_id};

impl People {
    /// The operator may not write on the other one yet, perhaps. People give it time, before and after, or there
    /// would be nothing to leave.
    pub(super) async fn move_on(&mut self, object: &str) {
        self.wait().await;
        let Some((_, other)) = self.other_identity(object) else {
            return;
        };
        let id = identity_id(other);
        if self.chance(40) {
            self.world.tell(|| format!("no role on {id}, but to read"));
            self.world.azure.bar(&id, true);
        }
        self.use_identity(object, &id);
        self.wait().await;
    }

    /// Azure puts off the first write on the other one, and while it waits, nobody may write any longer.
    pub(super) async fn take_back(&mut self, object: &str) {
        let Some((namespace, other)) = self.other_identity(object) else {
            return;
        };
        self.put_grant(&namespace, &json!({ "resourceGroupId": GROUP }), &json!([]));
        let id = identity_id(other);
        self.world.azure.put_off(&id);
        self.use_identity(object, &id);
        if !self.is_put_off(other).await {
            return;
        }
        if self.chance(50) {
            self.delete(&grant_path(&namespace));
        } else {
            let other = IDENTITIES.into_iter().find(|of| *of != other);
            let other = json!({ "resourceId": other.map(identity_id) });
            self.put_grant(&namespace, &other, &json!(ACCOUNTS));
        }
        self.world.met(Event::GrantTakenMeanwhile);
        sleep(PUT_OFF).await;
    }

    /// The object's namespace, and the identity that it does not have.
    fn other_identity(&self, object: &str) -> Option<(String, &'static str)> {
        let (_, found) = self.send("GET", object, &Value::Null);
        let now = &found["spec"]["identity"]["managedIdentity"]["resourceId"];
        let namespace = found["metadata"]["namespace"].as_str()?;
        let mut others = IDENTITIES
            .into_iter()
            .filter(|name| *now != identity_id(name));
        Some((namespace.to_owned(), others.next()?))
    }

    fn use_identity(&self, object: &str, id: &str) {
        let identity = json!({ "managedIdentity": { "resourceId": id } });
        self.patch(
            object,
            &json!({ "spec": { "identity": identity, "suspend": false } }),
        );
    }

    async fn wait(&mut self) {
        sleep(Duration::from_millis(self.rng.u64(..15_000))).await;
    }
}
