//! Operator and bare client in turns, each in a fresh lab: from nothing, and then with one account more.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::Operator;

use super::{account, cold};
use crate::{
    bare::Bare,
    calls::lower_bound,
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// A converged fleet.
pub struct Converged {
    pub operator: Operator,
    pub stage: Stage,
    /// What the operator took in the median round.
    pub time: Duration,
}

/// Returns the last fleet that the operator has converged.
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
        let (operator, cold) = cold::converge(&stage, fleet).await?;
        let status = fleet.status_of_first(&stage.client).await?;
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
            "{:.1} s ÷ {:.1} s, median of {}",
            time.as_secs_f64(),
            bare_time.as_secs_f64(),
            times.len()
        ),
    );
    account::report(report, fleet, added);
    Ok(Converged {
        operator,
        stage,
        time,
    })
}
