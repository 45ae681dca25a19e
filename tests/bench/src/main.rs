//! What the operator costs, beside what it must cost: one run on the real control plane and the emulator, a table,
//! and the same figures as JSON.

#![allow(clippy::cast_precision_loss, reason = "figures, not money")]

mod bare;
mod calls;
mod figures;
mod fleet;
mod report;
mod stage;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use figures::{by_hand, growth, latency, rest, rounds, shapes, throttle};
use fleet::Fleet;
use report::Report;

/// The same for all sizes, since what the process takes by itself goes by the time.
const RESYNC: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Args {
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Objects of the fleet.
    #[arg(long, default_value_t = 1_000)]
    objects: usize,
    /// Sizes of fleets, to see how cost grows.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    sizes: Vec<usize>,
    /// In each of which operator and bare client take turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Objects that the bare client works on at a time.
    #[arg(long, default_value_t = airflow_workload_identity::client::AT_ONCE)]
    at_once: usize,
    /// The same figures for machines.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Latency,
    Fleet,
    Shapes,
    Throttle,
    Growth,
}

// On one thread, as the operator is.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut report = Report {
        machine: report::machine(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        figures: Vec::new(),
    };
    println!("{}", report.machine);
    let measured = measure(&args, &mut report).await;
    // What was measured before something failed is not lost.
    println!("\n{}", report.table());
    report.write(&args.report)?;
    println!("The same as JSON: {}", args.report.display());
    measured?;
    report.all_met()
}

async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let is_asked = |part| args.only.is_empty() || args.only.contains(&part);
    if is_asked(Part::Latency) {
        latency::measure(report, 200).await?;
    }
    if is_asked(Part::Fleet) {
        let fleet = Fleet::of("fleet", args.objects);
        let converged = rounds::measure(report, &fleet, args.rounds, args.at_once).await?;
        let each = converged.time.as_secs_f64() / args.objects as f64;
        let seen = rest::observe(&converged.stage, &fleet, converged.operator, RESYNC, 3).await?;
        rest::report(report, &fleet, &seen);
        drop(converged.stage);
        by_hand::measure(report, 8, each).await?;
    }
    if is_asked(Part::Shapes) {
        shapes::measure(report, args.objects).await?;
    }
    if is_asked(Part::Throttle) {
        throttle::measure(report).await?;
    }
    if is_asked(Part::Growth) {
        let sizes = growth::measure(&args.sizes, RESYNC).await?;
        growth::report(report, &sizes);
    }
    Ok(())
}
