//! A demo that lives on in the background, until `demo stop`.
//!
//! Its folder is target/demo: `env` is for the user to source, and the demo ends when that file is removed; `lock`
//! is locked for as long as it lives, which no crash and no reboot can fake.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::identities::{ADMIN, AIRFLOW};
use lab::{Lab, Operator, repository, workspace_binary};

use crate::Around;
use crate::screen::Screen;

const STOP_LIMIT: Duration = Duration::from_secs(20);

const SUGGESTIONS: &str = r"
  source target/demo/env
  awi doctor -n airflow                                                  # all of it, looked at
  kubectl get awi -n airflow -w
  kubectl get pods -n airflow -o yaml | less                             # as they were admitted
  kubectl delete secret prod-airflow-connections -n airflow              # comes back
  kubectl annotate sa airflow-worker -n airflow azure.workload.identity/client-id=wrong --overwrite
  arm GET $AIRFLOW_IDENTITY/federatedIdentityCredentials                 # as Azure lists them
  arm DELETE $AIRFLOW_IDENTITY/federatedIdentityCredentials/<name>       # comes back within 10 s
  kubectl delete azureidentitygrant --all                                # and see what Ready says
  kubectl apply -f deploy/samples/grant.yaml                             # and all is well again
  kubectl delete awi prod -n airflow                                     # Azure is cleaned up, too
  curl -s --cacert $SSL_CERT_FILE $AZURE_EMULATOR_URL/admin/state        # all that Azure has
  tail -f $AWI_LOG                                                       # what the operator says

make demo-stop ends it.";

pub(crate) struct Kept {
    lock: File,
}

fn folder() -> PathBuf {
    repository().join("target/demo")
}

/// Whether one is running.
fn is_running() -> Result<bool> {
    let Ok(lock) = File::open(folder().join("lock")) else {
        return Ok(false);
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

pub(crate) fn ensure_none() -> Result<()> {
    ensure!(
        !is_running()?,
        "a demo is running already: `source target/demo/env` to use it, `make demo-stop` to end it"
    );
    Ok(())
}

pub(crate) async fn stop() -> Result<()> {
    if !is_running()? {
        println!("No demo is running.");
        return Ok(());
    }
    fs::remove_file(folder().join("env"))?;
    let start = Instant::now();
    while folder().exists() {
        if start.elapsed() > STOP_LIMIT {
            bail!("the demo has not ended after {STOP_LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("The demo has ended.");
    Ok(())
}

impl Kept {
    /// Claims the folder, which vanishes with the lab.
    pub(crate) fn prepare(lab: &Lab) -> Result<Self> {
        fs::create_dir_all(folder())?;
        let lock = File::create(folder().join("lock"))?;
        lock.try_lock().context("another demo is just starting")?;
        lab.remove_at_end(&folder())?;
        Ok(Self { lock })
    }

    pub(crate) async fn leave_running(
        self,
        lab: Lab,
        operator: Operator,
        around: Around,
        screen: &Screen,
    ) -> Result<()> {
        let env = folder().join("env");
        let token = lab.scratch().join("azure-admin.token");
        fs::write(&token, lab.mint_azure_admin_token().await?)?;
        fs::write(&env, environment(&lab, &operator, &token)?)?;
        lab.live_on_while_exists((operator, around), &env, self.lock)?;
        screen.heading("It is still running. To try it:");
        println!("{}", SUGGESTIONS.trim_start_matches('\n'));
        Ok(())
    }
}

/// Azure as an administrator has it: `arm GET|PUT|DELETE <resource ID> [more for curl]`.
const ARM: &str = r#"
arm() {
  local token
  token=$(curl -sS "$AZURE_AUTHORITY_HOST/$AZURE_TENANT_ID/oauth2/v2.0/token" --cacert "$SSL_CERT_FILE" \
    -d grant_type=client_credentials -d client_id="$AZURE_CLIENT_ID" -d scope="$AZURE_EMULATOR_URL/.default" \
    -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
    --data-urlencode client_assertion@"$AZURE_FEDERATED_TOKEN_FILE" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -sS "$AZURE_EMULATOR_URL$2?api-version=2024-11-30" --cacert "$SSL_CERT_FILE" -X "$1" \
    -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "${@:3}"
}
"#;

fn environment(lab: &Lab, operator: &Operator, azure_token: &Path) -> Result<String> {
    let awi = workspace_binary("awi", "AWI_BIN")?;
    let ca = lab.emulator().ca_path().display();
    let url = lab.emulator().url();
    Ok(format!(
        "export KUBECONFIG='{}'\n\
         export KUBECACHEDIR='{}'\n\
         export PATH='{}':\"$PATH\"\n\
         export AZURE_EMULATOR_URL='{url}'\n\
         export AZURE_AUTHORITY_HOST='{url}'\n\
         export REQUESTS_CA_BUNDLE='{ca}'\n\
         export SSL_CERT_FILE='{ca}'\n\
         export AZURE_CLIENT_ID='{}'\n\
         export AZURE_TENANT_ID='{}'\n\
         export AZURE_FEDERATED_TOKEN_FILE='{}'\n\
         export AIRFLOW_IDENTITY='{}'\n\
         export AWI_LOG='{}'\n\
         export AWI_CLOUD=custom\n\
         export AWI_AZURE_ENDPOINT='{url}'\n\
         export AWI_AZURE_AUTHORITY='{url}'\n\
         export AWI_AZURE_AUDIENCE='{url}'\n\
         export AWI_EXTRA_CA='{ca}'\n\
         export AWI_AZURE_CREDENTIAL=workload-identity\n\
         awi() {{ '{}' \"$@\"; }}\n{ARM}",
        lab.kubeconfig().display(),
        lab.kubectl_cache().display(),
        lab.binaries().display(),
        ADMIN.client_id,
        lab.emulator().tenant_id(),
        azure_token.display(),
        AIRFLOW.resource_id(),
        operator.log_path().display(),
        awi.display(),
    ))
}
