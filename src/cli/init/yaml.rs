//! The description as YAML: what differs from the defaults, and the rest as comments. Pure.

use anyhow::Context;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Description;
use crate::{
    api::AirflowWorkloadIdentity,
    cli::plan::{ObjectReport, Verb},
};

/// The manifest: a grant, if one is missing, and the object. `report` is what applying it comes to.
///
/// # Errors
/// It cannot be written as YAML.
pub fn render(
    description: &Description,
    grant: Option<&str>,
    report: &ObjectReport,
) -> anyhow::Result<String> {
    let Description {
        object, remarks, ..
    } = description;
    let mut text = comments(&opening(report));
    text.push_str("---\n");
    match grant {
        Some(grant) => text.push_str(grant),
        None => text.push_str("# The identity is granted to these accounts already.\n"),
    }
    if grant.is_some() {
        text.push_str("---\n");
    }
    text.push_str(&comments(remarks));
    let mut notes = vec![
        "Adopted credentials are deleted with this object, unless it has spec.federation.deletionPolicy: Retain.".to_owned(),
    ];
    if object.spec.connections.is_empty() {
        notes.push("The connections that Airflow has now stay as they are. To have one written: connections: [{ id: azure_default, azure: {} }]; docs/connections.md has all types.".into());
    }
    text.push_str(&comments(&notes));
    text.push_str(&yaml(object)?);
    Ok(text)
}

/// What applying it does.
fn opening(report: &ObjectReport) -> Vec<String> {
    let adopted = |kind: &str| {
        let changes = report.changes.iter();
        changes
            .filter(|c| c.action == Verb::Adopt && c.kind == kind)
            .count()
    };
    let adopts = format!(
        "Applying this adopts what is there (federated credentials: {}, annotations of ServiceAccounts: {})",
        adopted("FederatedCredential"),
        adopted("ServiceAccount"),
    );
    let changes = report
        .changes
        .iter()
        .filter(|change| change.action != Verb::Adopt && change.kind != "Finalizer")
        .map(|change| format!("  {change}"));
    let problems = report.problems.iter().map(|problem| {
        format!(
            "  ! {} {}: {}",
            problem.condition, problem.reason, problem.message
        )
    });
    let more: Vec<String> = changes.chain(problems).collect();
    let mut lines = if more.is_empty() {
        vec![format!("{adopts}, and changes nothing else.")]
    } else {
        vec![format!("{adopts}, and does more:")]
    };
    lines.extend(more);
    lines.extend(report.notes.iter().cloned());
    lines.push("kubectl awi plan -f <this file> says the same.".into());
    lines
}

/// Whatever the text holds, it stays a comment: YAML ends a line at either character.
fn comments(texts: &[String]) -> String {
    let mut comments = String::new();
    let lines = texts
        .iter()
        .flat_map(|text| text.trim_end().split(['\n', '\r']));
    for line in lines {
        comments.extend(["# ", line, "\n"]);
    }
    comments
}

/// The object with those fields only that differ from the smallest one's.
fn yaml(object: &AirflowWorkloadIdentity) -> anyhow::Result<String> {
    let context = "cannot write the object as YAML";
    let spec = serde_json::to_value(&object.spec).context(context)?;
    let smallest = json!({
        "metadata": {},
        "spec": { "identity": spec["identity"] },
    });
    let smallest: AirflowWorkloadIdentity = serde_json::from_value(smallest).context(context)?;
    let smallest = serde_json::to_value(&smallest.spec).context(context)?;
    let mut differs = without(&spec, &smallest);
    differs["identity"] = spec["identity"].clone();
    let manifest = json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1",
        "kind": "AirflowWorkloadIdentity",
        "metadata": { "name": object.name_any(), "namespace": object.namespace() },
        "spec": differs,
    });
    let on_one_line = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&manifest, on_one_line).context(context)
}

/// The fields that differ.
fn without(value: &Value, default: &Value) -> Value {
    let (Value::Object(fields), Value::Object(defaults)) = (value, default) else {
        return value.clone();
    };
    let differs = fields
        .iter()
        .filter_map(|(key, value)| match defaults.get(key) {
            Some(default) if default == value => None,
            Some(default) => Some((key.clone(), without(value, default))),
            None => Some((key.clone(), value.clone())),
        });
    Value::Object(differs.collect())
}
