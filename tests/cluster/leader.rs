//! Two replicas: one works; when it ends, hangs or dies, the other does.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use airflow_workload_identity::apply::write_status;
use axum::http::Method;
use lab::{
    Lab, LabOptions, Operator, OperatorOptions,
    proxy::{Fate, Proxy, Seen, Side},
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::world::{World, all, awi, run};

async fn replica(lab: &Lab) -> Operator {
    let options = OperatorOptions {
        resync: "2s".into(),
        extra_args: vec!["--leader-election".into()],
        ..OperatorOptions::default()
    };
    lab.start_operator(awi(), options).await.unwrap()
}

/// One behind a proxy of its own, which tells who wrote what.
async fn behind(proxy: &Proxy, lab: &Lab) -> Operator {
    let options = OperatorOptions {
        resync: "1s".into(),
        extra_args: vec!["--leader-election".into()],
        ..OperatorOptions::default()
    };
    let options = options.through(proxy);
    lab.start_operator(awi(), options).await.unwrap()
}

fn writes_to_azure(seen: &Seen) -> bool {
    seen.side == Side::Azure && seen.write.is_some()
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
    world.lose_credential("airflow-worker").await;
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

/// A way to the API server that can be cut: then nothing comes through, and nobody is told.
async fn relay(server: &str) -> (String, watch::Sender<bool>) {
    let server = server.trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, mut is_cut) = (server.clone(), is_cut.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => return,
                    _ = is_cut.changed() => {}
                }
                pending::<()>().await;
            });
        }
    });
    (url, cut)
}

#[test]
fn a_leader_without_the_api_server_ends_before_another_begins_and_writes_no_more() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let (way, cut) = relay(&lab.api_server()).await;
        let options = OperatorOptions {
            resync: "1s".into(),
            api_server: Some(way),
            extra_args: vec!["--leader-election".into()],
            ..OperatorOptions::default()
        };
        let mut first = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &first, "partition").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        drop(world);
        let second = replica(&lab).await;

        cut.send_replace(true);
        let since = Instant::now();
        // Azure is in reach, and there is something to write; but nobody may.
        let world = World::existing(&lab, &second, "partition").await;
        let seen = lab.emulator().requests(0).await.unwrap().last().unwrap().n;
        world.lose_credential("airflow-worker").await;
        let status = tokio::select! {
            biased;
            status = first.ended() => status.unwrap(),
            () = leads(&world, &second) => panic!("two lead"),
        };
        println!("the first ended after {:?}", since.elapsed());
        assert_eq!(status.code(), Some(1));
        leads(&world, &second).await;
        println!("the second leads after {:?}", since.elapsed());
        world
            .becomes(all(&["worker"]), async || world.federated().await)
            .await;
        let writes = lab.emulator().requests(seen).await.unwrap();
        let writes = writes
            .iter()
            .filter(|request| request.is_operators() && request.method == "PUT");
        assert_eq!(writes.count(), 1, "it was written once");
    });
}

#[test]
fn a_leader_that_was_paused_in_the_middle_of_a_write_takes_nothing_back_when_it_wakes() {
    run(async {
        // A write takes long enough to be paused in.
        let emulator_args = ["--write-window-ms", "4000"].map(str::to_owned).into();
        let options = LabOptions {
            emulator_args,
            ..LabOptions::default()
        };
        let lab = Lab::start(options).await.unwrap();
        let mut first = replica(&lab).await;
        let world = World::of(&lab, &first, "paused").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        let one = json!({ "airflow": { "components": ["worker"] } });
        world.ready(one).await;
        let second = replica(&lab).await;
        let puts = async || lab.emulator().counts().await.unwrap().of("credential.put");
        let before = puts().await;
        world.lose_credential("airflow-worker").await;
        // Azure has the write, and answers it four seconds later.
        world
            .eventually("a write is under way", async || {
                (puts().await > before).then_some(())
            })
            .await;
        drop(world);
        first.pause();

        let world = World::existing(&lab, &second, "paused").await;
        leads(&world, &second).await;
        world
            .ready(json!({ "airflow": { "components": ["scheduler", "worker"] } }))
            .await;
        let known = world.records("prod").await;
        assert_eq!(known.len(), 2);
        first.resume();
        assert_eq!(first.ended().await.unwrap().code(), Some(1));
        assert_eq!(
            world.records("prod").await,
            known,
            "the second's record holds"
        );
        assert_eq!(world.federated().await, all(&["scheduler", "worker"]));
    });
}

