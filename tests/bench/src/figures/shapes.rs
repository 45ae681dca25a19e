//! How cost grows with accounts and identities, and with the time that Azure takes to answer.

use std::time::Duration;

use anyhow::Result;

use super::cold::{self, Cold};
use crate::{
    calls::lower_bound,
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// What an answer of Azure's takes when it is slow, in milliseconds.
const SLOW: u64 = 300;

pub async fn measure(report: &mut Report, objects: usize) -> Result<()> {
    let usual = Fleet::of("fleet", objects);
    let shapes = [
        usual.clone(),
        Fleet {
            accounts: 1,
            ..usual.clone()
        },
        Fleet {
            sharing: 1,
            ..usual.clone()
        },
    ];
    for fleet in shapes {
        let (cold, processor) = converge(&fleet, 0).await?;
        report.add(
            format!("{}: processor time per object until ready", fleet.title()),
            processor.as_secs_f64() * 1000.0 / objects as f64,
            "ms",
            None,
            detail(&fleet, &cold),
        );
    }
    let (cold, _) = converge(&usual, SLOW).await?;
    report.add(
        format!(
            "{}, Azure answers after {SLOW} ms: calls ÷ lower bound",
            usual.title()
        ),
        ratio(&usual, &cold),
        "",
        Some(Goal::AtMost(1.05)),
        detail(&usual, &cold),
    );
    Ok(())
}

/// And the processor time that it took.
async fn converge(fleet: &Fleet, answer: u64) -> Result<(Cold, Duration)> {
    let latency = answer.to_string();
    let stage = Stage::set(&["--latency-ms", &latency]).await?;
    let (operator, cold) = cold::converge(&stage, fleet).await?;
    let processor = operator.processor_time()?;
    Ok((cold, processor))
}

fn ratio(fleet: &Fleet, cold: &Cold) -> f64 {
    cold.calls.total() as f64 / lower_bound(fleet) as f64
}

fn detail(fleet: &Fleet, cold: &Cold) -> String {
    format!(
        "{:.1} s; calls ÷ lower bound {:.3}: {}",
        cold.time.as_secs_f64(),
        ratio(fleet, cold),
        cold.calls
    )
}
