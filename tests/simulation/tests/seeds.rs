//! A seed is a run: whatever else the process does, and whenever.

use std::thread;

use simulation::run;

const SEEDS: [u64; 3] = [3, 16, 31];

fn hashes() -> Vec<u64> {
    let hash = |seed| run(seed, false).map(|report| report.hash);
    SEEDS.map(|seed| hash(seed).expect("it holds")).to_vec()
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
