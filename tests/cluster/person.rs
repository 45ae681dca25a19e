//! `awi` as a person runs it: with no more rights than the documents ask for, and signed in to Azure.

use std::{path::PathBuf, process::Command};

use lab::{
    AuditEntry,
    identities::{ADMIN, TENANT_ID},
};
use serde_json::{Value, json};

use crate::world::{World, awi};

const ACCOUNT: &str = "person";

pub struct Person {
    kubeconfig: PathBuf,
    environment: Vec<(&'static str, String)>,
    user: String,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Printed {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Person {
    /// Somebody who may do in the world's namespace what `docs/commands.md` says.
    pub async fn new(world: &World<'_>) -> Self {
        let document = std::fs::read_to_string(lab::repository().join("docs/commands.md")).unwrap();
        let blocks = document.split("```yaml\n").skip(1);
        let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
        let roles = blocks.last().unwrap().replace("awi-look", &world.ns);
        let file = world
            .lab
            .scratch()
            .join(format!("{}-person.yaml", world.ns));
        std::fs::write(&file, roles).unwrap();
        world
            .kubectl(&format!("create serviceaccount {ACCOUNT}"))
            .await
            .unwrap();
        world
            .kubectl(&format!("apply -f {}", file.display()))
            .await
            .unwrap();
        for (kind, role) in [
            ("rolebinding", "role"),
            ("clusterrolebinding", "clusterrole"),
        ] {
            world
                .kubectl(&format!(
                    "create {kind} {ns} --{role}={ns} --serviceaccount={ns}:{ACCOUNT}",
                    ns = world.ns
                ))
                .await
                .unwrap();
        }
        let user = format!("system:serviceaccount:{}:{ACCOUNT}", world.ns);
        for kind in ["airflowworkloadidentities", "azureidentitygrants"] {
            let may = format!("auth can-i list {kind} --as {user}");
            world
                .eventually("the rights have got around", async || {
                    world.kubectl(&may).await.ok()
                })
                .await;
        }

        let emulator = world.lab.emulator();
        let token = world.lab.mint_azure_admin_token().await.unwrap();
        let token_file = world
            .lab
            .scratch()
            .join(format!("{}-person.token", world.ns));
        std::fs::write(&token_file, token).unwrap();
        let url = emulator.url().to_owned();
        Self {
            kubeconfig: world.lab.kubeconfig_of(&world.ns, ACCOUNT).await.unwrap(),
            environment: vec![
                ("AWI_CLOUD", "custom".into()),
                ("AWI_AZURE_ENDPOINT", url.clone()),
                ("AWI_AZURE_AUDIENCE", url.clone()),
                ("AWI_AZURE_AUTHORITY", url.clone()),
                ("AWI_EXTRA_CA", emulator.ca_path().display().to_string()),
                ("AWI_AZURE_CREDENTIAL", "workload-identity".into()),
                ("AZURE_CLIENT_ID", ADMIN.client_id.into()),
                ("AZURE_TENANT_ID", TENANT_ID.into()),
                (
                    "AZURE_FEDERATED_TOKEN_FILE",
                    token_file.display().to_string(),
                ),
                ("AZURE_AUTHORITY_HOST", url),
                ("NO_PROXY", "127.0.0.1".into()),
            ],
            user,
        }
    }

    /// Lets them plan for grants, too.
    pub async fn may_grant(&self, world: &World<'_>) {
        let rule = json!({
            "apiGroups": ["airflow-workload-identity.io"],
            "resources": ["azureidentitygrants"],
            "verbs": ["create", "patch"],
        });
        let patch = json!([{ "op": "add", "path": "/rules/-", "value": rule }]);
        world
            .kubectl(&format!(
                "patch clusterrole {} --type=json -p {patch}",
                world.ns
            ))
            .await
            .unwrap();
    }

    /// Runs `awi`.
    pub fn awi(&self, arguments: &str) -> Printed {
        let output = Command::new(awi())
            .args(arguments.split(' '))
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.environment.clone())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            lab::keep_output("commands", &text).unwrap();
            text
        };
        Printed {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// What the API server was asked for in their name, and might have changed.
    pub fn writes(&self, world: &World<'_>) -> Vec<AuditEntry> {
        let mut entries = world.lab.audit_log().unwrap();
        entries.retain(|entry| entry.user == self.user);
        assert!(!entries.is_empty(), "it asked for something");
        entries.retain(|entry| entry.is_write() && !entry.request_uri.contains("dryRun=All"));
        entries
    }
}
