//! The operator as a child process.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::emulator::Emulator;
use crate::identities::{OPERATOR, TENANT_ID};
use crate::kubeconfig;
use crate::process::Process;
use crate::reaper::Reaper;

/// Namespace and name, as in deploy/.
pub(crate) const SERVICE_ACCOUNT: (&str, &str) =
    ("airflow-workload-identity", "airflow-workload-identity");

const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How to run the operator.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// How often it looks at Azure without a reason.
    pub resync: String,
    pub extra_args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            resync: "5m".to_owned(),
            extra_args: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A running `awi run`; killed when dropped.
pub struct Operator {
    process: Process,
}

pub(crate) struct Tokens {
    /// For the API server.
    pub(crate) kubernetes: String,
    /// For Entra.
    pub(crate) exchange: String,
}

impl Operator {
    pub(crate) fn start(
        reaper: &Arc<Reaper>,
        emulator: &Emulator,
        api_server: &str,
        name: &str,
        awi: &Path,
        tokens: &Tokens,
        options: OperatorOptions,
    ) -> Result<Self> {
        let file = |suffix: &str| reaper.scratch().join(format!("{name}.{suffix}"));
        let token_file = file("token");
        fs::write(&token_file, &tokens.exchange)?;
        let user = kubeconfig::token_user(&tokens.kubernetes);
        let kubeconfig =
            kubeconfig::write(file("kubeconfig"), api_server, emulator.ca_path(), &user)?;

        let url = emulator.url();
        let mut command = reaper.command(awi)?;
        command
            .args(["run", "--cloud", "custom", "--resync", &options.resync])
            .args([
                "--azure-endpoint",
                url,
                "--azure-audience",
                url,
                "--azure-authority",
                url,
                "--azure-graph-endpoint",
                url,
            ])
            .arg("--extra-ca")
            .arg(emulator.ca_path())
            .args(options.extra_args)
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAMESPACE", SERVICE_ACCOUNT.0)
            .env("AZURE_CLIENT_ID", OPERATOR.client_id)
            .env("AZURE_TENANT_ID", TENANT_ID)
            .env("AZURE_FEDERATED_TOKEN_FILE", token_file)
            .env("AZURE_AUTHORITY_HOST", url)
            .env("NO_PROXY", "127.0.0.1")
            .envs(options.env);
        Ok(Self {
            process: Process::start(reaper, name, command)?,
        })
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    #[must_use]
    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        self.process.ended().await
    }

    /// Asks it to end, as Kubernetes does, and waits for that.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(STOP_LIMIT).await
    }

    /// Stops it from running, as a node does that hangs; it does not notice.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
