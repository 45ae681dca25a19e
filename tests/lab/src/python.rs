//! Python environments, kept from run to run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::binaries::repository;

/// The python of an environment with `requirements`, a file named from the root of the repository. It is made
/// when missing, which takes a minute and says so on stderr.
pub fn python(name: &str, requirements: &str) -> Result<PathBuf> {
    let script = repository().join("tests/python/venv");
    let output = Command::new(&script)
        .arg(name)
        .arg(repository().join(requirements))
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        script.display(),
        output.status
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}
