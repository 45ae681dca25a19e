//! The guide's own commands, with the real `az`, beside the operator.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use lab::identities::{ADMIN, EXCHANGE_AUDIENCE};
use serde_json::{Value, json};

use crate::world::{World, all, run};

/// The Azure CLI, signed in to the emulator.
struct Az {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Az {
    async fn signed_in(world: &World<'_>) -> Self {
        let python = lab::python("azcli", "tests/azcli/requirements.txt").unwrap();
        let emulator = world.lab.emulator();
        let home = world.lab.scratch().join(format!("az-{}", world.ns));
        let ca = emulator.ca_path().display().to_string();
        let az = Self {
            program: python.with_file_name("az"),
            environment: vec![
                ("AZURE_CONFIG_DIR", home.display().to_string()),
                ("AZURE_CORE_COLLECT_TELEMETRY", "no".to_owned()),
                ("REQUESTS_CA_BUNDLE", ca),
                ("NO_PROXY", "127.0.0.1".to_owned()),
            ],
        };
        let url = emulator.url().trim_end_matches('/');
        az.run(&format!(
            "cloud register -n Emulator --endpoint-resource-manager {url} --endpoint-active-directory {url} --endpoint-active-directory-resource-id {url} --endpoint-active-directory-graph-resource-id {url} --endpoint-microsoft-graph-resource-id {url}"
        ));
        az.run("cloud set -n Emulator");
        az.run("config set core.instance_discovery=false");
        let token = world.lab.mint_azure_admin_token().await.unwrap();
        az.run(&format!(
            "login --service-principal -u {} --tenant {} --federated-token {token}",
            ADMIN.client_id,
            emulator.tenant_id()
        ));
        az
    }

    fn output(&self, command: &str) -> Output {
        Command::new(&self.program)
            .args(command.split(' '))
            .args(["-o", "json", "--only-show-errors"])
            .envs(self.environment.clone())
            .output()
            .unwrap()
    }

    /// What it prints; its failure is the test's.
    fn run(&self, command: &str) -> Value {
        let output = self.output(command);
        assert!(
            output.status.success(),
            "az {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The names that it lists, and who each lets in.
    fn list(&self, world: &World<'_>) -> Vec<(String, String)> {
        let listed = self.run(&format!(
            "identity federated-credential list --identity-name {} -g data",
            world.ns
        ));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut all: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|credential| (text(&credential["name"]), text(&credential["subject"])))
            .collect();
        all.sort();
        all
    }

    /// The guide's loop, with the subjects that it means.
    fn guides_loop(&self, world: &World<'_>) {
        for component in ["scheduler", "triggerer", "worker"] {
            self.run(&format!(
                "identity federated-credential create --name airflow-{component} --identity-name {ns} -g data --issuer {issuer} --subject system:serviceaccount:{ns}:airflow-{component} --audiences {EXCHANGE_AUDIENCE}",
                ns = world.ns,
                issuer = world.lab.issuer(),
            ));
        }
    }
}

#[test]
fn what_the_operator_writes_az_lists_and_what_az_wrote_the_operator_recognises() {
    run(async {
        let world = World::new("guides-loop").await;
        let az = Az::signed_in(&world).await;
        let subjects: Vec<String> = all(&["scheduler", "triggerer", "worker"])
            .iter()
            .map(|account| format!("system:serviceaccount:guides-loop:{account}"))
            .collect();
        let by_guide: Vec<_> = all(&["scheduler", "triggerer", "worker"])
            .into_iter()
            .zip(subjects.clone())
            .collect();

        // What the guide made is used, and nothing is added.
        az.guides_loop(&world);
        world
            .ready(json!({ "federation": { "credentialName": "airflow" } }))
            .await;
        assert_eq!(az.list(&world), by_guide);
        assert!(world.records("prod").await.is_empty(), "it is not ours");
        world.delete("prod").await;
        world.until_gone("prod").await;
        assert_eq!(az.list(&world), by_guide, "and it stays");

        // What the operator makes under the guide's names is what the guide would have made.
        for (name, _) in &by_guide {
            az.run(&format!(
                "identity federated-credential delete --name {name} --identity-name guides-loop -g data --yes"
            ));
        }
        world
            .ready(json!({ "federation": { "credentialName": "airflow" } }))
            .await;
        assert_eq!(az.list(&world), by_guide);
        az.guides_loop(&world);
        assert_eq!(az.list(&world), by_guide, "the loop changes nothing");
        world
            .ready(json!({ "federation": { "credentialName": "airflow", "deletionPolicy": "Retain" } }))
            .await;
        assert_eq!(
            az.list(&world),
            by_guide,
            "nor is anything to be done about it"
        );
    });
}

#[test]
fn the_commands_in_the_messages_work() {
    run(async {
        let world = World::new("commands").await;
        let az = Az::signed_in(&world).await;
        let azure = world.azure().await;
        let issuer = "https://elsewhere.example";
        azure
            .put_credential(&world.identity, "airflow-worker", issuer, "theirs")
            .await
            .unwrap();
        world
            .prod(json!({ "federation": { "credentialName": "airflow" } }))
            .await;
        let message = world
            .until("prod", "CredentialsFederated", "False", "Conflict")
            .await;
        let command = message
            .split("az ")
            .nth(1)
            .unwrap_or_else(|| panic!("{message}"))
            .lines()
            .next()
            .unwrap();
        az.run(&format!("{command} --yes"));
        world
            .eventually("the object looks again", async || {
                world
                    .kubectl("annotate awi prod --overwrite look-again=now")
                    .await
                    .ok()?;
                world
                    .get("prod")
                    .await?
                    .status?
                    .conditions
                    .iter()
                    .find(|c| c.type_ == "Ready" && c.status == "True")
                    .map(drop)
            })
            .await;
    });
}
