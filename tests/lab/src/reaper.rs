//! Child processes and files that vanish however this process ends: return, panic, Ctrl-C or SIGKILL.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = include_str!("reaper.sh");

/// What a child runs first: it reports its process group before it becomes the program, so that there
/// is no moment in which it runs unknown to the reaper.
const REPORT_THEN_EXEC: &str = r#"echo "started $$" >&0; exec "$@" </dev/null"#;

/// Holds the pipe on behalf of a parent that is gone, for as long as a file exists.
const HOLD: &str = r#"while [ -e "$1" ]; do sleep 0.5; done"#;

/// A shell that outlives this process just long enough to end the children and remove the files.
#[derive(Debug)]
pub(crate) struct Reaper {
    shell: Child,
    /// `None` once dropped. When the last copy is closed, the shell sees the end of its input and acts.
    pipe: Option<PipeWriter>,
    scratch: PathBuf,
}

impl Reaper {
    pub(crate) fn start() -> Result<Arc<Self>> {
        let (input, pipe) = io::pipe()?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "lab-reaper"])
            .stdin(input)
            .stdout(Stdio::piped())
            // Whoever reads our output shall see it end with us.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;

        let mut scratch = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut scratch)?;
        }
        let scratch = PathBuf::from(scratch.trim_end_matches('\n'));
        ensure!(scratch.is_absolute(), "cannot make a temporary folder");
        Ok(Arc::new(Self {
            shell,
            pipe: Some(pipe),
            scratch,
        }))
    }

    /// A folder that is removed at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Has another folder removed at the end, too.
    pub(crate) fn remove_at_end(&self, folder: &Path) -> Result<()> {
        self.tell(&format!("folder {}", folder.display()))
    }

    /// A command whose child cannot outlive the reaper. It runs in a process group of its own, so that a
    /// terminal's Ctrl-C reaches this process only, and its standard input is taken.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let mut command = Command::new("sh");
        command
            .args(["-c", REPORT_THEN_EXEC, "sh"])
            .arg(program.as_ref())
            .stdin(self.pipe()?.try_clone()?)
            .process_group(0);
        Ok(command)
    }

    /// Keeps everything as it is when this process ends, until `file` is removed. The holder keeps `lock`
    /// open, so a lock on it is held as long as it lives.
    pub(crate) fn hold_while_exists(&self, file: &Path, lock: File) -> Result<()> {
        Command::new("sh")
            .args(["-c", HOLD, "lab-holder"])
            .arg(file)
            .stdin(lock)
            .stdout(self.pipe()?.try_clone()?)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        Ok(())
    }

    fn tell(&self, line: &str) -> Result<()> {
        // One write: the lines of children and ours share the pipe.
        Ok(self.pipe()?.write_all(format!("{line}\n").as_bytes())?)
    }

    fn pipe(&self) -> Result<&PipeWriter> {
        self.pipe.as_ref().context("the reaper has ended")
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.pipe = None;
        // Whoever drops the lab may look at once whether anything is left.
        let _ = self.shell.wait();
    }
}

/// A child's entry with the reaper, taken back when it has ended: its id may then belong to someone else.
#[derive(Debug)]
pub(crate) struct Entry {
    reaper: Arc<Reaper>,
    group: u32,
}

impl Entry {
    pub(crate) fn new(reaper: &Arc<Reaper>, group: u32) -> Self {
        Self {
            reaper: Arc::clone(reaper),
            group,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // It fails only if the reaper was killed, and then there is nothing to tell.
        let _ = self.reaper.tell(&format!("ended {}", self.group));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    use std::{env, fs, thread};

    use super::Reaper;

    /// Set in the copy of this program that is the parent to be killed.
    const PARENT: &str = "LAB_REAPER_TEST_PARENT";

    #[test]
    fn a_dropped_reaper_leaves_no_file() {
        let reaper = Reaper::start().unwrap();
        let scratch = reaper.scratch().to_owned();
        fs::write(scratch.join("file"), "").unwrap();
        drop(reaper);
        assert!(!scratch.exists());
    }

    #[test]
    fn a_killed_parent_leaves_no_process_and_no_file() {
        if env::var_os(PARENT).is_some() {
            be_the_parent();
        }
        let mut parent = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "reaper::tests::a_killed_parent_leaves_no_process_and_no_file",
            ])
            .arg("--nocapture")
            .env(PARENT, "")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(parent.stdout.take().unwrap());
        let scratch = loop {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the parent ended");
            if let Some(scratch) = line.trim_end().strip_prefix("scratch=") {
                break PathBuf::from(scratch);
            }
        };
        assert!(scratch.exists());

        parent.kill().unwrap();
        parent.wait().unwrap();

        // The child has the parent's output, which ends when both have.
        output.read_to_end(&mut Vec::new()).unwrap();
        let start = Instant::now();
        while scratch.exists() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{} is left",
                scratch.display()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a child that never ends, names its folder, and waits to be killed.
    fn be_the_parent() -> ! {
        let reaper = Reaper::start().unwrap();
        let mut child = reaper
            .command("sleep")
            .unwrap()
            .arg("1000")
            .spawn()
            .unwrap();
        println!("\nscratch={}", reaper.scratch().display());
        child.wait().unwrap();
        unreachable!("nobody ends the child but the reaper");
    }
}
