//! What people do to the annotations of ServiceAccounts.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{People, account_path};
use crate::azure::PUT_OFF;
use crate::met::Event;
use crate::names::{account_of, identity_id};

const CLIENT_ID: &str = "azure.workload.identity/client-id";
/// Somebody else's client ID.
pub(super) const THEIRS: &str = "00000000-0000-0000-0000-00000000000f";

impl People {
    /// Takes the client ID away, or writes another one: by hand, or as somebody who applies it again and again.
    pub(super) fn annotate(&mut self, namespace: &str, account: &str) {
        match self.rng.u32(..3) {
            0 => self.annotate_by_hand(namespace, account, &Value::Null),
            1 => self.annotate_by_hand(namespace, account, &json!(THEIRS)),
            _ => self.declare(namespace, account),
        }
    }

    pub(super) fn annotate_by_hand(&self, namespace: &str, account: &str, value: &Value) {
        let patch = json!({ "metadata": { "annotations": { CLIENT_ID: value } } });
        self.patch(&account_path(namespace, account), &patch);
    }

    /// The operator has to put an account's credential and annotation right, Azure puts off the credential, and
    /// meanwhile somebody declares the annotation.
    pub(super) async fn declare_meanwhile(&mut self) {
        let Some(recorded) = self.one_recorded() else {
            return;
        };
        let Some((namespace, account)) = account_of(&recorded.trust.subject) else {
            return;
        };
        self.remove_credential(&recorded.identity, &recorded.name)
            .await;
        self.annotate_by_hand(namespace, account, &json!(THEIRS));
        self.world.azure.put_off(&identity_id(&recorded.identity));
        // Or it would look at what Azure lists only after a while.
        let connections = self.connection_secret();
        self.patch(
            &recorded.object,
            &json!({ "spec": { "connectionSecret": connections } }),
        );
        if self.is_put_off(&recorded.identity).await {
            self.declare(namespace, account);
            self.world.met(Event::AnnotationDeclaredMeanwhile);
            sleep(PUT_OFF).await;
        }
    }

    fn declare(&self, namespace: &str, account: &str) {
        let manifest = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "annotations": { CLIENT_ID: THEIRS } },
        });
        let path = account_path(namespace, account);
        let (status, _) = self.send("GET", &path, &Value::Null);
        if status == 200 {
            self.apply(&path, &manifest);
        }
    }
}
