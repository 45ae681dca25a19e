//! Azure's documented throttle, and another cluster that writes to the same identities.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use jiff::Timestamp;
use lab::AzureRequest;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// Of one identity: what Azure lets through at once, and then a second.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations#throttling-limits>
const BURST: f64 = 4.0;
const RATE: f64 = 0.25;
/// Credentials that the other cluster writes to each identity.
const THEIRS: usize = 4;
const LIMIT: Duration = Duration::from_secs(300);

pub async fn measure(report: &mut Report) -> Result<()> {
    let stage = Stage::set(&["--write-window-ms", "100"]).await?;
    let fleet = Fleet::of("throttled", 16);
    fleet.prepare(&stage.lab, &stage.client).await?;
    stage
        .lab
        .emulator()
        .config(&json!({ "throttle": true }))
        .await?;
    fleet.apply(&stage.client).await?;

    let start = Timestamp::now();
    let operator = stage.operator("5m").await?;
    let ours = async {
        let began = Instant::now();
        while fleet.ready(&stage.client).await? < fleet.objects {
            anyhow::ensure!(
                began.elapsed() < LIMIT,
                "not all are ready:\n{}",
                lab::tail(&operator.log(), 20)
            );
            sleep(Duration::from_secs(1)).await;
        }
        anyhow::Ok(())
    };
    let azure = stage.lab.azure().await?;
    let mut identities: Vec<String> = fleet.members().map(|member| member.identity).collect();
    identities.dedup();
    let theirs = try_join_all(identities.iter().map(|identity| {
        let azure = &azure;
        async move {
            for n in 0..THEIRS {
                let subject = format!("system:serviceaccount:elsewhere:account-{n}");
                let name = format!("theirs-{n}");
                let issuer = "https://oidc.example/other/";
                while azure
                    .put_credential(identity, &name, issuer, &subject)
                    .await
                    .is_err()
                {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            anyhow::Ok(())
        }
    }));
    tokio::try_join!(ours, theirs)?;

    let mut puts = stage.lab.emulator().requests(0).await?;
    puts.retain(|put| put.operation.as_deref() == Some("credential.put"));
    let done = |put: &AzureRequest| put.status < 300;
    let of = |status: u16| {
        puts.iter()
            .filter(|put| put.is_operators() && put.status == status)
            .count()
    };
    let last = puts
        .iter()
        .rev()
        .find(|put| done(put))
        .context("nothing was written")?;
    let last: Timestamp = last.time.as_str().unwrap_or_default().parse()?;
    let seconds = last.duration_since(start).as_secs_f64();
    let written = puts.iter().filter(|put| done(put)).count();
    let let_through = identities.len() as f64 * (BURST + RATE * seconds);
    report.add(
        "Azure's documented throttle and a second writer: credentials ÷ what the throttle lets through",
        written as f64 / let_through,
        "",
        Some(Goal::AtLeast(0.9)),
        format!(
            "{written} in {seconds:.0} s on {} identities, {:.0} a minute; of the operator's PUTs {} were put off by 429, {} by 409",
            identities.len(),
            written as f64 * 60.0 / seconds,
            of(429),
            of(409),
        ),
    );
    Ok(())
}
