//! `awi crd`: the custom resource definitions, from the types.

use std::{fs, path::PathBuf};

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::Value;

use crate::api::{AirflowWorkloadIdentity, AzureIdentityGrant};

/// Where the definitions go.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one file per definition into this folder instead of printing them.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    for crd in [AirflowWorkloadIdentity::crd(), AzureIdentityGrant::crd()] {
        let yaml = yaml(&crd)?;
        match &args.out {
            None => print!("---\n{yaml}"),
            Some(dir) => {
                let name = crd.name_any();
                let file = dir.join(format!("{}.yaml", name.split('.').next().unwrap_or(&name)));
                fs::write(&file, yaml)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
        }
    }
    Ok(())
}

/// The definition as YAML. Optional fields are not nullable, so that the API server takes
/// `field: null` (YAML's `field:` with nothing behind it) for a field that is left out. And there
/// is no `oneOf`: our own rules say the same, in words that help. And descriptions have no line
/// breaks but those between paragraphs: `kubectl explain` sets its own.
fn yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(crd)?;
    simplify(&mut value);
    begin_unobserved(&mut value);
    Ok(serde_saphyr::to_string(&value)?)
}

/// An object that nobody has looked at yet must not pass for one that is done: what waits for it
/// compares generations. <https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus>
fn begin_unobserved(crd: &mut Value) {
    let status = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status");
    if let Some(status) = status {
        status["default"] = serde_json::json!({ "observedGeneration": -1 });
    }
}

fn simplify(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| {
                !(key == "nullable" && value.is_boolean() || key == "oneOf" && value.is_array())
            });
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let paragraphs: Vec<String> = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "))
                    .collect();
                *text = paragraphs.join("\n\n");
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}
