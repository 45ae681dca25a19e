//! How cost grows with the number of objects.

use std::time::Duration;

use anyhow::Result;

use super::{cold, rest};
use crate::{
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// What a fleet of one size costs.
pub struct Size {
    objects: usize,
    /// Until no credential is new any longer.
    cold: Duration,
    resync: Duration,
    memory: u64,
    /// Of the process that found it cold: in the end, and at most.
    first_memory: (u64, u64),
    /// That it published until all were ready.
    events: usize,
}

impl Size {
    fn per_object(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1000.0 / self.objects as f64
    }
}

/// Fleets of these sizes, one after the other, each in a lab of its own.
pub async fn measure(sizes: &[usize], resync: Duration) -> Result<Vec<Size>> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let mut measured = Vec::new();
    for objects in sizes {
        measured.push(size(objects, resync).await?);
    }
    Ok(measured)
}

/// From nothing to converged and started again.
async fn size(objects: usize, resync: Duration) -> Result<Size> {
    let fleet = Fleet::of("fleet", objects);
    let stage = Stage::set(&[]).await?;
    let (operator, cold) = cold::converge(&stage, &fleet).await?;
    println!(
        "  {objects} objects: {:.1} s; {}",
        cold.time.as_secs_f64(),
        cold.calls
    );
    let rest = rest::observe(&stage, &fleet, operator, resync, 2).await?;
    println!("  {objects} objects: {}", rest.resync);
    Ok(Size {
        objects,
        cold: rest.first,
        resync: rest.processor,
        memory: rest.memory,
        first_memory: (rest.first_memory, cold.peak_memory),
        events: cold.calls.events,
    })
}

/// The sizes, smallest first.
pub fn report(report: &mut Report, sizes: &[Size]) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for size in sizes {
        let goal = match size.objects {
            1_000 => Some(Goal::AtMost(40.0)),
            10_000 => Some(Goal::AtMost(150.0)),
            _ => None,
        };
        report.add(
            format!(
                "{} objects: memory, converged, after a restart",
                size.objects
            ),
            mebibytes(size.memory),
            "MiB",
            goal,
            format!(
                "RSS; of the process that found them cold {:.0} MiB, {:.0} at most",
                mebibytes(size.first_memory.0),
                mebibytes(size.first_memory.1)
            ),
        );
    }
    let events = sizes.iter().map(|size| size.events.to_string());
    let events = events.collect::<Vec<_>>().join(", ");
    for (what, time, besides) in [
        (
            "cold",
            (|size| size.cold) as fn(&Size) -> Duration,
            format!("; with {events} Events"),
        ),
        ("per resync", |size| size.resync, String::new()),
    ] {
        let each = sizes
            .iter()
            .map(|size| format!("{:.2} ms at {}", size.per_object(time(size)), size.objects));
        let detail = each.collect::<Vec<_>>().join(", ") + &besides;
        let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
            return;
        };
        report.add(
            format!(
                "processor time per object, {what}: {} objects ÷ {}",
                last.objects, first.objects
            ),
            last.per_object(time(last)) / first.per_object(time(first)),
            "",
            Some(Goal::AtMost(1.0)),
            detail,
        );
        // Without what the process takes by itself, which weighs most where objects are few.
        let further = sizes.windows(2).map(|pair| {
            let more = time(&pair[1]).saturating_sub(time(&pair[0])).as_secs_f64() * 1000.0;
            let between = format!("{} to {}", pair[0].objects, pair[1].objects);
            (between, more / (pair[1].objects - pair[0].objects) as f64)
        });
        let further: Vec<(String, f64)> = further.collect();
        if let [first, .., last] = &further[..] {
            let each = further.iter();
            let each = each.map(|(between, each)| format!("{each:.2} ms from {between}"));
            report.add(
                format!(
                    "processor time for each further object, {what}: {} ÷ {}",
                    last.0, first.0
                ),
                last.1 / first.1,
                "",
                // One, but for what lies between one run and the next.
                Some(Goal::AtMost(1.2)),
                each.collect::<Vec<_>>().join(", "),
            );
        }
    }
}
