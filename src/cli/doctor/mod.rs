//! `awi doctor`: observe, check, print. What the pipeline knows is not worked out a second time; the
//! checks are pure, and what they go by is read in one place.

mod cluster;
mod connections;
mod environment;
mod facts;
mod finding;
mod identity;
mod issuer;
mod object;
mod operator;
mod pods;
mod policies;
mod program;
mod webhook;
mod written;

use anyhow::bail;
use kube::ResourceExt;

pub use self::{
    cluster::{Cluster, check as check_cluster},
    connections::{Reading, check as check_connections},
    environment::{Environment, Origin, Own, Source},
    finding::{Diagnosis, Finding, Level, Read, Summary, Unread},
    identity::permission as check_permission,
    issuer::{Fetch, Issued, check as check_issuer},
    object::{Seen, check as check_object},
    operator::{Lease, Operator, Told, check as check_operator},
    pods::check as check_pods,
    policies::{Binding, Policies, Wanted as PolicyWanted, check as check_policies},
    program::Program,
    webhook::{Entry, Wanted as WebhookWanted, Webhook, check as check_webhook},
    written::{Told as ConnectionTold, Written},
};
use super::{
    Output,
    exit::Found,
    look::{Look, LookArgs, MAX_AGE, check_namespace},
    print,
};
use crate::{
    api::AirflowWorkloadIdentity,
    model::IdentityId,
    observe::{Pod, Stores, observe},
    plan::plan,
    status::connection_secret,
};

/// Looks for what keeps Airflow from Azure: cluster, issuer, webhook, policies, grants, permission,
/// quota, each account, each pod, and each connection as Airflow will read it.
///
/// One finding a line: what, why and the fix. Writes nothing. What you may not read is a warning.
///
/// Exit codes: 0 nothing is wrong; 1 the command failed; 3 something is wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The AirflowWorkloadIdentity. Left out: all of the namespace.
    name: Option<String>,

    /// How the findings are printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,

    #[command(flatten)]
    look: LookArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Found> {
    let look = args.look.connect().await?;
    let diagnosis = Diagnosis::new(examine(&look, args.name.as_deref()).await?);
    print(&match args.output {
        Output::Text => diagnosis.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&diagnosis)?),
    })?;
    Ok(diagnosis.found())
}

async fn examine(look: &Look, name: Option<&str>) -> anyhow::Result<Vec<Finding>> {
    let stores = look.stores(&look.namespace).await;
    let objects = match &stores {
        Ok(stores) => {
            check_namespace(stores, &look.namespace)?;
            objects(stores, &look.namespace, name)?
        }
        Err(_) => Objects::default(),
    };
    let mut patients = Vec::new();
    for object in &objects.readable {
        let Ok(stores) = &stores else { break };
        let sources = look.sources(stores.clone());
        let snapshot = observe(&sources, object, MAX_AGE).await;
        let plan = plan(&snapshot);
        patients.push((snapshot, plan));
    }
    let mut statuses = objects.readable.iter().filter_map(|o| o.status.as_ref());
    let known = statuses.find_map(|status| status.issuer.clone());
    let labels = stores.as_ref().ok().and_then(|stores| {
        let labels = stores.namespaces.get("", &look.namespace);
        labels.map(|labels| (*labels).clone())
    });

    let mut findings = check_cluster(&facts::cluster(&look.client).await);
    let told = Told {
        version: env!("CARGO_PKG_VERSION"),
        namespace: look.namespace.clone(),
        issuer: look.issuer.as_ref().ok().map(ToString::to_string),
        audience: look.audience.clone(),
    };
    findings.extend(check_operator(&facts::operator(look).await, &told));
    findings.extend(check_issuer(&facts::issuer(look, known).await));
    let wanted = WebhookWanted {
        namespace: look.namespace.clone(),
        labels: labels.clone(),
        audience: look.audience.clone(),
    };
    findings.extend(check_webhook(&facts::webhook(&look.client).await, &wanted));
    let pods = patients
        .iter()
        .flat_map(|(snapshot, _)| snapshot.pods.values());
    let pods: Vec<&Pod> = pods.flatten().collect();
    let first = objects.readable.first();
    let wanted = PolicyWanted {
        namespace: look.namespace.clone(),
        labels,
        pods,
        secret: first.and_then(connection_secret),
    };
    findings.push(check_policies(
        &facts::policies(&look.client).await,
        &wanted,
    ));

    findings.extend(objects.findings);
    if let Err(error) = &stores {
        let unread = Finding::ok(
            "object",
            format!("namespace/{}", look.namespace),
            "cannot be looked at",
        );
        findings.push(unread.at(Level::Warning).told(&format!("{error:#}")));
    }
    for (snapshot, plan) in &patients {
        let seen = Seen::new(snapshot, plan);
        findings.extend(check_object(&seen));
        if let (Ok(IdentityId::Managed(id)), true) = (&snapshot.identity, snapshot.is_granted()) {
            let may_write = look.identities.may_write(id).await;
            findings.extend(check_permission(&seen, &may_write));
        }
        findings.extend(check_pods(&seen));
        let reading = facts::reading(&look.client, snapshot).await;
        findings.extend(check_connections(&seen, &reading));
    }
    Ok(findings)
}

/// The objects that are asked about.
#[derive(Default)]
struct Objects {
    readable: Vec<AirflowWorkloadIdentity>,
    /// What is to be said of the others.
    findings: Vec<Finding>,
}

fn objects(stores: &Stores, namespace: &str, name: Option<&str>) -> anyhow::Result<Objects> {
    let all = stores.objects.all();
    let mut all: Vec<_> = all
        .filter(|object| name.is_none_or(|name| object.name_any() == name))
        .collect();
    all.sort_by_key(ResourceExt::name_any);
    let mut objects = Objects::default();
    match (all.is_empty(), name) {
        (true, Some(name)) => {
            bail!("there is no AirflowWorkloadIdentity {name} in namespace {namespace}")
        }
        (true, None) => {
            let found = Finding::ok(
                "object",
                format!("namespace/{namespace}"),
                "there is no AirflowWorkloadIdentity",
            );
            objects.findings.push(
                found
                    .at(Level::Warning)
                    .fix("Apply one: README.md, First object; or look elsewhere: -n <namespace>"),
            );
        }
        (false, _) => {}
    }
    for object in all {
        let name = object.name_any();
        match object.0 {
            Ok(object) => objects.readable.push(object),
            Err(invalid) => objects.findings.push(
                Finding::ok(
                    "object",
                    format!("awi/{name}"),
                    "cannot be read, and is left alone",
                )
                .at(Level::Error)
                .why(&invalid.error)
                .fix("Correct it: kubectl explain awi.spec"),
            ),
        }
    }
    Ok(objects)
}
