//! The laboratory: a Kubernetes cluster and an Azure, each on the loopback interface.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Duration, Instant, sleep};

use crate::audit::AuditEntry;
use crate::azure::Azure;
use crate::binaries::{Binaries, repository, tool};
use crate::control_plane::{APISERVER, ControlPlane, START_LIMIT};
use crate::emulator::Emulator;
use crate::identities::{self, ADMIN, EXCHANGE_AUDIENCE};
use crate::kubeconfig;
use crate::operator::{self, Launch, Operator, OperatorOptions, Tokens};
use crate::pki::Authority;
use crate::reaper::{Entry, Reaper};

const ADMIN_NAMESPACE: &str = "default";
const ADMIN_ACCOUNT: &str = "lab-admin";
const TOKEN_SECONDS: i64 = 24 * 60 * 60;
/// Azure's own live for an hour.
const TOKEN_SERVES: Duration = Duration::from_secs(50 * 60);

/// What differs from a plain lab.
#[derive(Clone, Debug, Default)]
pub struct LabOptions {
    /// Flags of the emulator, such as `--throttle`.
    pub emulator_args: Vec<String>,
    /// Further flags of the API server, such as `--runtime-config`.
    pub apiserver_args: Vec<String>,
    /// The audit log tells who did what, and no bodies: it costs least.
    pub audits_no_bodies: bool,
    /// Leave it to the test to install the CRDs.
    pub without_crds: bool,
}

/// Everything in it ends when it is dropped, or when the process that holds it ends in any way.
pub struct Lab {
    // In the order in which they end.
    control_plane: ControlPlane,
    emulator: Emulator,
    issuer: String,
    binaries: Binaries,
    azure_token: Mutex<Option<(Instant, String)>>,
    operators: AtomicUsize,
    /// Those of the operators that tests start.
    rights: OnceCell<()>,
    pub(crate) authority: Authority,
    pub(crate) reaper: Arc<Reaper>,
}

impl Lab {
    /// Starts the control plane, with the CRDs of this repository, and the emulator.
    pub async fn start(options: LabOptions) -> Result<Self> {
        let reaper = Reaper::start()?;
        let binaries = Binaries::build(&reaper).await?;
        let authority = Authority::create(reaper.scratch())?;
        let control_plane = ControlPlane::start(&reaper, &binaries, &authority, &options).await?;
        let issuer = control_plane.issuer();
        let seed = identities::seed(
            &issuer,
            operator::SERVICE_ACCOUNT,
            (ADMIN_NAMESPACE, ADMIN_ACCOUNT),
        );
        let emulator = Emulator::start(&reaper, &authority, &seed, &options.emulator_args).await?;

        let mut lab = Self {
            control_plane,
            emulator,
            issuer,
            binaries,
            azure_token: Mutex::default(),
            operators: AtomicUsize::new(0),
            rights: OnceCell::new(),
            authority,
            reaper,
        };
        if !options.without_crds {
            lab.install_crds().await?;
        }
        lab.control_plane.start_controllers().await?;
        lab.install_own_objects().await?;
        Ok(lab)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// The API server's URL.
    #[must_use]
    pub fn api_server(&self) -> String {
        self.control_plane.server()
    }

    /// The folder with kubectl.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        self.binaries.folder()
    }

    /// Where kubectl keeps what it learns of the API server, instead of in the home folder.
    #[must_use]
    pub fn kubectl_cache(&self) -> PathBuf {
        self.scratch().join("kubectl")
    }

