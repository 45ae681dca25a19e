//! Many objects and few identities: Azure's limits are kept, and nobody starves.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use lab::{AzureRequest, Lab, LabOptions};
use serde_json::{Value, json};

use crate::world::{World, awi, list, often, patient, resource_id, run};

const IDENTITIES: usize = 10;
/// Azure's limit.
const PER_IDENTITY: usize = 20;

/// Accounts, and an object for each.
fn objects(world: &World<'_>, identities: Range<usize>, per_identity: usize) -> Value {
    let one = |identity: usize, n: usize| {
        let name = format!("o-{identity}-{n}");
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": world.ns },
        });
        let mut object = world.object(&name, json!({}));
        object["spec"] = json!({
            "identity": { "managedIdentity": { "resourceId": resource_id(&format!("{}-{identity}", world.ns)) } },
            "airflow": { "serviceAccounts": [name] },
        });
        [account, object]
    };
    let items = identities
        .flat_map(|identity| (0..per_identity).map(move |n| (identity, n)))
        .flat_map(|(identity, n)| one(identity, n));
    list(items)
}

async fn granted_group(world: &World<'_>) {
    let group = world
        .identity
        .split("/providers/")
        .next()
        .unwrap()
        .to_owned();
    world
        .grant(json!({ "identities": [{ "resourceGroupId": group }] }))
        .await;
}

async fn ready(world: &World<'_>) -> usize {
    let status = r#"get awi -o jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
    let statuses = world.kubectl(status).await.unwrap();
    statuses
        .split(' ')
        .filter(|status| *status == "True")
        .count()
}

