//! The inputs that the fuzzer once found, and those that were written by hand, on any compiler.

use std::{fs, panic, path::Path};

use fuzz::TARGETS;

#[test]
fn what_was_found_once_holds_for_ever() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        let files = fs::read_dir(corpus.join(target)).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 5, "{target} has next to no corpus");
        for file in files {
            println!("{}", file.display());
            let input = fs::read(&file).unwrap();
            if panic::catch_unwind(|| check(&input)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "see above: {failed:?}");
}

#[test]
fn every_target_can_be_fuzzed() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<_> = fs::read_dir(programs)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_owned())
        .collect();
    programs.sort();
    assert_eq!(programs, TARGETS.map(|(target, _)| target));
}
