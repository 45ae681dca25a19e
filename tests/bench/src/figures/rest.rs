//! A fleet that is as it should be: what a restart takes, and what standing still takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use lab::Operator;
use tokio::time::{sleep, timeout};

use crate::{
    calls::{Calls, Trail},
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// How long the status says of a new credential that Entra may not know it yet; and then some.
const SETTLES: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(120);

/// What both took.
pub struct Rest {
    pub ready: Duration,
    pub restart: Calls,
    /// Of the first process, from its start until no credential was new any longer.
    pub first: Duration,
    /// Of one resync.
    pub processor: Duration,
    pub memory: u64,
    /// Of the first process, in the end.
    pub first_memory: u64,
    pub resync: String,
    pub lists: f64,
    pub writes: usize,
}

/// Starts the operator again over a converged fleet, and counts through some resyncs.
pub async fn observe(
    stage: &Stage,
    fleet: &Fleet,
    mut before: Operator,
    resync: Duration,
    rounds: u32,
) -> Result<Rest> {
    sleep(SETTLES).await;
    let (first, first_memory) = (before.processor_time()?, before.memory()?);
    before.stop().await?;
    drop(before);

    let mut trail = Trail::begin(&stage.lab).await?;
    let (start, clock) = (Instant::now(), Timestamp::now());
    let operator = stage.operator(&format!("{}s", resync.as_secs())).await?;
    let listed = async {
        while operator.get("/readyz").await?.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
        let ready = start.elapsed();
        while trail.calls().await?.lists.len() < fleet.identities() {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(ready)
    };
    let ready = timeout(LIMIT, listed).await??;
    let azure = stage.lab.emulator().requests(0).await?;
    let last = azure.iter().rev().find(|request| request.is_operators());
    let last: Option<Timestamp> = last.and_then(|request| request.time.as_str()?.parse().ok());
    let last = last.context("it asked Azure nothing")?;
    let ready = ready.max(last.duration_since(clock).unsigned_abs());
    sleep(Duration::from_secs(20).saturating_sub(start.elapsed())).await;
    let restart = trail.calls().await?.clone();

    let mut trail = Trail::begin(&stage.lab).await?;
    let before = operator.processor_time()?;
    sleep(resync * rounds).await;
    let processor = operator.processor_time()?.saturating_sub(before) / rounds;
    let calls = trail.calls().await?.clone();
    ensure!(
        fleet.ready(&stage.client).await? == fleet.objects,
        "not all are ready any more"
    );
    let fewest = calls.lists.values().min().copied().unwrap_or_default();
    ensure!(
        calls.lists.len() == fleet.identities() && fewest + 1 >= rounds as usize,
        "it looked at {} identities, at one of them {fewest} times in {rounds} resyncs",
        calls.lists.len()
    );
    let lists = calls.lists.values().sum::<usize>() as f64;
    let lists = lists / f64::from(rounds) / fleet.identities() as f64;
    ensure!(lists > 0.9, "{lists:.2} LISTs per identity and resync");
    Ok(Rest {
        memory: operator.memory()?,
        first_memory,
        ready,
        restart,
        first,
        processor,
        writes: calls.writes(),
        lists,
        resync: format!("in {rounds} resyncs of {} s: {calls}", resync.as_secs()),
    })
}

pub fn report(report: &mut Report, fleet: &Fleet, rest: &Rest) {
    let what = format!("{} objects", fleet.objects);
    report.add(
        format!("{what}, converged: restart, writes"),
        rest.restart.writes() as f64,
        "",
        Some(Goal::AtMost(0.0)),
        format!("in the first 20 s: {}", rest.restart),
    );
    report.add(
        format!("{what}, converged: restart, time to ready"),
        rest.ready.as_secs_f64(),
        "s",
        Some(Goal::AtMost(5.0)),
        "from the start of the process until it says so and the last identity was looked at",
    );
    report.add(
        format!("{what}, steady: writes"),
        rest.writes as f64,
        "",
        Some(Goal::AtMost(0.0)),
        rest.resync.clone(),
    );
    report.add(
        format!("{what}, steady: LISTs per identity and resync"),
        rest.lists,
        "",
        Some(Goal::AtMost(1.05)),
        "",
    );
}
