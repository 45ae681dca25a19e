//! The API server, and whether it knows our kinds.

use std::collections::BTreeSet;

use super::finding::{Finding, Level, Read};
use crate::api::GROUP;

const CHECK: &str = "cluster";
/// Our kinds, as the API server lists them.
const KINDS: [&str; 2] = ["airflowworkloadidentities", "azureidentitygrants"];

/// What the API server says of itself.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its version.
    pub version: Read<String>,
    /// The resources of our group that it serves.
    pub kinds: Read<BTreeSet<String>>,
}

/// Whether it answers, and serves both kinds.
#[must_use]
pub fn check(cluster: &Cluster) -> Vec<Finding> {
    let version = match &cluster.version {
        Ok(version) => Finding::ok(CHECK, "API server", format!("answers, {version}")),
        Err(unread) => Finding::unread(CHECK, unread),
    };
    vec![version, kinds(&cluster.kinds)]
}

fn kinds(served: &Read<BTreeSet<String>>) -> Finding {
    let served = match served {
        Ok(served) => served,
        Err(unread) => return Finding::unread(CHECK, unread),
    };
    let missing: Vec<&str> = KINDS
        .into_iter()
        .filter(|kind| !served.contains(*kind))
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "CRDs", format!("{} are served", KINDS.join(" and ")));
    }
    Finding::ok(
        CHECK,
        "CRDs",
        format!("{} of group {GROUP} is not served", missing.join(" and ")),
    )
    .at(Level::Error)
    .why("The custom resource definitions are not installed")
    .fix("With Helm crds.enabled=true, else kubectl apply --server-side -k crds/")
}
