//! One more account for every object of a converged fleet.

use std::time::Duration;

use airflow_workload_identity::api::AirflowWorkloadIdentity;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    bare::Bare,
    calls::{Calls, Trail},
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// What it took the operator and the bare client.
pub struct Added {
    ours: Duration,
    bare: Duration,
    calls: Calls,
}

/// Both have converged on `fleet`, each in its stage.
pub async fn add(stage: &Stage, other: &Stage, fleet: &Fleet, at_once: usize) -> Result<Added> {
    let more = Fleet {
        accounts: fleet.accounts + 1,
        ..fleet.clone()
    };
    let mut trail = Trail::begin(&stage.lab).await?;
    let start = Timestamp::now();
    patch_all(&stage.client, &more, at_once).await?;
    trail.until_quiet().await?;
    let ready = fleet.ready(&stage.client).await?;
    ensure!(ready == fleet.objects, "only {ready} are ready");
    let end = trail.last_write.context("it wrote nothing")?;
    let ours = end.duration_since(start).unsigned_abs();
    let calls = trail.calls().await?.clone();

    let status = more.status_of_first(&stage.client).await?;
    let client = Bare::new(&other.lab, other.client.clone()).await?;
    let start = Timestamp::now();
    // As the operator does: while they are still being changed.
    tokio::try_join!(
        patch_all(&other.client, &more, at_once),
        client.add_account(fleet, at_once, &status),
    )?;
    let bare = Timestamp::now().duration_since(start).unsigned_abs();
    println!(
        "  one account more: {:.2} s, the bare client {:.2} s; {calls}",
        ours.as_secs_f64(),
        bare.as_secs_f64()
    );
    Ok(Added { ours, bare, calls })
}

pub fn report(report: &mut Report, fleet: &Fleet, mut rounds: Vec<Added>) {
    let ratio = |added: &Added| added.ours.as_secs_f64() / added.bare.as_secs_f64();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let Some(median) = rounds.get(rounds.len() / 2) else {
        return;
    };
    report.add(
        format!(
            "one account more for each of {} objects: time until all are federated ÷ bare client",
            fleet.objects
        ),
        ratio(median),
        "",
        Some(Goal::AtMost(1.1)),
        format!(
            "{:.1} s ÷ {:.1} s, median of {}: {}",
            median.ours.as_secs_f64(),
            median.bare.as_secs_f64(),
            rounds.len(),
            median.calls
        ),
    );
}

async fn patch_all(client: &Client, fleet: &Fleet, at_once: usize) -> Result<()> {
    let patches = fleet.members().map(|member| async move {
        let api: Api<AirflowWorkloadIdentity> = Api::namespaced(client.clone(), &member.namespace);
        let accounts = member.accounts(fleet.accounts);
        let patch = Patch::Merge(json!({ "spec": { "airflow": { "serviceAccounts": accounts } } }));
        api.patch_metadata(&member.name, &PatchParams::default(), &patch)
            .await?;
        anyhow::Ok(())
    });
    stream::iter(patches)
        .buffer_unordered(at_once)
        .try_collect()
        .await
}
