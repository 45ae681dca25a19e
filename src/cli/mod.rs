//! The `awi` command.

mod crd;
mod run;

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
