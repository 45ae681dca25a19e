//! Runs seeds on all cores, or one of them with its whole trace.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, value_parser};
use simulation::{Failure, Met, run};
use tracing_subscriber::EnvFilter;

/// The operator against a cluster and an Azure in memory: everything that happens comes from a seed.
#[derive(Parser)]
struct Cli {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this one only, and print everything that happens.
    #[arg(long, conflicts_with_all = ["seeds", "from", "limit"])]
    seed: Option<u64>,
    /// Begin no seed after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Beyond what any seed takes by far.
const STUCK: Duration = Duration::from_secs(120);
/// So many seeds from one line to the next.
const PROGRESS: u64 = 1_000;
/// In so many seeds, everything that may happen has.
const ENOUGH: u64 = 1_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.seed {
        Some(seed) => replay(seed),
        None => all(&cli),
    }
}

/// With the operators' own log, as RUST_LOG wants it.
fn replay(seed: u64) -> ExitCode {
    // Or the log would begin with another seed's.
    simulation::prepare();
    tracing_subscriber::fmt()
        .with_ansi(io::stdout().is_terminal())
        .with_env_filter(EnvFilter::from_default_env())
        .without_time()
        .init();
    match run(seed, true) {
        Ok(report) => {
            println!(
                "seed {seed} holds, {:?} after the last fault",
                report.settled_in
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed}: {}", failure.what);
            ExitCode::FAILURE
        }
    }
}

fn all(cli: &Cli) -> ExitCode {
    let start = Instant::now();
    let Some(end) = cli.from.checked_add(cli.seeds) else {
        eprintln!(
            "error: there are no seeds after {}: a smaller --from",
            u64::MAX
        );
        return ExitCode::FAILURE;
    };
    let next = AtomicU64::new(cli.from);
    let done = AtomicU64::new(0);
    let virtual_seconds = AtomicU64::new(0);
    let has_failed = AtomicBool::new(false);
    let met = Mutex::new(Met::default());
    let is_over = || {
        let late = |limit| start.elapsed() > Duration::from_secs(limit);
        has_failed.load(Ordering::Relaxed) || cli.limit.is_some_and(late)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let under_way: Vec<Mutex<Option<(u64, Instant)>>> =
        (0..threads).map(|_| Mutex::default()).collect();
    let now = |slot: &Mutex<_>, seed| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = seed;
    };
    let (under_way, now, is_over) = (&under_way, &now, &is_over);
    let (next, done, virtual_seconds, has_failed) = (&next, &done, &virtual_seconds, &has_failed);
    let met = &met;
    thread::scope(|scope| {
        let workers = under_way.iter().map(|slot| {
            scope.spawn(move || {
                while !is_over() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    now(slot, Some((seed, Instant::now())));
                    let ran = run(seed, false);
                    now(slot, None);
                    match ran {
                        Ok(report) => {
                            let lasted = report.lasted.as_secs();
                            virtual_seconds.fetch_add(lasted, Ordering::Relaxed);
                            let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
                            met.merge(&report.met);
                        }
                        Err(failure) => {
                            has_failed.store(true, Ordering::Relaxed);
                            tell(seed, &failure);
                        }
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if count.is_multiple_of(PROGRESS) {
                        println!("{count} seeds, {:?}", start.elapsed());
                    }
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(100));
            under_way.iter().for_each(end_if_stuck);
        }
    });
    let count = done.load(Ordering::Relaxed);
    println!(
        "{count} seeds from {} on, {} virtual hours, in {:?}",
        cli.from,
        virtual_seconds.load(Ordering::Relaxed) / 3600,
        start.elapsed()
    );
    let met = met.lock().unwrap_or_else(PoisonError::into_inner);
    println!("They met: {met}.");
    if has_failed.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    let missing = met.missing();
    if count >= ENOUGH && !missing.is_empty() {
        println!(
            "None of them met {missing:?}: then the simulation no longer does what it is for."
        );
        return ExitCode::FAILURE;
    }
    let left = end - cli.from - count;
    if left > 0 && count < ENOUGH {
        println!(
            "The time was over after {count} seeds, and fewer than {ENOUGH} tell little: a longer --limit, or none."
        );
        return ExitCode::FAILURE;
    }
    match left {
        0 => println!("All hold."),
        left => println!("All hold; the time was over before the other {left}."),
    }
    ExitCode::SUCCESS
}

/// A run that goes round in circles at one moment of its time cannot be ended from outside.
fn end_if_stuck(slot: &Mutex<Option<(u64, Instant)>>) {
    let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, since)) = *slot
        && since.elapsed() > STUCK
    {
        println!("seed {seed} does not end. What it does: make simulate SEED={seed}");
        std::process::exit(1);
    }
}

fn tell(seed: u64, failure: &Failure) {
    println!("{}", failure.trace);
    println!("seed {seed}: {}", failure.what);
    println!("The whole of it: make simulate SEED={seed}");
}
