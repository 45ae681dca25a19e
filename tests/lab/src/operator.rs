//! The operator as a child process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::EnvVar;

use tokio::time::{sleep, timeout};

use crate::control_plane::START_LIMIT;
use crate::emulator::Emulator;
use crate::identities::{OPERATOR, TENANT_ID};
use crate::kubeconfig;
use crate::outputs::{self, keep_output, without_traces};
use crate::process::{Process, tail};
use crate::proxy::Proxy;
use crate::reaper::Reaper;

/// Namespace and name, as in deploy/.
pub(crate) const SERVICE_ACCOUNT: (&str, &str) =
    ("airflow-workload-identity", "airflow-workload-identity");

const PROBE_INTERVAL: Duration = Duration::from_millis(50);
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// How to run the operator.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// How often it looks at Azure without a reason.
    pub resync: String,
    /// Where it finds the API server, if not where it is.
    pub api_server: Option<String>,
    /// Where it finds Azure, if not where it is.
    pub azure: Option<String>,
    /// All the names that it can resolve, as in `/etc/hosts`; the file may change while it runs.
    pub hosts: Option<PathBuf>,
    pub extra_args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            resync: "5m".to_owned(),
            api_server: None,
            azure: None,
            hosts: None,
            extra_args: Vec::new(),
            env: Vec::new(),
        }
    }
}

impl OperatorOptions {
    /// With a proxy between it and both APIs.
    #[must_use]
    pub fn through(self, proxy: &Proxy) -> Self {
        Self {
            api_server: Some(proxy.cluster_url().to_owned()),
            azure: Some(proxy.azure_url().to_owned()),
            ..self
        }
    }
}

/// A running `awi run`; killed when dropped.
pub struct Operator {
    process: Process,
    /// It logs more than was asked for.
    is_traced: bool,
    http: reqwest::Client,
    /// Namespace and name.
    account: (String, String),
    token_files: TokenFiles,
}

/// Where its tokens are, as the kubelet mounts them.
struct TokenFiles {
    kubernetes: PathBuf,
    exchange: PathBuf,
}

/// How `awi` is called, and as whom.
pub(crate) struct Launch {
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) api_server: String,
    pub(crate) hosts: Option<PathBuf>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

impl Launch {
    /// As tests and the demo want it.
    pub(crate) fn of_options(options: OperatorOptions, emulator: &Emulator, server: &str) -> Self {
        let url = options.azure.as_deref().unwrap_or(emulator.url());
        let ca = emulator.ca_path().display().to_string();
        let args = [
            "run",
            "--cloud=custom",
            "--http-address=127.0.0.1:0",
            &format!("--resync={}", options.resync),
            &format!("--azure-endpoint={url}"),
            &format!("--azure-audience={url}"),
            &format!("--azure-authority={url}"),
            &format!("--azure-graph-endpoint={url}"),
            &format!("--extra-ca={ca}"),
        ];
        let mut env = vec![
            ("POD_NAMESPACE".to_owned(), SERVICE_ACCOUNT.0.to_owned()),
            ("AZURE_AUTHORITY_HOST".to_owned(), url.to_owned()),
        ];
        env.extend(options.env);
        Self {
            namespace: SERVICE_ACCOUNT.0.to_owned(),
            account: SERVICE_ACCOUNT.1.to_owned(),
            api_server: options.api_server.unwrap_or_else(|| server.to_owned()),
            hosts: options.hosts,
            args: args
                .map(str::to_owned)
                .into_iter()
                .chain(options.extra_args)
                .collect(),
            env,
        }
    }

    /// As a pod of a Deployment would be started; but for a port that is free and a file that is
    /// here.
    pub(crate) fn of_deployment(
        deployment: &Deployment,
        pod: &str,
        emulator: &Emulator,
        server: &str,
    ) -> Result<Self> {
        let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let spec = template.and_then(|template| template.spec.as_ref());
        let container = spec.and_then(|spec| spec.containers.first());
        let (spec, container) = spec.zip(container).context("a Deployment without a pod")?;
        let ca = format!("--extra-ca={}", emulator.ca_path().display());
        let here = |arg: &String| match arg.split_once('=') {
            Some(("--http-address", _)) => "--http-address=127.0.0.1:0".to_owned(),
            Some(("--extra-ca", _)) => ca.clone(),
            _ => arg.clone(),
        };
        let value = |var: &EnvVar| {
            let source = var.value_from.as_ref()?.field_ref.as_ref()?;
            match source.field_path.as_str() {
                "metadata.name" => Some(pod.to_owned()),
                "metadata.namespace" => Some(namespace.clone()),
                _ => None,
            }
        };
        let env = container.env.iter().flatten().map(|var| {
            let value = var.value.clone().or_else(|| value(var));
            Ok((
                var.name.clone(),
                value.with_context(|| format!("variable {}", var.name))?,
            ))
        });
        Ok(Self {
            args: container.args.iter().flatten().map(here).collect(),
            env: env.collect::<Result<_>>()?,
            account: spec.service_account_name.clone().unwrap_or_default(),
            api_server: server.to_owned(),
            hosts: None,
            namespace,
        })
    }
}

pub(crate) struct Tokens {
    /// For the API server.
    pub(crate) kubernetes: String,
    /// For Entra.
    pub(crate) exchange: String,
}

