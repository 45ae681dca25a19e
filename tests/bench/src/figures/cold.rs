//! A fleet that nobody has looked at yet: calls and time until it is ready.

use std::time::Duration;

use airflow_workload_identity::api::{AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::Api;
use lab::Operator;

use super::account;
use crate::{
    bare::Bare,
    calls::{Calls, Trail, lower_bound},
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// How often it may have been quiet before all is ready.
const ATTEMPTS: usize = 100;

/// What became of a fleet.
pub struct Cold {
    /// From the start of the operator to its last write.
    pub time: Duration,
    pub calls: Calls,
    /// In bytes.
    pub peak_memory: u64,
}

/// Makes a fleet in a fresh lab, starts the operator, and waits until all is ready.
pub async fn converge(stage: &Stage, fleet: &Fleet) -> Result<(Operator, Cold)> {
    fleet.prepare(&stage.lab, &stage.client).await?;
    fleet.apply(&stage.client).await?;
    let mut trail = Trail::begin(&stage.lab).await?;
    let start = Timestamp::now();
    // Nothing is looked at again before all is ready.
    let operator = stage.operator("15m").await?;
    for _ in 0..ATTEMPTS {
        trail.until_quiet().await?;
        if fleet.ready(&stage.client).await? == fleet.objects {
            break;
        }
    }
    let ready = fleet.ready(&stage.client).await?;
    ensure!(
        ready == fleet.objects,
        "only {ready} are ready:\n{}",
        lab::tail(&operator.log(), 20)
    );
    let end = trail.last_write.context("it wrote nothing")?;
    let cold = Cold {
        time: end.duration_since(start).unsigned_abs(),
        calls: trail.calls().await?.clone(),
        peak_memory: operator.peak_memory()?,
    };
    Ok((operator, cold))
}

/// The status that the operator gave the first of a fleet.
pub async fn status_of_first(
    stage: &Stage,
    fleet: &Fleet,
) -> Result<AirflowWorkloadIdentityStatus> {
    let first = fleet.members().next().context("an empty fleet")?;
    let api: Api<AirflowWorkloadIdentity> = Api::namespaced(stage.client.clone(), &first.namespace);
    api.get(&first.name)
        .await?
        .status
        .context("it has no status")
}

/// A converged fleet.
pub struct Converged {
    pub operator: Operator,
    pub stage: Stage,
    /// What the operator took in the median round.
    pub time: Duration,
}

/// Measures operator and bare client in turns, each in a fresh lab: from nothing, and then with one account more.
/// Returns the last that the operator has converged.
pub async fn measure(
    report: &mut Report,
    fleet: &Fleet,
    rounds: usize,
    at_once: usize,
) -> Result<Converged> {
    let mut times = Vec::new();
    let mut calls = Vec::new();
    let mut added = Vec::new();
    let mut last = None;
    for _ in 0..rounds.max(1) {
        drop(last.take());
        // Each works while the other's lab stands idle beside it.
        let bare_stage = Stage::set(&[]).await?;
        fleet.prepare(&bare_stage.lab, &bare_stage.client).await?;
        fleet.apply(&bare_stage.client).await?;
        let stage = Stage::set(&[]).await?;
        let (operator, cold) = converge(&stage, fleet).await?;
        let status = status_of_first(&stage, fleet).await?;
        let client = Bare::new(&bare_stage.lab, bare_stage.client.clone()).await?;
        let bare = client.converge(fleet, at_once, &status).await?;
        println!(
            "  {:.2} s, the bare client {:.2} s; {}",
            cold.time.as_secs_f64(),
            bare.as_secs_f64(),
            cold.calls
        );
        times.push((
            cold.time.as_secs_f64() / bare.as_secs_f64(),
            cold.time,
            bare,
        ));
        calls.push(cold.calls);
        added.push(account::add(&stage, &bare_stage, fleet, at_once).await?);
        last = Some((operator, stage));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, time, bare_time) = times[times.len() / 2];
    let (operator, stage) = last.context("no round")?;
    let most = calls.iter().max_by_key(|calls| calls.total());
    let most = most.context("no round")?;

    let what = format!(
        "{} objects × {} accounts over {} identities",
        fleet.objects,
        fleet.accounts,
        fleet.identities()
    );
    let bound = lower_bound(fleet);
    let total = most.total();
    report.add(
        format!("{what}: calls ÷ lower bound"),
        total as f64 / bound as f64,
        "",
        Some(Goal::AtMost(1.05)),
        format!("{total} ÷ {bound} in the dearest round: {most}"),
    );
    report.add(
        format!("{what}: time ÷ bare client, {at_once} objects at once"),
        ratio,
        "",
        Some(Goal::AtMost(1.1)),
        format!(
            "{:.1} s ÷ {:.1} s, median of {rounds}",
            time.as_secs_f64(),
            bare_time.as_secs_f64()
        ),
    );
    account::report(report, fleet, added);
    Ok(Converged {
        operator,
        stage,
        time,
    })
}
