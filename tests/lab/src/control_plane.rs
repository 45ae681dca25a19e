//! The real control plane: etcd, kube-apiserver and kube-controller-manager.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{self, Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::sync::Mutex;

use crate::audit::{self, AuditEntry};
use crate::binaries::Binaries;
use crate::http;
use crate::kubeconfig;
use crate::lab::LabOptions;
use crate::pki::{self, Authority, KeyFiles};
use crate::process::Process;
use crate::reaper::Reaper;

/// Long, for a machine that does many things at once.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(90);

/// What it and its certificate are called.
pub(crate) const APISERVER: &str = "kube-apiserver";

pub(crate) struct ControlPlane {
    reaper: Arc<Reaper>,
    binaries: Binaries,
    files: Files,
    ports: Ports,
    // In the order in which they end.
    controllers: Option<Process>,
    apiserver: Mutex<Option<Process>>,
    apiserver_args: Vec<String>,
    etcd: Mutex<Option<Process>>,
}

struct Files {
    ca: PathBuf,
    serving: KeyFiles,
    tokens: KeyFiles,
    kubeconfig: PathBuf,
    controllers_kubeconfig: PathBuf,
    audit_policy: PathBuf,
    audit_log: PathBuf,
}

impl ControlPlane {
    /// Starts etcd and the API server.
    pub(crate) async fn start(
        reaper: &Arc<Reaper>,
        binaries: &Binaries,
        authority: &Authority,
        options: &LabOptions,
    ) -> Result<Self> {
        let ports = Ports::choose()?;
        let policy = if options.audits_no_bodies {
            include_str!("audit-policy-without-bodies.yaml")
        } else {
            include_str!("audit-policy.yaml")
        };
        let files = Files::write(reaper.scratch(), authority, &ports.server(), policy)?;
        let control_plane = Self {
            reaper: Arc::clone(reaper),
            binaries: binaries.clone(),
            controllers: None,
            apiserver: Mutex::new(None),
            apiserver_args: options.apiserver_args.clone(),
            etcd: Mutex::new(Some(start_etcd(reaper, binaries, &ports)?)),
            files,
            ports,
        };
        control_plane.start_apiserver().await?;
        Ok(control_plane)
    }

    /// Starts the controllers: after the CRDs are there, or the garbage collector would learn of them up to
    /// 30 seconds late.
    pub(crate) async fn start_controllers(&mut self) -> Result<()> {
        let files = &self.files;
        let mut command = self
            .reaper
            .command(&self.binaries.kube_controller_manager)?;
        command
            .arg(flag("kubeconfig", files.controllers_kubeconfig.display()))
            .arg(flag(
                "service-account-private-key-file",
                files.tokens.private.display(),
            ))
            .arg(flag("root-ca-file", files.ca.display()))
            .arg(flag("controllers", CONTROLLERS.join(",")))
            .args(["--leader-elect=false", "--secure-port=0"]);
        let mut controllers = Process::start(&self.reaper, "kube-controller-manager", command)?;

        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        controllers
            .wait_for(START_LIMIT, || async {
                accounts.get_opt("default").await.ok().flatten()
            })
            .await?;
        self.controllers = Some(controllers);
        Ok(())
    }

    /// Starts the API server again, with the same port and data.
    pub(crate) async fn start_apiserver(&self) -> Result<()> {
        let Files {
            ca,
            serving,
            tokens,
            audit_policy,
            audit_log,
            ..
        } = &self.files;
        let mut command = self.reaper.command(&self.binaries.kube_apiserver)?;
        command
            .arg(flag("etcd-servers", url("http", self.ports.etcd)))
            .arg(flag("secure-port", self.ports.apiserver))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            // There is no other address to publish, and none is needed without pods.
            .arg("--endpoint-reconciler-type=none")
            .arg(flag("tls-cert-file", serving.public.display()))
            .arg(flag("tls-private-key-file", serving.private.display()))
            .arg(flag("client-ca-file", ca.display()))
            .args([
                "--service-cluster-ip-range=10.0.0.0/24",
                "--authorization-mode=RBAC",
            ])
            .arg(flag("service-account-issuer", self.issuer()))
            // Otherwise the discovery document points to an outer address of the machine.
            .arg(flag(
                "service-account-jwks-uri",
                format!("{}openid/v1/jwks", self.issuer()),
            ))
            .arg(flag("service-account-key-file", tokens.public.display()))
            .arg(flag(
                "service-account-signing-key-file",
                tokens.private.display(),
            ))
            .arg(flag("api-audiences", self.issuer()))
            .arg("--allow-privileged=true")
            .arg(flag("audit-policy-file", audit_policy.display()))
            .arg(flag("audit-log-path", audit_log.display()))
            // By default it begins another file after 100 MB.
            .arg("--audit-log-maxsize=100000")
            .args(&self.apiserver_args);
        let mut apiserver = Process::start(&self.reaper, APISERVER, command)?;

        self.until_ready(&mut apiserver).await?;
        *self.apiserver.lock().await = Some(apiserver);
        Ok(())
    }

