//! Two replicas: one works; when it ends, hangs or dies, the other does.

use std::time::Instant;

use lab::{Lab, LabOptions, Operator, OperatorOptions};
use serde_json::json;

use crate::world::{World, all, awi, run};

async fn replica(lab: &Lab) -> Operator {
    let options = OperatorOptions {
        resync: "2s".into(),
        extra_args: vec!["--leader-election".into()],
        ..OperatorOptions::default()
    };
    lab.start_operator(awi(), options).await.unwrap()
}

async fn leads(world: &World<'_>, operator: &Operator) {
    world
        .eventually("it leads", async || {
            operator.log().contains("leading").then_some(())
        })
        .await;
}

/// Somebody has to write the worker's credential again.
async fn is_worked_for(world: &World<'_>) {
    let name = world.credential_name("airflow-worker");
    let azure = world.azure().await;
    azure
        .delete_credential(&world.identity, &name)
        .await
        .unwrap();
    world
        .becomes(all(&["worker"]), async || world.federated().await)
        .await;
}

#[test]
fn another_replica_takes_over_from_one_that_ends_hangs_or_dies() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let mut first = replica(&lab).await;
        let world = World::of(&lab, &first, "replicas").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        drop(world);

        let mut second = replica(&lab).await;
        let world = World::existing(&lab, &second, "replicas").await;
        world
            .eventually("it waits", async || {
                second.log().contains("waiting").then_some(())
            })
            .await;
        let ended = Instant::now();
        first.stop().await.unwrap();
        leads(&world, &second).await;
        println!("after a clean end: {:?}", ended.elapsed());
        is_worked_for(&world).await;
        drop(world);

        let mut third = replica(&lab).await;
        let world = World::existing(&lab, &third, "replicas").await;
        let hung = Instant::now();
        second.pause();
        leads(&world, &third).await;
        println!("after a hang: {:?}", hung.elapsed());
        is_worked_for(&world).await;
        drop(world);

        // It wakes, finds that it leads no more, and begins anew.
        second.resume();
        let status = second.ended().await.unwrap();
        assert_eq!(status.code(), Some(1));
        let log = second.log();
        assert!(log.contains("lost the Lease"), "{log}");

        let fourth = replica(&lab).await;
        let world = World::existing(&lab, &fourth, "replicas").await;
        let killed = Instant::now();
        third.kill();
        leads(&world, &fourth).await;
        println!("after a death: {:?}", killed.elapsed());
        is_worked_for(&world).await;
    });
}
