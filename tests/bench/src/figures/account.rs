//! One more account for every object of a converged fleet.

use std::time::{Duration, Instant};

use airflow_workload_identity::api::{AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus};
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
    stage::Stage,
};

/// Until the operator has done it for `fleet`, on which it has converged.
pub async fn by_operator(
    stage: &Stage,
    fleet: &Fleet,
    at_once: usize,
) -> Result<(Duration, Calls)> {
    let mut trail = Trail::begin(&stage.lab).await?;
    let start = Timestamp::now();
    patch_all(&stage.client, &more(fleet), at_once).await?;
    trail.until_quiet().await?;
    let ready = fleet.ready(&stage.client).await?;
    ensure!(ready == fleet.objects, "only {ready} are ready");
    let end = trail.last_write.context("it wrote nothing")?;
    let calls = trail.calls().await?.clone();
    let statuses = "patch airflowworkloadidentities/status";
    calls.ensure(&[
        (statuses, 2 * fleet.objects),
        ("patch serviceaccounts", fleet.objects),
        ("credential.put", fleet.objects),
    ])?;
    ensure!(
        calls.of(statuses) < 3 * fleet.objects,
        "this machine is too slow: the status of each object was due once more meanwhile, since it is two minutes \
         old; fewer --objects help"
    );
    Ok((end.duration_since(start).unsigned_abs(), calls))
}

/// Until `bare` has done it.
pub async fn by_bare(
    stage: &Stage,
    bare: &Bare,
    fleet: &Fleet,
    at_once: usize,
    status: &AirflowWorkloadIdentityStatus,
) -> Result<Duration> {
    let more = more(fleet);
    let start = Instant::now();
    // As the operator does: while they are still being changed.
    tokio::try_join!(
        patch_all(&stage.client, &more, at_once),
        bare.add_account(fleet, at_once, status),
    )?;
    Ok(start.elapsed())
}

fn more(fleet: &Fleet) -> Fleet {
    Fleet {
        accounts: fleet.accounts + 1,
        ..fleet.clone()
    }
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