#[test]
fn a_leader_that_the_api_server_turns_away_never_writes_beside_its_successor() {
    run(async {
        let emulator_args = ["--write-window-ms", "100"].map(str::to_owned).into();
        let options = LabOptions {
            emulator_args,
            ..LabOptions::default()
        };
        let lab = Lab::start(options).await.unwrap();
        let (one, two) = (Proxy::start(&lab).unwrap(), Proxy::start(&lab).unwrap());
        // Both in the order in which it arrives.
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let is_cut = Arc::new(AtomicBool::new(false));
        let (first_arrived, second_arrived) = (arrived.clone(), arrived.clone());
        let cut = is_cut.clone();
        one.rule(move |seen| {
            first_arrived.lock().unwrap().push(("first", seen.clone()));
            match seen.side {
                Side::Cluster if cut.load(Ordering::Relaxed) => Fate::Reset,
                _ => Fate::Pass,
            }
        });
        two.rule(move |seen| {
            second_arrived
                .lock()
                .unwrap()
                .push(("second", seen.clone()));
            Fate::Pass
        });

        let mut first = behind(&one, &lab).await;
        let world = World::of(&lab, &first, "turned-away").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        drop(world);
        let second = behind(&two, &lab).await;
        let world = World::existing(&lab, &second, "turned-away").await;
        world
            .eventually("it waits", async || {
                second.log().contains("waiting").then_some(())
            })
            .await;

        // There is always something to write, for whoever may.
        let name = world.credential_name("airflow-worker");
        let azure = world.azure().await;
        let hammer = async {
            loop {
                // Refused while somebody writes.
                let _ = azure.delete_credential(&world.identity, &name).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let hand_over = async {
            one.arrived(writes_to_azure).await;
            is_cut.store(true, Ordering::Relaxed);
            one.cut();
            assert_eq!(first.ended().await.unwrap().code(), Some(1));
            two.arrived(writes_to_azure).await;
        };
        tokio::select! {
            () = hand_over => {}
            () = hammer => {}
        }
        let arrived = arrived.lock().unwrap().clone();
        let is_first = |(who, seen): &(&str, Seen)| *who == "first" && writes_to_azure(seen);
        let is_taken = |(who, seen): &(&str, Seen)| {
            *who == "second" && seen.path.contains("/leases/") && seen.method == Method::PUT
        };
        let last = arrived.iter().rposition(is_first);
        let taken = arrived.iter().position(is_taken);
        assert!(last.is_some() && last < taken, "{last:?} and {taken:?}");
    });
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_has_one_call_in_flight_and_makes_no_other() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let one = Proxy::start(&lab).unwrap();
        let mut first = behind(&one, &lab).await;
        let world = World::of(&lab, &first, "stopped").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world
            .ready(json!({ "airflow": { "components": ["worker"] } }))
            .await;
        drop(world);
        let second = replica(&lab).await;

        one.rule(|seen| {
            if writes_to_azure(seen) {
                Fate::Hold
            } else {
                Fate::Pass
            }
        });
        let world = World::existing(&lab, &second, "stopped").await;
        let three = json!({ "airflow": { "components": ["scheduler", "triggerer", "worker"] } });
        world.prod(three).await;
        let in_flight = one.held(writes_to_azure).await;
        first.pause();
        leads(&world, &second).await;
        world.until("prod", "Ready", "True", "Done").await;
        let accounts = all(&["scheduler", "triggerer", "worker"]);
        assert_eq!(world.federated().await, accounts);
        let known = world.records("prod").await;

        // Its call arrives, late; and when it wakes there is something to write for whoever does not know better.
        // Only its own clock tells it.
        one.rule(|seen| {
            if seen.path.contains("/leases/") {
                Fate::Hang
            } else {
                Fate::Pass
            }
        });
        world.lose_credential("airflow-worker").await;
        first.resume();
        assert_eq!(first.ended().await.unwrap().code(), Some(1));
        let later: Vec<Seen> = one
            .writes()
            .into_iter()
            .filter(|seen| seen.number > in_flight.number)
            .collect();
        assert!(later.is_empty(), "{later:?}");
        world
            .becomes(accounts, async || world.federated().await)
            .await;
        assert_eq!(world.records("prod").await, known);
    });
}

#[test]
fn a_status_that_was_worked_out_before_another_replica_wrote_is_refused() {
    run(async {
        let world = World::new("outdated").await;
        world.ready(json!({})).await;
        let read = world.get("prod").await.unwrap();
        world.kubectl("annotate awi prod note=later").await.unwrap();
        let mut stale = read.status.clone().unwrap();
        stale.credentials.clear();
        let refused = write_status(&world.client, &read, &stale).await;
        let message = refused.unwrap_err().message;
        assert!(message.contains("changed in the meantime"), "{message}");
        assert_eq!(world.records("prod").await.len(), 3);
    });
}
