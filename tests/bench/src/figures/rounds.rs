//! Operator and bare client in turns, each in a fresh lab: from nothing, and then with one account more.

use std::time::Duration;

use airflow_workload_identity::api::AirflowWorkloadIdentityStatus;
use anyhow::{Context, Result};
use lab::Operator;

use super::{account, cold};
use crate::{
    bare::Bare,
    calls::{Calls, lower_bound},
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

/// What somebody took.
#[derive(Clone, Copy)]
struct Times {
    cold: Duration,
    account: Duration,
}

/// What came of the operator's turn.
struct Turn {
    operator: Operator,
    times: Times,
    cold: Calls,
    account: Calls,
    status: AirflowWorkloadIdentityStatus,
}

/// Returns the last fleet that the operator has converged.
pub async fn measure(
    report: &mut Report,
    fleet: &Fleet,
    rounds: usize,
    at_once: usize,
) -> Result<Converged> {
    let mut times = Vec::new();
    let mut calls: Vec<(Calls, Calls)> = Vec::new();
    let mut last: Option<(Turn, Stage)> = None;
    for round in 0..rounds.max(1) {
        let before = last.take().map(|(turn, _)| turn.status);
        // Each works while the other's lab stands idle beside it.
        let bare_stage = Stage::set(&[]).await?;
        fleet.prepare(&bare_stage.lab, &bare_stage.client).await?;
        fleet.apply(&bare_stage.client).await?;
        let stage = Stage::set(&[]).await?;
        let (turn, bare) = match before {
            // The bare client writes what the operator wrote, so the operator is first once.
            Some(status) if round % 2 == 1 => {
                let bare = bare_client(&bare_stage, fleet, at_once, &status).await?;
                (operator(&stage, fleet, at_once).await?, bare)
            }
            _ => {
                let turn = operator(&stage, fleet, at_once).await?;
                let bare = bare_client(&bare_stage, fleet, at_once, &turn.status).await?;
                (turn, bare)
            }
        };
        let ours = turn.times;
        for (what, ours, bare, calls) in [
            ("from nothing", ours.cold, bare.cold, &turn.cold),
            (
                "one account more",
                ours.account,
                bare.account,
                &turn.account,
            ),
        ] {
            println!(
                "  {what}: {:.2} s, the bare client {:.2} s; {calls}",
                ours.as_secs_f64(),
                bare.as_secs_f64(),
            );
        }
        times.push((ours, bare));
        calls.push((turn.cold.clone(), turn.account.clone()));
        last = Some((turn, stage));
    }
    let (turn, stage) = last.context("no round")?;
    let dearest = |of: fn(&(Calls, Calls)) -> &Calls| {
        let most = calls.iter().map(of).max_by_key(|calls| calls.total());
        most.context("no round")
    };

    let what = fleet.title();
    let bound = lower_bound(fleet);
    let most = dearest(|calls| &calls.0)?;
    let total = most.total();
    report.add(
        format!("{what}: calls ÷ lower bound"),
        total as f64 / bound as f64,
        "",
        Some(Goal::AtMost(1.05)),
        format!("{total} ÷ {bound} in the dearest round: {most}"),
    );
    let cold = Ratios::of(&times, |times| times.cold);
    report.add(
        format!("{what}: time ÷ bare client, {at_once} objects at once"),
        cold.median,
        "",
        Some(Goal::AtMost(1.1)),
        &cold.detail,
    );
    let account = Ratios::of(&times, |times| times.account);
    report.add(
        format!(
            "one account more for each of {} objects: time until all are federated ÷ bare client",
            fleet.objects
        ),
        account.median,
        "",
        Some(Goal::AtMost(1.1)),
        format!(
            "{}; in the dearest: {}",
            account.detail,
            dearest(|calls| &calls.1)?
        ),
    );
    Ok(Converged {
        operator: turn.operator,
        stage,
        time: cold.ours,
    })
}

async fn operator(stage: &Stage, fleet: &Fleet, at_once: usize) -> Result<Turn> {
    let (operator, cold) = cold::converge(stage, fleet).await?;
    let status = fleet.status_of_first(&stage.client).await?;
    let (account, account_calls) = account::by_operator(stage, fleet, at_once).await?;
    Ok(Turn {
        operator,
        times: Times {
            cold: cold.time,
            account,
        },
        cold: cold.calls,
        account: account_calls,
        status,
    })
}

async fn bare_client(
    stage: &Stage,
    fleet: &Fleet,
    at_once: usize,
    status: &AirflowWorkloadIdentityStatus,
) -> Result<Times> {
    let client = Bare::new(&stage.lab, stage.client.clone()).await?;
    Ok(Times {
        cold: client.converge(fleet, at_once, status).await?,
        account: account::by_bare(stage, &client, fleet, at_once, status).await?,
    })
}

/// What the operator took beside the bare client, in each round.
struct Ratios {
    median: f64,
    /// What it took in the median round.
    ours: Duration,
    detail: String,
}

impl Ratios {
    /// Of one round at least.
    fn of(times: &[(Times, Times)], what: fn(Times) -> Duration) -> Self {
        let ratio = |ours: Duration, bare: Duration| ours.as_secs_f64() / bare.as_secs_f64();
        let rounds = times.iter().map(|(ours, bare)| (what(*ours), what(*bare)));
        let mut rounds: Vec<_> = rounds.collect();
        rounds.sort_by(|a, b| ratio(a.0, a.1).total_cmp(&ratio(b.0, b.1)));
        let each = rounds
            .iter()
            .map(|(ours, bare)| format!("{:.2}", ratio(*ours, *bare)));
        let each = each.collect::<Vec<_>>().join(", ");
        let (ours, bare) = rounds[rounds.len() / 2];
        Self {
            median: ratio(ours, bare),
            ours,
            detail: format!(
                "{:.1} s ÷ {:.1} s, median of {each}",
                ours.as_secs_f64(),
                bare.as_secs_f64()
            ),
        }
    }
}
