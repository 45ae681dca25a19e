//! One object on an idle system: from apply to Ready.

use std::time::{Duration, Instant};

use airflow_workload_identity::api::AirflowWorkloadIdentity;
use anyhow::{Context, Result};
use kube::{Api, api::PostParams, runtime::wait::await_condition};
use tokio::time::{sleep, timeout};

use crate::{
    fleet::{Fleet, is_ready},
    report::{Goal, Report},
    stage::Stage,
};

const LIMIT: Duration = Duration::from_secs(30);

pub async fn measure(report: &mut Report, objects: usize) -> Result<()> {
    let stage = Stage::set(&[]).await?;
    let fleet = Fleet {
        accounts: 3,
        // Nothing of it is known yet.
        sharing: 1,
        ..Fleet::of("idle", objects)
    };
    fleet.prepare(&stage.lab, &stage.client).await?;
    let operator = stage.operator("5m").await?;
    while operator.get("/readyz").await?.0 != 200 {
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(2)).await;

    let mut taken = Vec::new();
    for member in fleet.members() {
        let api: Api<AirflowWorkloadIdentity> =
            Api::namespaced(stage.client.clone(), &member.namespace);
        let object = Fleet::object(&member, fleet.accounts)?;
        let start = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        let ready = await_condition(
            api,
            &member.name,
            |object: Option<&AirflowWorkloadIdentity>| object.is_some_and(is_ready),
        );
        timeout(LIMIT, ready)
            .await
            .with_context(|| format!("{} is not ready", member.name))??;
        taken.push(start.elapsed().as_secs_f64() * 1000.0);
        sleep(Duration::from_millis(100)).await;
    }
    taken.sort_by(f64::total_cmp);
    let percentile = |of: usize| taken[(taken.len() * of / 100).min(taken.len() - 1)];
    let detail =
        format!("{objects} objects of 3 accounts and an identity each, one after the other");
    let figure = |of: usize| format!("one object, idle system: apply to Ready, p{of}");
    report.add(
        figure(50),
        percentile(50),
        "ms",
        Some(Goal::AtMost(250.0)),
        detail.clone(),
    );
    report.add(figure(99), percentile(99), "ms", None, detail);
    Ok(())
}
