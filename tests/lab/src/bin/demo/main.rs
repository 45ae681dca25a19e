//! Airflow on Kubernetes gets an Azure identity, on this machine: the real control plane, the operator, and an
//! emulator in the place of Azure.

mod airflow;
mod exchange;
mod kept;
mod screen;

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::{Parser, Subcommand};
use lab::{
    AzureWebhook, Lab, LabOptions, Node, Operator, OperatorOptions, repository, tail,
    workspace_binary,
};

use crate::kept::Kept;
use crate::screen::Screen;

const LOG_LINES_SHOWN: usize = 20;

#[derive(Parser)]
struct Arguments {
    /// Leave everything running at the end.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// End what --keep left running.
    Stop,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Stop) => kept::stop().await,
        None => run(arguments.keep).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a cluster on Azure has beside its control plane.
type Around = (Node, AzureWebhook);

async fn run(keep: bool) -> Result<()> {
    if keep {
        kept::ensure_none()?;
    }
    let screen = Screen::new();
    screen.step("starting Kubernetes (etcd, API server, controllers) and the Azure emulator");
    let lab = Lab::start(LabOptions::default()).await?;
    let kept = if keep {
        Some(Kept::prepare(&lab)?)
    } else {
        None
    };

    screen.step("starting a node, where pods only seem to run, and the real Azure webhook");
    let around = (lab.start_node().await?, lab.start_azure_webhook().await?);
    screen.step("starting the operator, with its admission policy for pods");
    lab.apply(&repository().join("deploy/base/pod-policy.yaml"))
        .await?;
    let mut operator = start_operator(&lab).await?;
    let shown = tokio::select! {
        shown = show(&screen, &lab) => shown,
        status = operator.ended() => Err(anyhow!("the operator has ended: {}", status?)),
    };
    if let Err(error) = shown {
        let log = operator.log();
        bail!(
            "{error:#}\nThe end of the operator's log:\n{}",
            tail(&log, LOG_LINES_SHOWN)
        );
    }

    if let Some(kept) = kept {
        return kept.leave_running(lab, operator, around, &screen).await;
    }
    screen.heading("To try more of it, leave it running: make demo KEEP=1");
    Ok(())
}

async fn start_operator(lab: &Lab) -> Result<Operator> {
    let awi = workspace_binary("awi", "AWI_BIN")?;
    // Not the default of five minutes: what is changed in Azure by hand is to be repaired while one watches.
    let options = OperatorOptions {
        resync: "10s".to_owned(),
        ..OperatorOptions::default()
    };
    lab.start_operator(&awi, options).await
}

async fn show(screen: &Screen, lab: &Lab) -> Result<()> {
    screen.step("installing Airflow as its Helm chart does, without a word about Azure");
    airflow::install(lab).await?;
    screen.step("applying the platform team's grant and the Airflow team's object");
    airflow::apply_samples(lab).await?;
    screen.step("waiting until it is ready");
    airflow::wait_until_ready(lab).await?;
    screen.step("restarting the pods that ran already, as the condition PodsInjected says");
    airflow::restart(lab).await?;
    screen.step("ready");

    airflow::show_objects(screen, lab).await?;
    airflow::show_credentials(screen, lab).await?;
    exchange::show(screen, lab).await
}
