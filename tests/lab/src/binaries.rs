//! Where the programs are that a lab runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::reaper::Reaper;

const NEEDED: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The control plane's, in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Builds what is missing, and says so on stderr.
    pub(crate) async fn build(reaper: &Reaper) -> Result<Self> {
        let script = repository().join("tests/controlplane/build");
        let command = reaper.command(&script)?;
        let output = tokio::process::Command::from(command)
            .args(NEEDED)
            .stderr(Stdio::inherit())
            .output()
            .await
            .with_context(|| format!("cannot run {}", script.display()))?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            script.display(),
            output.status
        );
        let folder = String::from_utf8(output.stdout)?;
        Ok(Self {
            folder: PathBuf::from(folder.trim_end()),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
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