    async fn until_ready(&self, apiserver: &mut Process) -> Result<()> {
        let http = http::client(&self.files.ca)?;
        let ready = format!("{}/readyz", self.ports.server());
        apiserver
            .wait_for(START_LIMIT, || async {
                let answer = http.get(&ready).send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await
    }

    /// Ends the API server at once, as an outage does.
    pub(crate) async fn stop_apiserver(&self) {
        *self.apiserver.lock().await = None;
    }

    /// Ends etcd at once; the API server goes on without it.
    pub(crate) async fn stop_etcd(&self) {
        *self.etcd.lock().await = None;
    }

    /// Starts it again, with the same port and data, and waits until the API server has found it.
    pub(crate) async fn start_etcd(&self) -> Result<()> {
        let etcd = start_etcd(&self.reaper, &self.binaries, &self.ports)?;
        *self.etcd.lock().await = Some(etcd);
        match self.apiserver.lock().await.as_mut() {
            Some(apiserver) => self.until_ready(apiserver).await,
            None => Ok(()),
        }
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.files.kubeconfig
    }

    pub(crate) fn server(&self) -> String {
        self.ports.server()
    }

    /// With a trailing slash, as AKS has it.
    pub(crate) fn issuer(&self) -> String {
        format!("{}/", self.ports.server())
    }

    /// A client of the current runtime, which the caller's tests may not share with others.
    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.files.kubeconfig)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    pub(crate) fn audit_log_path(&self) -> &Path {
        &self.files.audit_log
    }

    pub(crate) fn audit_log(&self) -> Result<Vec<AuditEntry>> {
        let path = &self.files.audit_log;
        let log =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        audit::parse_audit_log(&log)
    }
}

/// Those that act on what the tests make; the others would only cost.
const CONTROLLERS: [&str; 9] = [
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
];

impl Files {
    fn write(folder: &Path, authority: &Authority, server: &str, policy: &str) -> Result<Self> {
        let ca = authority.certificate();
        let user_kubeconfig = |name: &str, user: &str| {
            kubeconfig::cluster_admin(folder, name, server, authority, user)
        };
        let audit_policy = folder.join("audit-policy.yaml");
        fs::write(&audit_policy, policy)?;
        Ok(Self {
            ca: ca.to_owned(),
            serving: authority.serving(APISERVER)?,
            tokens: pki::service_account_key(folder)?,
            kubeconfig: user_kubeconfig("admin", "admin")?,
            controllers_kubeconfig: user_kubeconfig(
                "controllers",
                "system:kube-controller-manager",
            )?,
            audit_policy,
            audit_log: audit_log(folder)?,
        })
    }
}

/// In the folder that `$LAB_AUDIT_LOGS` names, the log of a lab outlives it.
fn audit_log(scratch: &Path) -> Result<PathBuf> {
    let Some(folder) = env::var_os("LAB_AUDIT_LOGS").map(PathBuf::from) else {
        return Ok(scratch.join("audit.log"));
    };
    fs::create_dir_all(&folder)?;
    let lab = scratch.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!("{lab}.log")))
}

struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
}

impl Ports {
    fn choose() -> Result<Self> {
        Ok(Self {
            etcd: free_port()?,
            etcd_peer: free_port()?,
            apiserver: free_port()?,
        })
    }

    fn server(&self) -> String {
        url("https", self.apiserver)
    }
}

/// Those that a lab of this process has or had: it binds them later, and perhaps again.
static GIVEN: sync::Mutex<BTreeSet<u16>> = sync::Mutex::new(BTreeSet::new());

/// A port that nobody has, and that nobody's connection takes until it is bound: those get theirs from 32768 on.
/// <https://docs.kernel.org/networking/ip-sysctl.html#ip-variables>
fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let any = || RandomState::new().build_hasher().finish() % 20_000;
    let mut tried = (0..100).filter_map(|_| u16::try_from(10_000 + any()).ok());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let found = tried.find(|port| given.insert(*port) && is_free(port));
    found.context("no port between 10000 and 30000 is free")
}

fn start_etcd(reaper: &Arc<Reaper>, binaries: &Binaries, ports: &Ports) -> Result<Process> {
    let (client, peer) = (url("http", ports.etcd), url("http", ports.etcd_peer));
    let mut command = reaper.command(&binaries.etcd)?;
    command
        .arg(flag("data-dir", reaper.scratch().join("etcd").display()))
        .arg(flag("listen-client-urls", &client))
        .arg(flag("advertise-client-urls", &client))
        .arg(flag("listen-peer-urls", &peer))
        .arg(flag("initial-advertise-peer-urls", &peer))
        .arg(flag("initial-cluster", format!("default={peer}")))
        .args(["--unsafe-no-fsync", "--log-level=error"]);
    Process::start(reaper, "etcd", command)
}

fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}")
}

pub(crate) fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
