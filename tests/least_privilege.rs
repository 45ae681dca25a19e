//! What the operator did in all other tests, as the API servers' audit logs tell, is what the chart
//! grants it: every right is used, and nothing else was tried. Run by `make test` after the tests,
//! which leave the logs in `$LAB_AUDIT_LOGS`.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use lab::{AuditEntry, parse_audit_log, repository, tool};
use serde::Deserialize;
use serde_json::Value;

const NAME: &str = "airflow-workload-identity";

/// A right, as a rule of a role gives it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    /// With its subresource; or a URL.
    resource: String,
    /// One namespace, if not everywhere.
    namespace: Option<String>,
    /// One object, if not all.
    name: Option<String>,
}

impl Right {
    /// Whether a request needs it.
    fn allows(&self, request: &Self) -> bool {
        self.verb == request.verb
            && self.group == request.group
            && self.resource == request.resource
            && (self.namespace.is_none() || self.namespace == request.namespace)
            && (self.name.is_none() || self.name == request.name)
    }
}

/// What a request needs. What is applied and was not there is created, too.
fn needed(entry: &AuditEntry) -> Vec<Right> {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let resource = match (entry.resource.as_str(), entry.subresource.as_str()) {
        ("", _) => entry.request_uri.clone(),
        (resource, "") => resource.to_owned(),
        (resource, sub) => format!("{resource}/{sub}"),
    };
    let right = Right {
        verb: entry.verb.clone(),
        group: entry.group.clone(),
        resource,
        namespace: some(&entry.namespace),
        name: some(&entry.name),
    };
    let created = Right {
        verb: "create".into(),
        name: None,
        ..right.clone()
    };
    let applied = entry.verb == "patch" && entry.code == 201;
    [right]
        .into_iter()
        .chain(applied.then_some(created))
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    verbs: Vec<String>,
}

impl Rule {
    fn rights(&self, namespace: Option<&str>) -> Vec<Right> {
        let mut names: Vec<Option<&String>> = self.resource_names.iter().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        let mut rights = Vec::new();
        for verb in &self.verbs {
            let right = |group: &str, resource: &String, name: Option<&String>| Right {
                verb: verb.clone(),
                group: group.to_owned(),
                resource: resource.clone(),
                namespace: namespace.map(str::to_owned),
                name: name.cloned(),
            };
            for group in &self.api_groups {
                for resource in &self.resources {
                    rights.extend(names.iter().map(|name| right(group, resource, *name)));
                }
            }
            rights.extend(
                self.non_resource_urls
                    .iter()
                    .map(|url| right("", url, None)),
            );
        }
        rights
    }
}

/// What the chart gives to the operator's ServiceAccount, by the real helm.
fn granted(namespace: &str, values: &[&str]) -> BTreeSet<Right> {
    let chart = repository().join("charts").join(NAME);
    let mut helm = Command::new(tool("helm").unwrap());
    helm.args(["template", NAME])
        .arg(chart)
        .args(["--namespace", namespace]);
    for value in values
        .iter()
        .chain(&["azure.credential=managed-identity", "image.repository=x"])
    {
        helm.args(["--set", value]);
    }
    let output = helm.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();

    let is_ours = |subject: &Value| subject["name"] == NAME && subject["namespace"] == namespace;
    let mut rights = BTreeSet::new();
    for binding in &objects {
        let subjects = binding["subjects"].as_array();
        if !subjects.is_some_and(|subjects| subjects.iter().any(is_ours)) {
            continue;
        }
        let to = &binding["roleRef"];
        let role = objects.iter().find(|role| {
            let namespace = &role["metadata"]["namespace"];
            role["kind"] == to["kind"]
                && role["metadata"]["name"] == to["name"]
                && (namespace.is_null() || *namespace == binding["metadata"]["namespace"])
        });
        let rules = role.unwrap()["rules"].clone();
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
        let namespace = binding["metadata"]["namespace"].as_str();
        rights.extend(rules.iter().flat_map(|rule| rule.rights(namespace)));
    }
    rights
}

/// The requests of a ServiceAccount in all labs.
fn audited(account: &str) -> Vec<AuditEntry> {
    let folder = std::env::var("LAB_AUDIT_LOGS")
        .expect("LAB_AUDIT_LOGS names the folder with the other tests' audit logs: make test");
    let logs: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let parse = |log: &PathBuf| parse_audit_log(&std::fs::read_to_string(log).unwrap()).unwrap();
    let entries = logs.iter().flat_map(parse);
    entries.filter(|entry| entry.user == account).collect()
}

#[test]
fn each_right_that_the_chart_gives_is_used_and_nothing_else_was_tried() {
    // Where the tests installed the operator, and with which options.
    let installed: [(&str, &[&str]); 3] = [
        (
            NAME,
            &[
                "readerRole.enabled=true",
                "exchangeVerification.enabled=true",
                "workloadRestarts.enabled=true",
            ],
        ),
        ("awi-plain", &[]),
        (
            "awi-team",
            &[
                "readerRole.enabled=true",
                "exchangeVerification.enabled=true",
                "watchNamespaces={team-a,team-b}",
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (namespace, values) in installed {
        let account = format!("system:serviceaccount:{namespace}:{NAME}");
        let entries = audited(&account);
        // What was refused, too: an API server that has just started knows no roles yet, and those
        // of a release that was uninstalled are gone; but nothing else may be asked for.
        let tried: BTreeSet<Right> = entries.iter().flat_map(needed).collect();
        let allowed = entries.iter().filter(|entry| !entry.is_forbidden);
        let used: BTreeSet<Right> = allowed.flat_map(needed).collect();
        let granted = granted(namespace, values);
        let is_used = |right: &&Right| used.iter().any(|request| right.allows(request));
        let is_granted = |request: &&Right| granted.iter().any(|right| right.allows(request));
        println!(
            "{account}: {} rights, {} requests, {} of them different",
            granted.len(),
            entries.len(),
            used.len()
        );
        let idle = granted.iter().filter(|right| !is_used(right));
        wrong.extend(idle.map(|right| format!("{account} never used {right:?}")));
        let more = tried.iter().filter(|request| !is_granted(request));
        wrong.extend(more.map(|right| format!("{account} tried without a right {right:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
