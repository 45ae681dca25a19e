//! A fleet that is as it should be: what a restart takes, and what standing still takes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
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
    let first = before.processor_time()?;
    before.stop().await?;
    drop(before);

    let mut trail = Trail::begin(&stage.lab).await?;
    let (start, clock) = (Instant::now(), Timestamp::now());
    let operator = stage.operator(&format!("{}s", resync.as_secs())).await?;
    let listed = async {
        while operator.get("/readyz").await?.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
        loop {
            let lists = trail.calls().await?.azure.get("credential.list").copied();
            if lists.unwrap_or_default() >= fleet.identities() {
                return anyhow::Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, listed).await??;
    let azure = stage.lab.emulator().requests(0).await?;
    let last = azure.iter().rev().find(|request| request.is_operators());
    let last: Option<Timestamp> = last.and_then(|request| request.time.as_str()?.parse().ok());
    let ready = last.map_or(start.elapsed(), |last| {
        last.duration_since(clock).unsigned_abs()
    });
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
    let lists = calls.azure.get("credential.list").copied();
    let lists = lists.unwrap_or_default() as f64 / f64::from(rounds) / fleet.identities() as f64;
    ensure!(
        lists > 0.5,
        "it looked at each identity {lists:.2} times in a resync"
    );
    Ok(Rest {
        memory: operator.memory()?,
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
        "from the start of the process until the last identity was looked at",
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
