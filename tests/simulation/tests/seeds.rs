//! A seed is a run: whatever else the process does, and whenever.

use std::process::Command;
use std::thread;

use simulation::run;

const SEEDS: [u64; 3] = [3, 16, 31];

fn hashes() -> Vec<u64> {
    let hash = |seed| run(seed, false).map(|report| report.hash);
    SEEDS.map(|seed| hash(seed).expect("it holds")).to_vec()
}

/// Everything that a process tells of a seed.
fn told(seed: u64) -> String {
    let mut simulate = Command::new(env!("CARGO_BIN_EXE_simulate"));
    let told = simulate.args(["--seed", &seed.to_string()]).output();
    let told = told.expect("it runs");
    assert!(told.status.success(), "{told:?}");
    String::from_utf8(told.stdout).expect("text")
}

#[test]
fn one_seed_is_one_run_in_whatever_process() {
    for seed in SEEDS {
        assert_eq!(told(seed), told(seed));
    }
    assert_ne!(told(SEEDS[0]), told(SEEDS[1]));
}

#[test]
fn one_seed_is_one_run_beside_whatever_other_runs() {
    let alone = hashes();
    assert_ne!(alone[0], alone[1]);
    let beside: Vec<_> = (0..3).map(|_| thread::spawn(hashes)).collect();
    for run in beside {
        assert_eq!(run.join().expect("no panic"), alone);
    }
}
