//! The operator dies at each of its writes, and the next one makes good whatever it left behind. Between the
//! operator and both APIs stands a proxy. It counts the writes of a scenario; then, for each of them, the operator
//! is killed before it arrives, and after it was done, and started again. What there is is looked at after every
//! write, before and after the death; and the end has to be what the scenario says that its user asked for (`end.rs`),
//! and in all else that of the undisturbed run; or, if the user took the change back meanwhile, its beginning.
//!
//! `make chaos` runs all of it; a share of it belongs to `make test`.

#![allow(clippy::too_many_lines, reason = "tables")]

mod attempt;
mod audit;
mod end;
mod picture;
mod scenario;
mod stage;

use std::{env, path::Path, time::Instant};

use anyhow::Result;
use attempt::{Attempt, Death};
use futures::{StreamExt, stream};
use kube::Client;
use lab::{Lab, LabOptions};
use scenario::{Scenario, scenarios};

/// Attempts at a time: they mostly wait.
const AT_A_TIME: usize = 6;

/// What came of all attempts.
#[derive(Default)]
struct Tally {
    recovered: usize,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.recovered += other.recovered;
        self.failures.extend(other.failures);
    }
}

async fn play(lab: &Lab, client: &Client, scenario: &Scenario, step: usize) -> Tally {
    let mut tally = Tally::default();
    let awi = Path::new(env!("CARGO_BIN_EXE_awi"));
    let attempt = Attempt {
        lab,
        client,
        awi,
        scenario,
    };
    let reference = match attempt.undisturbed().await {
        Ok(reference) => reference,
        Err(error) => {
            tally.failures.push(format!("{}: {error:?}", scenario.name));
            return tally;
        }
    };
    let n = reference.writes.len();
    println!("{}: {n} writes", scenario.name);
    let mut deaths = vec![Death::Before, Death::After];
    if scenario.can_be_undone {
        deaths.push(Death::AfterAndUndone);
    }
    let all = reference
        .writes
        .iter()
        .enumerate()
        .flat_map(|(k, write)| deaths.iter().map(move |death| (k, write, *death)));
    // Where three kinds of death take turns, a step that three does not divide meets all of them.
    let chosen = all
        .enumerate()
        .filter(|(place, _)| place % step == 0)
        .map(|(_, one)| one);
    let attempts = chosen.map(|(k, write, death)| {
        let (attempt, reference) = (&attempt, &reference);
        async move {
            let what = format!("{} {}/{n} {death:?} {write}", scenario.name, k + 1);
            let name = format!("{}-{}", k + 1, format!("{death:?}").to_lowercase());
            let started = Instant::now();
            let ended = attempt.fatal(reference, &name, write, death).await;
            let word = if ended.is_ok() { "recovered" } else { "FAILED" };
            println!("{what}: {word}, {:.1?}", started.elapsed());
            (what, ended)
        }
    });
    let mut attempts = stream::iter(attempts).buffer_unordered(AT_A_TIME);
    while let Some((what, ended)) = attempts.next().await {
        match ended {
            Ok(()) => tally.recovered += 1,
            Err(error) => tally.failures.push(format!("{what}: {error:?}")),
        }
    }
    tally
}

/// Plays these scenarios, so many at once, and of each of them every so-manieth death.
async fn play_all(scenarios: &[(Scenario, usize)], at_once: usize) -> Result<Tally> {
    let options = LabOptions {
        // Writes to one identity that overlap at all are refused.
        emulator_args: ["--write-window-ms", "30"].map(str::to_owned).into(),
        ..LabOptions::default()
    };
    let lab = Lab::start(options).await?;
    let client = lab.client().await?;
    let mut tally = Tally::default();
    let played = scenarios
        .iter()
        .map(|(scenario, step)| play(&lab, &client, scenario, *step));
    let mut played = stream::iter(played).buffer_unordered(at_once);
    while let Some(one) = played.next().await {
        tally.add(one);
    }
    let trespasses = audit::trespasses(&lab).await?;
    tally.failures.extend(
        trespasses
            .into_iter()
            .map(|trespass| format!("not its business: {trespass}")),
    );
    Ok(tally)
}

fn judge(tally: &Tally) {
    let Tally {
        recovered,
        failures,
    } = tally;
    println!("{recovered} recovered, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_crashes_leaves_nothing_behind() {
    // One death of each kind in the middle of much, and the one that once left a Role behind.
    let share = [("identity", 11), ("backend", 14), ("issuer-names", 5)];
    let mut all = scenarios();
    let share = share.map(|(name, step)| {
        let place = all.iter().position(|scenario| scenario.name == name);
        (all.swap_remove(place.unwrap()), step)
    });
    judge(&play_all(&share, share.len()).await.unwrap());
}

/// `CHAOS=identity,delete` picks scenarios.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos: it takes many minutes"]
async fn no_crash_leaves_anything_behind() {
    let picked = env::var("CHAOS").unwrap_or_default();
    let picked: Vec<&str> = picked.split_terminator(',').map(str::trim).collect();
    let names: Vec<_> = scenarios().iter().map(|scenario| scenario.name).collect();
    for name in &picked {
        assert!(
            names.contains(name),
            "CHAOS={name}: there is no such scenario; there are {}",
            names.join(",")
        );
    }
    let is_picked = |scenario: &Scenario| picked.is_empty() || picked.contains(&scenario.name);
    let all = scenarios().into_iter().filter(is_picked);
    let all: Vec<_> = all.map(|scenario| (scenario, 1)).collect();
    judge(&play_all(&all, 1).await.unwrap());
}
