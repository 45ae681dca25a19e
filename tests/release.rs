//! The version stands in Cargo.toml; wherever else it stands, it is the same. And what a release runs is pinned.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below these folders and files.
fn files(roots: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found
}

/// What follows `before`, wherever it stands, as far as it looks like a version.
fn versions_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    text.split(before)
        .skip(1)
        .map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default())
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .map(|version| version.trim_end_matches('.'))
        .collect()
}

#[test]
fn the_chart_has_the_version() {
    let chart: Value =
        serde_saphyr::from_str(&read("charts/airflow-workload-identity/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], VERSION, "Chart.yaml, version");
    assert_eq!(chart["appVersion"], VERSION, "Chart.yaml, appVersion");
}

#[test]
fn every_image_that_is_named_has_the_version() {
    let mut named = Vec::new();
    for file in files(&["README.md", "docs", "charts", "deploy"]) {
        for version in versions_after(&read(&file), "airflow-workload-identity:") {
            assert_eq!(version, VERSION, "the image's tag in {}", file.display());
            named.push(file.clone());
        }
    }
    for file in [
        "README.md",
        "docs/aks.md",
        "charts/airflow-workload-identity/Chart.yaml",
        "deploy/base/operator.yaml",
    ] {
        assert!(
            named.contains(&file.into()),
            "{file} names no image airflow-workload-identity:{VERSION}"
        );
    }
}

#[test]
fn the_changelog_begins_with_the_version() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog.lines().find(|line| line.starts_with("## "));
    assert!(
        newest.is_some_and(|line| line.starts_with(&format!("## [{VERSION}] - "))),
        "CHANGELOG.md begins with {newest:?}, not with \"## [{VERSION}] - <date or Unreleased>\""
    );
}

#[test]
fn the_plugins_manifest_takes_its_version_from_the_tag() {
    let manifest = read(".krew.yaml");
    assert!(manifest.contains("\n  version: {{ .TagName }}\n"));
    assert!(!manifest.contains(VERSION));
}

#[test]
fn the_workflows_run_actions_by_commit_and_compile_as_the_image_does() {
    let rust = read("Dockerfile");
    let rust = versions_after(&rust, "library/rust:")[0];
    let rust = rust.split('-').next().unwrap();
    let mut compiled_with = Vec::new();
    for file in files(&[".github/workflows"]) {
        let text = read(&file);
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            let is_pinned = action.split_once('@').is_some_and(|(_, after)| {
                let (commit, version) = after.split_once(" # v").unwrap_or_default();
                commit.len() == 40
                    && commit.bytes().all(|b| b.is_ascii_hexdigit())
                    && !version.is_empty()
            });
            assert!(
                is_pinned || action.starts_with("./"),
                "{}: {action} is not pinned as @<commit> # v<version>",
                file.display()
            );
        }
        compiled_with.extend(
            versions_after(&text, "RUST: \"")
                .iter()
                .map(ToString::to_string),
        );
    }
    assert_eq!(
        compiled_with,
        [format!("{rust}.0")],
        "RUST in .github/workflows"
    );
}
