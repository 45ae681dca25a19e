//! What programs say, kept beyond their lab for whoever searches it: in the folder that `$LAB_OUTPUTS` names.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

fn folder() -> Option<PathBuf> {
    env::var_os("LAB_OUTPUTS").map(PathBuf::from)
}

/// Has a file of `scratch` that is still to be written outlive it. False if nothing is kept.
pub(crate) fn outlives(scratch: &Path, file: &str) -> Result<bool> {
    let Some(folder) = folder() else {
        return Ok(false);
    };
    let lab = folder.join(scratch.file_name().unwrap_or_default());
    fs::create_dir_all(&lab)?;
    let (kept, link) = (lab.join(file), scratch.join(file));
    symlink(&kept, &link).with_context(|| format!("cannot make {}", link.display()))?;
    Ok(true)
}

/// Keeps what was printed or served, if anything is kept.
pub fn keep_output(what: &str, text: &str) -> Result<()> {
    let Some(folder) = folder() else {
        return Ok(());
    };
    let mine = folder.join(process::id().to_string());
    fs::create_dir_all(&mine)?;
    let path = mine.join(format!("{what}.log"));
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Of a log that is kept, and so is at level trace, what it would hold otherwise.
pub(crate) fn without_traces(log: &str) -> String {
    let mut is_kept = true;
    let lines = log.split_inclusive('\n').filter(|line| {
        // Others go on with what the line before them said.
        if line.starts_with("20") || line.starts_with('{') {
            is_kept = !is_trace(line);
        }
        // How a process ended is no line of its log.
        is_kept |= line.starts_with("error: ") || line.starts_with("thread '");
        is_kept
    });
    lines.collect()
}

/// Whether a line, of text or of JSON, is left out by default.
fn is_trace(line: &str) -> bool {
    const LEVEL: usize = 64;
    const QUIET: [&str; 4] = [
        " kube_client::",
        " kube_runtime::",
        "\"kube_client::",
        "\"kube_runtime::",
    ];
    let start: String = line.chars().take(LEVEL).collect();
    ["TRACE", "DEBUG"].iter().any(|level| start.contains(level))
        || QUIET.iter().any(|target| line.contains(target))
}