    /// A folder for whatever should vanish with the lab.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.reaper.scratch()
    }

    /// The administrator's client, for the current runtime.
    pub async fn client(&self) -> Result<Client> {
        self.control_plane.client().await
    }

    /// Runs the real kubectl as the administrator, and returns what it prints.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run(&self.binaries.kubectl, args).await
    }

    /// Runs the real helm as the administrator, and returns what it prints.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.run(&tool("helm")?, args).await
    }

    async fn run(&self, program: &Path, args: &[&str]) -> Result<String> {
        let mut command = self.reaper.command(program)?;
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.kubectl_cache())
            .env("HELM_CACHE_HOME", self.scratch().join("helm"))
            .env("HELM_CONFIG_HOME", self.scratch().join("helm"))
            .env("HELM_DATA_HOME", self.scratch().join("helm"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let _entry = child.id().map(|id| Entry::new(&self.reaper, id));
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "{} {}: {}",
                program.display(),
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The cluster's token issuer, as it is in tokens: with a trailing slash, as on AKS.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token of a `ServiceAccount`, bound to no pod.
    pub async fn mint_token(
        &self,
        namespace: &str,
        service_account: &str,
        audience: &str,
    ) -> Result<String> {
        let spec = TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            ..TokenRequestSpec::default()
        };
        self.request_token(namespace, service_account, spec).await
    }

    /// A token of a `ServiceAccount` as the kubelet mounts it into a pod: its claims name the pod, and it ends with
    /// the pod. Fails if there is no such pod of that `ServiceAccount`.
    pub async fn mint_pod_token(
        &self,
        namespace: &str,
        service_account: &str,
        audience: &str,
        pod_name: &str,
        pod_uid: &str,
    ) -> Result<String> {
        let spec = TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod_name.to_owned()),
                uid: Some(pod_uid.to_owned()),
            }),
            ..TokenRequestSpec::default()
        };
        self.request_token(namespace, service_account, spec).await
    }

    /// A kubeconfig with the rights of a ServiceAccount.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self
            .request_token(namespace, account, TokenRequestSpec::default())
            .await?;
        let path = self
            .scratch()
            .join(format!("{namespace}-{account}.kubeconfig"));
        let user = kubeconfig::token_user(&token);
        let server = self.control_plane.server();
        kubeconfig::write(path, &server, self.emulator.ca_path(), &user)
    }

    /// A token that Azure takes for its administrator's, [`ADMIN`].
    pub async fn mint_azure_admin_token(&self) -> Result<String> {
        self.mint_token(ADMIN_NAMESPACE, ADMIN_ACCOUNT, EXCHANGE_AUDIENCE)
            .await
    }

    #[must_use]
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Azure behind the operator's back.
    pub async fn azure(&self) -> Result<Azure<'_>> {
        let mut known = self.azure_token.lock().await;
        let token = match &*known {
            Some((since, token)) if since.elapsed() < TOKEN_SERVES => token.clone(),
            _ => {
                let token = self.log_in_to_azure().await?;
                *known = Some((Instant::now(), token.clone()));
                token
            }
        };
        Ok(Azure::new(&self.emulator, token))
    }

    /// Starts `awi run` with the identity and the rights that an installation gives it.
    pub async fn start_operator(&self, awi: &Path, options: OperatorOptions) -> Result<Operator> {
        self.rights
            .get_or_try_init(|| self.install_rights())
            .await?;
        let server = self.control_plane.server();
        let launch = Launch::of_options(options, &self.emulator, &server);
        self.launch(awi, &self.next_pod(), launch).await
    }

    /// Starts `awi` as a pod of a Deployment in this lab would, with its arguments and rights.
    pub async fn start_deployment(
        &self,
        awi: &Path,
        namespace: &str,
        name: &str,
    ) -> Result<Operator> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await?, namespace);
        let deployment = deployments.get(name).await?;
        let server = self.control_plane.server();
        let pod = self.next_pod();
        let launch = Launch::of_deployment(&deployment, &pod, &self.emulator, &server)?;
        self.launch(awi, &pod, launch).await
    }

    fn next_pod(&self) -> String {
        let number = self.operators.fetch_add(1, Ordering::Relaxed) + 1;
        format!("awi-{number}")
    }

    async fn launch(&self, awi: &Path, pod: &str, launch: Launch) -> Result<Operator> {
        let tokens = self.tokens_of(&launch.namespace, &launch.account).await?;
        Operator::start(&self.reaper, &self.emulator, pod, awi, &tokens, launch)
    }

    async fn tokens_of(&self, namespace: &str, account: &str) -> Result<Tokens> {
        Ok(Tokens {
            kubernetes: self
                .request_token(namespace, account, TokenRequestSpec::default())
                .await?,
            exchange: self
                .mint_token(namespace, account, EXCHANGE_AUDIENCE)
                .await?,
        })
    }

    /// Ends the API server at once, as an outage does.
    pub async fn stop_apiserver(&self) {
        self.control_plane.stop_apiserver().await;
    }

    /// Starts it again, with the same address and data.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.control_plane.start_apiserver().await
    }

    /// Ends etcd at once; the API server goes on without it.
    pub async fn stop_etcd(&self) {
        self.control_plane.stop_etcd().await;
    }

    /// Starts it again, with the same data, and waits until the API server has found it.
    pub async fn start_etcd(&self) -> Result<()> {
        self.control_plane.start_etcd().await
    }

    /// Gives the API server another certificate of the same authority, from its next start on.
    pub fn renew_certificate(&self) -> Result<()> {
        self.authority.serving(APISERVER)?;
        Ok(())
    }

    /// Replaces an operator's tokens, as the kubelet does before they expire.
    pub async fn renew_tokens(&self, operator: &Operator) -> Result<()> {
        let (namespace, account) = operator.account();
        let tokens = self.tokens_of(namespace, account).await?;
        operator.write_tokens(&tokens)
    }

    /// The requests that the API server has answered, but for those of the control plane itself.
    pub fn audit_log(&self) -> Result<Vec<AuditEntry>> {
        self.control_plane.audit_log()
    }

    /// The file that the API server writes it to.
    #[must_use]
    pub fn audit_log_path(&self) -> &Path {
        self.control_plane.audit_log_path()
    }

    /// Applies the manifests of a file or folder.
    pub async fn apply(&self, path: &Path) -> Result<String> {
        let path = path.to_str().context("a path that is not UTF-8")?;
        self.kubectl(&["apply", "--server-side", "--filename", path])
            .await
    }

    /// Waits until kubectl finds the kinds of all CRDs, for discovery is later than the CRDs. `kubectl wait` fails
    /// where a CRD has no conditions yet: <https://github.com/kubernetes/kubernetes/issues/66439>.
    pub async fn until_kinds_are_served(&self) -> Result<()> {
        let crds = self.kubectl(&["get", "crds", "--output=name"]).await?;
        let start = Instant::now();
        for crd in crds.lines() {
            let kind = crd.rsplit('/').next().unwrap_or_default();
            while let Err(error) = self.kubectl(&["get", kind, "--all-namespaces"]).await {
                if start.elapsed() > START_LIMIT {
                    return Err(error.context(format!("{kind}: not served in {START_LIMIT:?}")));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Has another folder removed when the lab ends.
    pub fn remove_at_end(&self, folder: &Path) -> Result<()> {
        self.reaper.remove_at_end(folder)
    }

    /// Lets the lab, and what runs in it, live on when this process ends, until `file` is removed; as long, a lock
    /// on `lock` is held.
    pub fn live_on_while_exists<T>(self, running: T, file: &Path, lock: File) -> Result<()> {
        self.reaper.hold_while_exists(file, lock)?;
        // Dropping them would end them.
        std::mem::forget(running);
        std::mem::forget(self);
        Ok(())
    }

    async fn install_crds(&self) -> Result<()> {
        let crds = repository().join("crds");
        let crds = crds.to_str().context("a path that is not UTF-8")?;
        self.kubectl(&["apply", "--server-side", "--kustomize", crds])
            .await?;
        self.until_kinds_are_served().await
    }

    async fn install_rights(&self) -> Result<()> {
        for manifest in [
            "base/namespace.yaml",
            "base/service-account.yaml",
            "base/rbac.yaml",
            "components/reader-role/role.yaml",
        ] {
            self.apply(&repository().join("deploy").join(manifest))
                .await?;
        }
        Ok(())
    }

    async fn install_own_objects(&self) -> Result<()> {
        let public_issuer = self.scratch().join("public-issuer.yaml");
        fs::write(&public_issuer, include_str!("public-issuer.yaml"))?;
        self.apply(&public_issuer).await?;
        self.kubectl(&[
            "create",
            "serviceaccount",
            ADMIN_ACCOUNT,
            "--namespace",
            ADMIN_NAMESPACE,
        ])
        .await?;
        Ok(())
    }

    async fn log_in_to_azure(&self) -> Result<String> {
        let assertion = self.mint_azure_admin_token().await?;
        let scope = format!("{}/.default", self.emulator.url());
        Ok(self
            .emulator
            .exchange(ADMIN.client_id, &assertion, &scope)
            .await?
            .access_token)
    }

    /// Without audiences it is a token for the API server.
    async fn request_token(
        &self,
        namespace: &str,
        service_account: &str,
        spec: TokenRequestSpec,
    ) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..spec
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .with_context(|| {
                format!("cannot get a token of ServiceAccount {namespace}/{service_account}")
            })?;
        Ok(answer
            .status
            .context("a TokenRequest without an answer")?
            .token)
    }
}
