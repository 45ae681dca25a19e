//! The documents say what is there: links lead somewhere, each reason and each alert is explained, and the `az`
//! commands are commands of the real CLI.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents() -> Vec<PathBuf> {
    let folders = [".", "docs", "deploy", "charts/airflow-workload-identity"];
    folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// A document without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(document: &Path) -> BTreeSet<String> {
    let text = prose(&read(document));
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(anchor).collect()
}

/// Where the links of a document lead.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    for document in documents() {
        for link in links(&prose(&read(&document))) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.clone()
            } else {
                document.with_file_name(file)
            };
            assert!(target.exists(), "{}: {link}", document.display());
            assert!(
                heading.is_empty() || anchors(&target).contains(heading),
                "{}: {link}: there is no such heading",
                document.display()
            );
        }
    }
}

#[test]
fn every_reason_is_explained() {
    let source = read("src/api/conditions.rs");
    let (_, reasons) = source.split_once("pub enum Reason {").unwrap();
    let (reasons, _) = reasons.split_once("\n}").unwrap();
    let reasons: Vec<&str> = reasons
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .collect();
    assert!(reasons.contains(&"NotGranted"));
    for document in ["README.md", TROUBLESHOOTING] {
        let text = read(document);
        for reason in &reasons {
            assert!(
                text.contains(&format!("`{reason}`")),
                "{document} does not explain {reason}"
            );
        }
    }
}

#[test]
fn every_alert_leads_to_its_heading_and_no_heading_to_an_alert_that_is_gone() {
    let rules: Value =
        serde_saphyr::from_str(&read("charts/airflow-workload-identity/files/alerts.yaml"))
            .unwrap();
    let rules = rules["groups"].as_array().unwrap().iter();
    let rules = rules.flat_map(|group| group["rules"].as_array().unwrap());
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap().to_owned();
        let runbook = format!("{TROUBLESHOOTING}#{}", anchor(&alert));
        assert_eq!(rule["annotations"]["runbook"], runbook, "{alert}");
        alerts.insert(alert);
    }
    let text = read(TROUBLESHOOTING);
    let headings = text.lines().filter_map(|line| line.strip_prefix("### Awi"));
    let headings: BTreeSet<String> = headings.map(|rest| format!("Awi{rest}")).collect();
    assert_eq!(headings, alerts, "the headings of {TROUBLESHOOTING}");
}

#[test]
fn every_az_command_is_one_of_the_real_cli() {
    let python = lab::python("azcli", "tests/azcli/requirements.txt").unwrap();
    let output = Command::new(python)
        .arg("tests/azcli/documented.py")
        .args(documents())
        .env(
            "AZURE_CONFIG_DIR",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/azure"),
        )
        .env("AZURE_CORE_COLLECT_TELEMETRY", "no")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
