//! The `awi` command.

mod azure;
mod crd;
pub mod doctor;
mod exit;
pub mod init;
mod look;
pub mod plan;
mod run;
mod telemetry;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use exit::Found;

/// Makes Airflow on Azure passwordless.
#[derive(Debug, Parser)]
#[command(name = "awi", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator.
    Run(Box<run::Args>),
    Plan(Box<plan::Args>),
    Doctor(Box<doctor::Args>),
    Init(Box<init::Args>),
    /// Prints the custom resource definitions as YAML.
    Crd(crd::Args),
}

impl Cli {
    /// Reads the command line. What is wrong with it is printed and ends the process with code 1:
    /// clap's own code, 2, says that something would change.
    #[must_use]
    pub fn from_arguments() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let _ = error.print();
            std::process::exit(i32::from(error.use_stderr()))
        })
    }

    /// Runs the command that the user gave, and says with which code the process ends.
    ///
    /// # Errors
    /// What the command could not do; the message says what to do about it.
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::run(*args).await.map(|()| ExitCode::SUCCESS),
            Command::Plan(args) => plan::run(*args).await.map(ExitCode::from),
            Command::Doctor(args) => doctor::run(*args).await.map(ExitCode::from),
            Command::Init(args) => init::run(*args).await.map(|()| ExitCode::SUCCESS),
            Command::Crd(args) => crd::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// How what a command has found is printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Prints what a command has found. A reader that has seen enough is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print")
        }
        _ => Ok(()),
    }
}

/// A number and a unit: `500ms`, `30s`, `5m`, `1h`. Zero is refused: it would be a hot loop.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "use a number and a unit, for example 30s or 5m")?;
    Duration::try_from(parsed)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(100))
        .ok_or_else(|| "must be at least 100ms".to_owned())
}
