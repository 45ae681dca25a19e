//! The `awi` command.

mod azure;
mod crd;
mod run;
mod telemetry;

use std::time::Duration;

use clap::{Parser, Subcommand};

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
    /// Prints the custom resource definitions as YAML.
    Crd(crd::Args),
}

impl Cli {
    /// Runs the command that the user gave.
    ///
    /// # Errors
    /// What the command could not do; the message says what to do about it.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(*args).await,
            Command::Crd(args) => crd::run(&args),
        }
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
