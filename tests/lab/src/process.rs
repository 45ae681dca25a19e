//! A child process with a log file.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use crate::reaper::{Entry, Reaper};

const LINES_SHOWN: usize = 20;
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _entry: Entry,
}

impl Process {
    /// Starts `command`, made by [`Reaper::command`], with its output appended to `<scratch>/<name>.log`.
    pub(crate) fn start(reaper: &Arc<Reaper>, name: &str, mut command: Command) -> Result<Self> {
        let log = reaper.scratch().join(format!("{name}.log"));
        let output = append(&log)?;
        let child = command
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let entry = Entry::new(reaper, child.id());
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            _entry: entry,
        })
    }

    /// Waits until `probe` finds what it looks for; fails with the end of the log if the process ends before,
    /// or if it takes longer than `limit`.
    pub(crate) async fn wait_for<T, F>(
        &mut self,
        limit: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        let start = Instant::now();
        loop {
            if let Some(found) = probe().await {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status}; the end of its log:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if start.elapsed() > limit {
                bail!(
                    "{} is not ready after {limit:?}; the end of its log:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Waits until it ends.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Asks it to end, and kills it if it has not after `limit`.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = timeout(limit, self.ended()).await {
            return status;
        }
        self.kill();
        bail!(
            "{} was still running {limit:?} after SIGTERM; the end of its log:\n{}",
            self.name,
            self.log_tail()
        );
    }

    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Fails only if it was waited for already.
        let _ = self.child.wait();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        // Another program's bytes: not necessarily UTF-8, and the last character may be half written.
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    fn log_tail(&self) -> String {
        tail(&self.log(), LINES_SHOWN).to_owned()
    }

    fn signal(&mut self, signal: Signal) {
        // Once waited for, the id may belong to someone else.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of `text`.
#[must_use]
pub fn tail(text: &str, lines: usize) -> &str {
    let text = text.trim_end();
    match text.rmatch_indices('\n').nth(lines.saturating_sub(1)) {
        Some((newline, _)) => &text[newline + 1..],
        None => text,
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 2), "a\nb");
        assert_eq!(tail("", 2), "");
    }
}
