//! No output of the operator and of its commands, at any level, holds a token or the value of a
//! Secret: everything that they said and wrote in all other tests is searched for all of those that
//! there were. Run by `make test` after the tests, which leave their outputs in `$LAB_OUTPUTS`
//! and the API servers' audit logs in `$LAB_AUDIT_LOGS`.

mod audited;
mod forms;
mod search;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use self::{
    audited::{Audited, read_audit_log},
    forms::forms,
    search::{Search, Sensitive},
};

/// Parts of the origins of values.
const KINDS: [&str; 3] = ["access token", "token of ServiceAccount", "Secret "];

/// The files of a folder that a variable names, and of its folders.
fn files(variable: &str) -> Vec<PathBuf> {
    let folder = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} names the folder that the tests left: make test"));
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn is_emulators(path: &Path) -> bool {
    path.ends_with("azure-emulator.log")
}

/// The access tokens that an emulator issued.
fn issued(log: &Path) -> Vec<Sensitive> {
    let log = fs::read_to_string(log).unwrap();
    let tokens = log.lines().filter_map(|line| {
        line.split_once("issued: access_token=\"")?
            .1
            .split('"')
            .next()
    });
    tokens
        .map(|token| Sensitive {
            origin: "an access token of Azure".into(),
            value: token.into(),
        })
        .collect()
}

/// Of each kind of value, in each of its forms, the search sees one amid a line.
fn assert_canaries_are_found(search: &Search) {
    for kind in KINDS {
        let canary = search.example(kind);
        for (name, form) in forms(&canary.value) {
            let line = [b"2026-01-01T00:00:00Z DEBUG x: y=", form.as_slice(), b"!\n"].concat();
            let found = search.text(&line);
            assert!(!found.is_empty(), "{} is not found {name}", canary.origin);
        }
        let hidden = STANDARD.encode(format!("Bearer {}\n", canary.value));
        assert!(
            !search.text(hidden.as_bytes()).is_empty(),
            "{}",
            canary.origin
        );
        assert!(
            search.text(&canary.value.as_bytes()[1..]).is_empty(),
            "{}",
            canary.origin
        );
    }
}

#[test]
fn no_output_holds_a_token_or_the_value_of_a_secret() {
    let outputs = files("LAB_OUTPUTS");
    let (emulators, outputs): (Vec<_>, Vec<_>) =
        outputs.into_iter().partition(|path| is_emulators(path));
    let mut written = Vec::new();
    let mut sensitive: Vec<Sensitive> = emulators.iter().flat_map(|log| issued(log)).collect();
    let azures = sensitive.len();
    for log in files("LAB_AUDIT_LOGS") {
        let Audited { values, objects } = read_audit_log(&log);
        sensitive.extend(values);
        written.push((log, objects));
    }
    let of = |part: &str| {
        sensitive
            .iter()
            .filter(|one| one.origin.contains(part))
            .count()
    };
    println!(
        "{} outputs, {} audit logs; {azures} access tokens, {} tokens of ServiceAccounts, {} values of Secrets",
        outputs.len(),
        written.len(),
        of("token of ServiceAccount"),
        of("Secret "),
    );

    // There is something to search, and something to find.
    for kind in KINDS {
        assert!(of(kind) > 0, "there was none: {kind}");
    }
    let objects: usize = written.iter().map(|(_, objects)| objects.len()).sum();
    assert!(objects > 0, "nothing was written");
    let search = Search::new(sensitive);
    assert_canaries_are_found(&search);

    let mut lines = BTreeMap::new();
    let mut found: Vec<String> = Vec::new();
    for output in &outputs {
        found.extend(search.file(output, &mut lines));
    }
    for (log, objects) in &written {
        for (line, object) in objects {
            let held = search.text(object.as_bytes()).into_iter();
            found.extend(held.map(|what| format!("{}:{line}: holds {what}", log.display())));
        }
    }
    println!("lines at level trace or debug: {lines:?}");
    for target in [
        "azure_identity",
        "hyper_util",
        "kube_client",
        "reqwest",
        "rustls",
        "tower",
        "typespec_client_core",
    ] {
        assert!(lines.contains_key(target), "{target} logged nothing");
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