impl TokenFiles {
    fn write(&self, tokens: &Tokens) -> Result<()> {
        fs::write(&self.kubernetes, &tokens.kubernetes)?;
        fs::write(&self.exchange, &tokens.exchange)?;
        Ok(())
    }
}

impl Operator {
    pub(crate) fn start(
        reaper: &Arc<Reaper>,
        emulator: &Emulator,
        name: &str,
        awi: &Path,
        tokens: &Tokens,
        launch: Launch,
    ) -> Result<Self> {
        let file = |suffix: &str| reaper.scratch().join(format!("{name}.{suffix}"));
        let token_files = TokenFiles {
            kubernetes: file("kubernetes-token"),
            exchange: file("exchange-token"),
        };
        token_files.write(tokens)?;
        let user = kubeconfig::token_file_user(&token_files.kubernetes);
        let kubeconfig = kubeconfig::write(
            file("kubeconfig"),
            &launch.api_server,
            emulator.ca_path(),
            &user,
        )?;

        let mut command = match &launch.hosts {
            Some(hosts) => with_names_of(hosts, reaper, awi)?,
            None => reaper.command(awi)?,
        };
        command
            .args(launch.args)
            .env("KUBECONFIG", kubeconfig)
            .env("AZURE_CLIENT_ID", OPERATOR.client_id)
            .env("AZURE_TENANT_ID", TENANT_ID)
            .env("AZURE_FEDERATED_TOKEN_FILE", &token_files.exchange)
            .env("AZURE_AUTHORITY_HOST", emulator.url())
            .env("NO_PROXY", "127.0.0.1")
            .envs(launch.env.clone());
        let is_asked = |(name, value): &(String, String)| name == "RUST_LOG" && !value.is_empty();
        let is_traced = outputs::outlives(reaper.scratch(), &format!("{name}.log"))?;
        if is_traced {
            command.env("RUST_LOG", "trace");
        }
        Ok(Self {
            is_traced: is_traced && !launch.env.iter().any(is_asked),
            process: Process::start(reaper, name, command)?,
            http: reqwest::Client::builder().no_proxy().build()?,
            account: (launch.namespace, launch.account),
            token_files,
        })
    }

    pub(crate) fn account(&self) -> (&str, &str) {
        (&self.account.0, &self.account.1)
    }

    /// Replaces the token by which it signs in to Azure.
    pub fn write_exchange_token(&self, token: &str) -> Result<()> {
        fs::write(&self.token_files.exchange, token)?;
        Ok(())
    }

    pub(crate) fn write_tokens(&self, tokens: &Tokens) -> Result<()> {
        self.token_files.write(tokens)
    }

    /// What it serves over HTTP: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("{}{path}", self.url().await?);
        let answer = self.http.get(url).send().await?;
        let (status, body) = (answer.status().as_u16(), answer.text().await?);
        keep_output("served", &body)?;
        Ok((status, body))
    }

    /// Where it serves, once it does.
    pub async fn url(&self) -> Result<String> {
        let port = async {
            loop {
                // In a line of text or of JSON.
                let log = self.log();
                let told = log.split_once("serving").and_then(|(_, told)| {
                    let (_, port) = told.split_once("127.0.0.1:")?;
                    port.split(|c: char| !c.is_ascii_digit()).next()
                });
                if let Some(port) = told {
                    return port.to_owned();
                }
                sleep(PROBE_INTERVAL).await;
            }
        };
        let port = timeout(START_LIMIT, port)
            .await
            .with_context(|| format!("it does not serve:\n{}", tail(&self.log(), 20)))?;
        Ok(format!("http://127.0.0.1:{port}"))
    }

    /// All that it has logged of what it was asked for.
    #[must_use]
    pub fn log(&self) -> String {
        let log = self.process.log();
        if self.is_traced {
            without_traces(&log)
        } else {
            log
        }
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

    /// The most memory that it has had at a time, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory_of("VmHWM:")
    }

    /// The memory that it has, in bytes.
    pub fn memory(&self) -> Result<u64> {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: u64 = kilobytes
            .with_context(|| format!("/proc without {field}"))?
            .parse()?;
        Ok(kilobytes * 1024)
    }

    /// The processor time that it has taken, in itself and in the kernel.
    /// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name, in parentheses, may hold spaces.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let [user, system] = fields.skip(11).take(2).collect::<Vec<_>>()[..] else {
            bail!("/proc without utime and stime");
        };
        let ticks: u64 = user.parse::<u64>()? + system.parse::<u64>()?;
        Ok(Duration::from_millis(
            ticks * 1000 / rustix::param::clock_ticks_per_second(),
        ))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A command that sees its own `/etc/hosts`, and asks nothing else for a name, whatever this machine asks. It takes
/// root, or user namespaces.
fn with_names_of(hosts: &Path, reaper: &Arc<Reaper>, program: &Path) -> Result<Command> {
    const BIND_THEN_EXEC: &str = r#"
        echo 'hosts: files' > "$0.order"
        mount --bind "$0" /etc/hosts && mount --bind "$0.order" /etc/nsswitch.conf && exec "$@""#;
    let mut command = reaper.command("unshare")?;
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "sh", "-c", BIND_THEN_EXEC])
        .arg(hosts)
        .arg(program);
    Ok(command)
}
