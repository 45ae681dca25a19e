//! The real Azure workload identity webhook: its Helm chart in the cluster, and its program outside, as no container
//! runs.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::mem;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::binaries::{module_of_tool, tool};
use crate::control_plane::{START_LIMIT, flag};
use crate::identities::{EXCHANGE_AUDIENCE, TENANT_ID};
use crate::lab::Lab;
use crate::process::Process;
use crate::reaper::{Entry, Reaper};

const RELEASE: &str = "workload-identity-webhook";
const NAMESPACE: &str = "azure-workload-identity-system";
const SERVICE_ACCOUNT: &str = "azure-wi-webhook-admin";
const CONFIGURATION: &str = "azure-wi-webhook-mutating-webhook-configuration";

/// It listens there always, on all addresses.
const PORT: u16 = 9443;
const URL: &str = "https://127.0.0.1:9443/mutate-v1-pod";
/// For other labs of this machine to end theirs.
const PORT_LIMIT: Duration = Duration::from_secs(2 * 60);
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// The webhook at work; when it is dropped, its configuration is deleted and its program ends.
pub struct AzureWebhook {
    cluster: Cluster,
    is_configured: bool,
    // In the order in which they end.
    _process: Process,
    _port: File,
}

/// What it takes to delete the configuration, also without a lab and in a destructor.
struct Cluster {
    reaper: Arc<Reaper>,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Lab {
    /// Installs the webhook, and returns when pods that are labelled `azure.workload.identity/use: "true"` pass
    /// through it, but for those of namespaces with a label `lab/without-webhook`.
    ///
    /// There is one on a machine at a time: it waits up to 2 minutes for that of another lab to end.
    pub async fn start_azure_webhook(&self) -> Result<AzureWebhook> {
        let program = tool("webhook")?;
        let port = take_port().await?;
        self.install_chart().await?;

        let certificates = self.scratch().join("webhook-certificates");
        let serving = self.authority.serving("azure-wi-webhook")?;
        fs::create_dir_all(&certificates)?;
        fs::copy(serving.public, certificates.join("tls.crt"))?;
        fs::copy(serving.private, certificates.join("tls.key"))?;

        let mut command = self.reaper.command(program)?;
        command
            .arg(flag("webhook-cert-dir", certificates.display()))
            .arg(flag("audience", EXCHANGE_AUDIENCE))
            .args(["--disable-cert-rotation", "--log-level=info"])
            .args(["--health-addr=0", "--metrics-addr=0"])
            .env(
                "KUBECONFIG",
                self.kubeconfig_of(NAMESPACE, SERVICE_ACCOUNT).await?,
            )
            .env("POD_NAMESPACE", NAMESPACE)
            .env("AZURE_ENVIRONMENT", "AzurePublicCloud")
            .env("AZURE_TENANT_ID", TENANT_ID);
        let mut process = Process::start(&self.reaper, "azure-wi-webhook", command)?;

        self.point_to_program().await?;
        // The API server takes a moment to see the configuration, too.
        let pods = Api::namespaced(self.client().await?, NAMESPACE);
        process
            .wait_for(START_LIMIT, || async {
                is_injected(&pods).await.ok()?.then_some(())
            })
            .await?;
        Ok(AzureWebhook {
            cluster: Cluster {
                reaper: Arc::clone(&self.reaper),
                kubectl: self.binaries().join("kubectl"),
                kubeconfig: self.kubeconfig().to_owned(),
                cache: self.kubectl_cache(),
            },
            is_configured: true,
            _process: process,
            _port: port,
        })
    }

    async fn install_chart(&self) -> Result<()> {
        let module = module_of_tool("webhook", "github.com/Azure/azure-workload-identity")?;
        let chart = module.join("charts/workload-identity-webhook");
        let values = self.scratch().join("webhook-values.json");
        let selector = json!([{"key": "lab/without-webhook", "operator": "DoesNotExist"}]);
        let of_chart = json!({
            "azureTenantID": TENANT_ID,
            "mutatingWebhookNamespaceSelector": {"matchExpressions": selector},
        });
        fs::write(&values, of_chart.to_string())?;
        let [chart, values] = [&chart, &values].map(|path| path.display().to_string());
        let namespace = ["--namespace", NAMESPACE, "--create-namespace"];
        // There may be one whose program was stopped.
        let mut args = vec!["upgrade", "--install", RELEASE, &chart, "--values", &values];
        args.extend(namespace);
        self.helm(&args).await?;
        Ok(())
    }

    /// The chart names a Service, which leads nowhere: its pods are not real.
    async fn point_to_program(&self) -> Result<()> {
        let ca = STANDARD.encode(fs::read(self.authority.certificate())?);
        let patch = json!([{
            "op": "replace",
            "path": "/webhooks/0/clientConfig",
            "value": {"url": URL, "caBundle": ca},
        }]);
        let patch = patch.to_string();
        let kind = "mutatingwebhookconfiguration";
        self.kubectl(&[
            "patch",
            kind,
            CONFIGURATION,
            "--type=json",
            "--patch",
            &patch,
        ])
        .await?;
        Ok(())
    }
}

impl AzureWebhook {
    /// Deletes the configuration and ends the program, so that pods start without it. What else the chart installed
    /// stays.
    pub fn stop(mut self) -> Result<()> {
        self.delete_configuration()
    }

    fn delete_configuration(&mut self) -> Result<()> {
        if !mem::take(&mut self.is_configured) {
            return Ok(());
        }
        self.cluster.delete_configuration()
    }
}

impl Drop for AzureWebhook {
    fn drop(&mut self) {
        // It fails only if the API server is down, whose objects nobody will miss.
        let _ = self.delete_configuration();
    }
}

impl Cluster {
    fn delete_configuration(&self) -> Result<()> {
        let mut command = self.reaper.command(&self.kubectl)?;
        let child = command
            .args(["delete", "mutatingwebhookconfiguration", CONFIGURATION])
            .args(["--ignore-not-found", "--request-timeout=60s"])
            .arg(flag("kubeconfig", self.kubeconfig.display()))
            .arg(flag("cache-dir", self.cache.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let _entry = Entry::new(&self.reaper, child.id());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot delete the MutatingWebhookConfiguration {CONFIGURATION}: {said}"
        );
        Ok(())
    }
}

/// Whether a pod would come out with variables.
async fn is_injected(pods: &Api<Pod>) -> Result<bool> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "lab", "labels": {"azure.workload.identity/use": "true"}},
        "spec": {
            "serviceAccountName": SERVICE_ACCOUNT,
            "containers": [{"name": "lab", "image": "lab"}],
        },
    }))?;
    let admitted = pods.create(&dry_run, &pod).await?;
    let containers = admitted.spec.map(|spec| spec.containers);
    Ok(containers
        .iter()
        .flatten()
        .any(|container| container.env.is_some()))
}

/// Waits until the port is free; as long as the file is open, other labs do not take it.
async fn take_port() -> Result<File> {
    let path = env::temp_dir().join("awi-lab-webhook.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let taking = async {
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::WouldBlock => sleep(PROBE_INTERVAL).await,
                TryLockError::Error(error) => return Err(error),
            }
        }
        // A lab that was killed lets go of the file first.
        while let Err(error) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            sleep(PROBE_INTERVAL).await;
        }
        Ok(())
    };
    timeout(PORT_LIMIT, taking).await.with_context(|| {
        format!("port {PORT}, which the Azure webhook needs, is still taken after {PORT_LIMIT:?}. A demo that was left running? `make demo-stop` ends it. Else `ss -tlnp 'sport = :{PORT}'` says by what")
    })??;
    Ok(file)
}
