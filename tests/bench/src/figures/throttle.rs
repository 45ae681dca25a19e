//! Another cluster that writes to the same identities, with Azure's documented throttle and without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use jiff::Timestamp;
use lab::{Azure, AzureRequest, Operator};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// Of one identity: what the emulator lets through at once, and then a second. Azure documents the rate only.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations#throttling-limits>
const BURST: f64 = 4.0;
const RATE: f64 = 0.25;
/// Credentials of the other cluster on each identity.
const THEIRS: usize = 4;
/// How long a write is in the way of others.
const WINDOW: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(300);

pub async fn measure(report: &mut Report) -> Result<()> {
    let throttled = Contest::hold(true).await?;
    let written = throttled.puts(|put| put.status < 300);
    let seconds = throttled.time.as_secs_f64();
    let let_through = throttled.identities as f64 * (BURST + RATE * seconds);
    report.add(
        "Azure's documented throttle and a second writer: credentials ÷ what the throttle lets through",
        written as f64 / let_through,
        "",
        Some(Goal::AtLeast(0.9)),
        format!(
            "{written} in {seconds:.0} s on {} identities, {:.0} a minute; of the operator's PUTs {} were put off by 429, {} by 409",
            throttled.identities,
            written as f64 * 60.0 / seconds,
            throttled.refused(429),
            throttled.refused(409),
        ),
    );
    // With the throttle, 429 ends each storm of 409s.
    let free = Contest::hold(false).await?;
    let refused = free.refused(409);
    ensure!(refused > 0, "the second writer was never in the way");
    let theirs = free.theirs();
    report.add(
        "a second writer without the throttle: the operator's PUTs that were put off by 409 ÷ writes of the other cluster",
        refused as f64 / theirs as f64,
        "",
        // One finds it in the way, and another one looks whether it still is.
        Some(Goal::AtMost(2.0)),
        format!(
            "{refused} ÷ {theirs}, each in the way for {} ms",
            WINDOW.as_millis(),
        ),
    );
    let (writes, span) = free.span()?;
    let least = WINDOW.as_secs_f64() * writes as f64 / free.identities as f64;
    report.add(
        "the same: time from the operator's first write to its last ÷ the least that all writes take",
        span.as_secs_f64() / least,
        "",
        // Whoever waits too long is never in the way.
        Some(Goal::AtMost(1.5)),
        format!(
            "{:.1} s ÷ {least:.1} s: {writes} writes to {} identities, one after the other to each",
            span.as_secs_f64(),
            free.identities
        ),
    );
    Ok(())
}

/// Two clusters at the same identities.
struct Contest {
    identities: usize,
    /// From the start of the operator to the last write.
    time: Duration,
    puts: Vec<AzureRequest>,
}

impl Contest {
    async fn hold(is_throttled: bool) -> Result<Self> {
        let window = WINDOW.as_millis().to_string();
        let stage = Stage::set(&["--write-window-ms", &window]).await?;
        let fleet = Fleet::of("contested", 16);
        fleet.prepare(&stage.lab, &stage.client).await?;
        let emulator = stage.lab.emulator();
        emulator
            .config(&json!({ "throttle": is_throttled }))
            .await?;
        fleet.apply(&stage.client).await?;

        let start = Timestamp::now();
        let operator = stage.operator("5m").await?;
        let ours = ready(&stage, &fleet, &operator);
        let azure = stage.lab.azure().await?;
        let mut identities: Vec<String> = fleet.members().map(|member| member.identity).collect();
        identities.dedup();
        let theirs = |writes, between, again| {
            let each = identities.iter();
            let each = each.map(|identity| write_theirs(&azure, identity, writes, between, again));
            try_join_all(each)
        };
        if is_throttled {
            let theirs = theirs(THEIRS, 15 * SECOND, SECOND);
            tokio::try_join!(ours, theirs)?;
        } else {
            // They are in the way as long as there is somebody.
            tokio::select! {
                ours = ours => ours?,
                theirs = theirs(usize::MAX, 3 * WINDOW, WINDOW / 20) => drop(theirs?),
            }
        }

        let mut puts = emulator.requests(0).await?;
        puts.retain(|put| put.operation.as_deref() == Some("credential.put"));
        let last = puts.iter().rfind(|put| put.status < 300);
        let last = at(last.context("nothing was written")?)?;
        Ok(Self {
            identities: identities.len(),
            time: last.duration_since(start).unsigned_abs(),
            puts,
        })
    }

    fn puts(&self, are_meant: impl Fn(&AzureRequest) -> bool) -> usize {
        self.puts.iter().filter(|put| are_meant(put)).count()
    }

    /// From the operator's first write to its last.
    fn contested(&self) -> &[AzureRequest] {
        let puts = &self.puts;
        let first = puts.iter().position(AzureRequest::is_operators);
        let last = puts.iter().rposition(AzureRequest::is_operators);
        first
            .zip(last)
            .map_or(&[], |(first, last)| &puts[first..=last])
    }

    /// What the other cluster wrote meanwhile.
    fn theirs(&self) -> usize {
        let theirs = self.contested().iter().filter(|put| !put.is_operators());
        theirs.filter(|put| put.status < 300).count()
    }

    /// What both wrote meanwhile, and how long that was.
    fn span(&self) -> Result<(usize, Duration)> {
        let puts = self.contested();
        let writes = puts.iter().filter(|put| put.status < 300).count();
        let ends = puts.first().zip(puts.last());
        let (first, last) = ends.context("the operator wrote nothing")?;
        Ok((writes, at(last)?.duration_since(at(first)?).unsigned_abs()))
    }

    /// How many of the operator's were refused like this.
    fn refused(&self, status: u16) -> usize {
        self.puts(|put| put.is_operators() && put.status == status)
    }
}

fn at(request: &AzureRequest) -> Result<Timestamp> {
    Ok(request.time.as_str().unwrap_or_default().parse()?)
}

async fn ready(stage: &Stage, fleet: &Fleet, operator: &Operator) -> Result<()> {
    let began = Instant::now();
    while fleet.ready(&stage.client).await? < fleet.objects {
        ensure!(
            began.elapsed() < LIMIT,
            "not all are ready:\n{}",
            lab::tail(&operator.log(), 20)
        );
        sleep(SECOND).await;
    }
    Ok(())
}

/// So many writes of the other cluster to one identity; what was refused is written again.
async fn write_theirs(
    azure: &Azure<'_>,
    identity: &str,
    writes: usize,
    between: Duration,
    again: Duration,
) -> Result<()> {
    for n in 0..writes {
        let account = n % THEIRS;
        let subject = format!("system:serviceaccount:elsewhere:account-{account}");
        let name = format!("theirs-{account}");
        let issuer = "https://oidc.example/other/";
        let put = || azure.put_credential(identity, &name, issuer, &subject);
        while put().await.is_err() {
            sleep(again).await;
        }
        sleep(between).await;
    }
    Ok(())
}
