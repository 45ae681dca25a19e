//! Where the programs are that a lab runs.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::reaper::Reaper;

/// The control plane's.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
    pub(crate) kube_controller_manager: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Binaries {
    /// Builds what is missing, and says so on stderr.
    pub(crate) async fn build(reaper: &Reaper) -> Result<Self> {
        let names = [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kubectl",
        ];
        let script = script();
        let output = tokio::process::Command::from(reaper.command(&script)?)
            .args(names)
            .stderr(Stdio::inherit())
            .output()
            .await
            .with_context(|| format!("cannot run {}", script.display()))?;
        let [etcd, kube_apiserver, kube_controller_manager, kubectl] = printed(&script, output)?;
        Ok(Self {
            etcd,
            kube_apiserver,
            kube_controller_manager,
            kubectl,
        })
    }

    /// The folder with kubectl.
    pub(crate) fn folder(&self) -> &Path {
        self.kubectl.parent().unwrap_or(&self.kubectl)
    }
}

/// Another program that the script of the control plane's knows, such as helm. It is built when missing, which
/// takes minutes and says so on stderr.
pub fn tool(name: &str) -> Result<PathBuf> {
    static KNOWN: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while the script runs, so that each program is asked for once.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = known.get(name) {
        return Ok(path.clone());
    }
    let script = script();
    let output = Command::new(&script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let [path] = printed(&script, output)?;
    known.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// The folder of a Go module, `<path>@<version>`: some hold files that tests read.
pub fn go_module(module: &str) -> Result<PathBuf> {
    downloaded(module, &env::temp_dir())
}

/// The folder of the Go module that a [`tool`] of the same version is built from.
pub(crate) fn module_of_tool(name: &str, module: &str) -> Result<PathBuf> {
    downloaded(module, &repository().join("tests/binaries").join(name))
}

fn downloaded(module: &str, asked_in: &Path) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Downloaded {
        dir: PathBuf,
    }
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(asked_in)
        .env("GOWORK", "off")
        .output()
        .context("cannot run go")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "cannot download the Go module {module}: {said}"
    );
    let downloaded: Downloaded = serde_json::from_str(&said)?;
    Ok(downloaded.dir)
}

fn script() -> PathBuf {
    repository().join("tests/binaries/build")
}

/// The paths that the script prints, in the order of the names that it is given.
fn printed<const N: usize>(script: &Path, output: Output) -> Result<[PathBuf; N]> {
    ensure!(
        output.status.success(),
        "{} failed: {}",
        script.display(),
        output.status
    );
    let paths: Vec<PathBuf> = String::from_utf8(output.stdout)?
        .lines()
        .map(PathBuf::from)
        .collect();
    match paths.try_into() {
        Ok(paths) => Ok(paths),
        Err(paths) => bail!("{} printed {paths:?}", script.display()),
    }
}

/// The folder of the clone.
#[must_use]
pub fn repository() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.ancestors().nth(2).unwrap_or(lab).to_owned()
}

/// A program of this workspace: at `$variable`, or where cargo built it beside the one that is running.
pub fn workspace_binary(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let this = env::current_exe()?;
    // target/<profile>/demo, or target/<profile>/deps/<test>
    for folder in this.ancestors().skip(1).take(2) {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name} is not built: run `cargo build --workspace`, or set {variable} to its path")
}
