//! A fleet that nobody has looked at yet: what it takes until it is ready.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use lab::Operator;

use crate::{
    calls::{Calls, Trail},
    fleet::Fleet,
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
    let calls = trail.calls().await?.clone();
    calls.ensure(&[
        ("patch airflowworkloadidentities", fleet.objects),
        ("patch airflowworkloadidentities/status", 2 * fleet.objects),
        ("patch serviceaccounts", fleet.credentials()),
        ("create secrets", fleet.objects),
        ("credential.put", fleet.credentials()),
    ])?;
    let cold = Cold {
        time: end.duration_since(start).unsigned_abs(),
        calls,
        peak_memory: operator.peak_memory()?,
    };
    Ok((operator, cold))
}
