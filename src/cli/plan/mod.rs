//! `awi plan`: observe, plan, print. What the operator would do, by what the operator does.

mod manifest;
mod report;
mod text;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::bail;
use jiff::Timestamp;
use kube::ResourceExt;

use self::manifest::{Manifest, Proposed};
pub(in crate::cli) use self::report::SEEN_BY_RIGHT;
pub use self::report::{Change, ObjectReport, Obstacle, Origin, Report, Summary, Verb};
use super::{
    Output,
    exit::Found,
    look::{Look, LookArgs, MAX_AGE, check_namespace},
    print,
};
use crate::{
    api::AirflowWorkloadIdentity,
    observe::{Guarded, Stores, observe},
    plan::plan,
};

/// Shows what the operator would change.
///
/// For the objects of a namespace, or for those of a manifest that is not applied. Writes nothing.
///
/// Exit codes: 0 nothing would change, and nothing is wrong; 1 the command failed; 2 something would
/// change; 3 something stands in the way, whether or not something would change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The AirflowWorkloadIdentity. Left out: all of the namespace.
    name: Option<String>,

    /// A manifest to plan for as if it were applied: AirflowWorkloadIdentity and AzureIdentityGrant,
    /// in any number of YAML documents; - for standard input. The API server checks and completes it
    /// in a dry run, for which you need the rights to create and patch those objects.
    #[arg(short, long, value_name = "FILE", conflicts_with = "name")]
    filename: Option<PathBuf>,

    /// How the plan is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    look: LookArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Found> {
    let manifest = args.filename.as_deref().map(Manifest::read).transpose()?;
    let look = args.look.connect().await?;
    let proposed = match manifest {
        Some(manifest) => manifest.propose(&look.client, &look.namespace).await?,
        None => Proposed::default(),
    };
    let report = report(&look, &proposed, args.name.as_deref()).await?;
    print(&match args.output {
        Output::Text if report.objects.is_empty() => {
            format!(
                "No AirflowWorkloadIdentity in namespace {}.\n",
                look.namespace
            )
        }
        Output::Text => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    })?;
    Ok(report.found())
}

/// Plans for what is proposed; if no object is, for those of the namespace.
async fn report(look: &Look, proposed: &Proposed, name: Option<&str>) -> anyhow::Result<Report> {
    let namespaces: BTreeSet<String> = match proposed.objects.as_slice() {
        [] => [look.namespace.clone()].into(),
        objects => objects.iter().filter_map(|(o, _)| o.namespace()).collect(),
    };
    let mut objects = Vec::new();
    let mut notes = BTreeSet::new();
    for namespace in namespaces {
        let stores = look.stores(&namespace).await?;
        check_namespace(&stores, &namespace)?;
        let stores = stores.with_applied(
            proposed
                .objects
                .iter()
                .map(|(object, _)| object.clone())
                .collect(),
            proposed
                .grants
                .iter()
                .map(|(grant, _)| grant.clone())
                .collect(),
        );
        notes.extend(look.blind_spot(&stores));
        objects.extend(in_namespace(look, proposed, &namespace, name, &stores).await?);
    }
    Ok(Report::new(objects, notes.into_iter().collect()))
}

async fn in_namespace(
    look: &Look,
    proposed: &Proposed,
    namespace: &str,
    name: Option<&str>,
    stores: &Stores,
) -> anyhow::Result<Vec<ObjectReport>> {
    let origin = |object: &str| {
        let mut proposed = proposed.objects.iter();
        let found = proposed
            .find(|(p, _)| p.name_any() == object && p.namespace().as_deref() == Some(namespace));
        found.map(|(_, origin)| *origin)
    };
    let is_meant = |object: &Guarded<AirflowWorkloadIdentity>| match name {
        Some(name) => object.name_any() == name,
        None => proposed.objects.is_empty() || origin(&object.name_any()).is_some(),
    };
    let mut all: Vec<_> = stores.objects.all().filter(is_meant).collect();
    all.sort_by_key(ResourceExt::name_any);
    if let (Some(name), true) = (name, all.is_empty()) {
        bail!("there is no AirflowWorkloadIdentity {name} in namespace {namespace}");
    }
    let mut reports = Vec::new();
    for object in all {
        let name = object.name_any();
        let origin = origin(&name).unwrap_or(Origin::Applied);
        reports.push(match &object.0 {
            Ok(object) => planned(look, stores, object, origin).await,
            Err(invalid) => ObjectReport::unreadable(namespace, name, &invalid.error),
        });
    }
    Ok(reports)
}

/// Plans for one object.
pub(super) async fn planned(
    look: &Look,
    stores: &Stores,
    object: &AirflowWorkloadIdentity,
    origin: Origin,
) -> ObjectReport {
    let sources = look.sources(stores.clone());
    let snapshot = observe(&sources, object, MAX_AGE).await;
    ObjectReport::new(&snapshot, &plan(&snapshot), origin, Timestamp::now())
}