async fn until_ready(world: &World<'_>, count: usize) {
    for _ in 0..300 {
        if ready(world).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let objects = world.kubectl("get awi").await.unwrap();
    panic!("{objects}\nnot {count} are ready");
}

async fn of_operator(lab: &Lab, operation: &str) -> Vec<AzureRequest> {
    let mut requests = lab.emulator().requests(0).await.unwrap();
    requests.retain(|request| {
        request.operation.as_deref() == Some(operation) && request.is_operators()
    });
    requests
}

async fn written(lab: &Lab) -> Vec<AzureRequest> {
    let mut puts = of_operator(lab, "credential.put").await;
    puts.retain(|put| put.status == 201);
    puts
}

#[test]
fn two_hundred_objects_share_ten_identities_under_azures_documented_throttle() {
    run(async {
        let emulator_args = ["--write-window-ms", "20"].map(str::to_owned).into();
        let lab = Lab::start(LabOptions {
            emulator_args,
            ..LabOptions::default()
        })
        .await
        .unwrap();
        // What is compared far more often than Azure lets it be must hold up nobody.
        let operator = lab.start_operator(awi(), patient()).await.unwrap();
        let world = World::of(&lab, &operator, "crowd").await;
        for identity in 0..=IDENTITIES {
            let id = resource_id(&format!("crowd-{identity}"));
            world.azure().await.put_identity(&id).await.unwrap();
        }
        lab.emulator()
            .config(&json!({ "throttle": true }))
            .await
            .unwrap();
        // All are there before the first may write: they wait for Azure, not for each other's making.
        world
            .apply(&objects(&world, 0..IDENTITIES, PER_IDENTITY))
            .await
            .unwrap();
        granted_group(&world).await;

        // Whoever has an identity of its own does not wait for those who wait for Azure.
        world
            .eventually("Azure throttles", async || {
                let puts = of_operator(&lab, "credential.put").await;
                puts.iter().any(|put| put.status == 429).then_some(())
            })
            .await;
        let bystander = IDENTITIES..IDENTITIES + 1;
        world.apply(&objects(&world, bystander, 1)).await.unwrap();
        let before = written(&lab).await.len();
        let its_own = format!("{}-{IDENTITIES}/", world.ns);
        let place = world
            .eventually("the bystander's credential is written", async || {
                let written = written(&lab).await;
                written.iter().position(|put| put.path.contains(&its_own))
            })
            .await;
        let (meanwhile, left) = (
            place.saturating_sub(before),
            IDENTITIES * PER_IDENTITY - before,
        );
        println!("{meanwhile} of the {left} that waited were written before the bystander's");
        // Azure takes one of each identity in four seconds: it is time as Azure counts it.
        assert!(meanwhile < left / 2, "{meanwhile} of {left} went before it");
        // And whoever waits for a turn says so.
        world
            .eventually("every object says what it waits for", async || {
                let reasons = r#"get awi -o jsonpath={.items[*].status.conditions[?(@.type=="Ready")].reason}"#;
                let reasons = world.kubectl(reasons).await.unwrap();
                let told = reasons.split(' ').filter(|reason| !reason.is_empty());
                (told.count() == IDENTITIES * PER_IDENTITY + 1).then_some(())
            })
            .await;
        until_ready(&world, IDENTITIES * PER_IDENTITY + 1).await;

        let puts = of_operator(&lab, "credential.put").await;
        let of = |status: u16| puts.iter().filter(|put| put.status == status).count();
        assert_eq!(of(201), IDENTITIES * PER_IDENTITY + 1);
        assert_eq!(of(409), 0, "its own writes never overlap");
        // One tells that Azure throttles; the burst that it had saved up may end in another.
        assert!(of(429) <= 3 * IDENTITIES, "{} PUTs were throttled", of(429));
        let lists = of_operator(&lab, "credential.list").await;
        let throttled = lists.iter().filter(|list| list.status == 429).count();
        assert!(
            throttled <= 3 * IDENTITIES,
            "{throttled} LISTs were throttled"
        );
        println!(
            "{} PUTs ({} throttled), {} LISTs ({throttled} throttled)",
            puts.len(),
            of(429),
            lists.len()
        );
    });
}

#[test]
fn another_cluster_that_hammers_the_same_identity_delays_and_breaks_nothing() {
    run(async {
        let emulator_args = ["--write-window-ms", "100"].map(str::to_owned).into();
        let lab = Lab::start(LabOptions {
            emulator_args,
            ..LabOptions::default()
        })
        .await
        .unwrap();
        let operator = lab.start_operator(awi(), often()).await.unwrap();
        let world = World::of(&lab, &operator, "hammered").await;
        let id = resource_id("hammered-0");
        world.azure().await.put_identity(&id).await.unwrap();
        granted_group(&world).await;

        // Until ours has been in its way it writes without a pause, then half of the time; where ours is in
        // its way it comes right after: until ours are done.
        let azure = world.azure().await;
        let (done, refused) = (Cell::new(0), Cell::new(0));
        let hammer = async {
            loop {
                let issuer = "https://oidc.example/other/";
                let write =
                    azure.put_credential(&id, "theirs", issuer, "system:serviceaccount:a:b");
                let (written, puts) = tokio::join!(write, of_operator(&lab, "credential.put"));
                let has_met_ours = puts.iter().any(|put| put.status == 409);
                let (count, pause) = match written {
                    Ok(()) if has_met_ours => (&done, 100),
                    Ok(()) => (&done, 0),
                    Err(_) => (&refused, 1),
                };
                count.set(count.get() + 1);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        };
        let work = async {
            let objects = objects(&world, 0..1, PER_IDENTITY - 1);
            world.apply(&objects).await.unwrap();
            until_ready(&world, PER_IDENTITY - 1).await;
        };
        tokio::select! { () = hammer => {}, () = work => {} }

        let puts = of_operator(&lab, "credential.put").await;
        let of = |status: u16| puts.iter().filter(|put| put.status == status).count();
        assert_eq!(of(201), PER_IDENTITY - 1);
        assert!(of(409) > 0, "the other writer was never in the way");
        println!(
            "ours: 19 written, {} times in the way; theirs: {} and {}",
            of(409),
            done.get(),
            refused.get(),
        );
        let theirs = &world.credentials_of(&id).await["theirs"];
        assert_eq!(theirs.issuer, "https://oidc.example/other/");
    });
}
