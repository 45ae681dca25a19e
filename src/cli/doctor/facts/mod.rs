//! Reads what the checks go by. What may not be read stays unread, and stops nothing else.

mod admission;
mod issuer;
mod reading;

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease as KubernetesLease};
use kube::{Api, Client, api::ListParams};
use tokio::time::{Instant, sleep};

pub(super) use self::{
    admission::{policies, webhook},
    issuer::issuer,
    reading::reading,
};
use super::{
    cluster::Cluster,
    finding::{Read, Unread},
    operator::{Lease, Operator},
    program::Program,
};
use crate::{api::GROUP, cli::look::Look, leader, problem::bounded};

async fn read<T>(
    object: &str,
    right: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Read<T> {
    bounded(request)
        .await
        .map_err(|error| Unread::new(object, right, &error))
}

pub(super) async fn cluster(client: &Client) -> Cluster {
    let version = read("API server", "get /version", client.apiserver_version()).await;
    Cluster {
        version: version.map(|version| version.git_version),
        kinds: resources(client, &format!("{GROUP}/v1alpha1")).await,
    }
}

/// The resources of a version of a group; none, if it is not served.
async fn resources(client: &Client, version: &str) -> Read<BTreeSet<String>> {
    match bounded(client.list_api_group_resources(version)).await {
        Ok(list) => Ok(list.resources.into_iter().map(|r| r.name).collect()),
        Err(error) if error.is_status(404) => Ok(BTreeSet::new()),
        Err(error) => Err(Unread::new(
            version,
            &format!("get /apis/{version}"),
            &error,
        )),
    }
}

pub(super) async fn operator(look: &Look) -> Operator {
    let namespace = look.operator_namespace.clone();
    let deployments: Api<Deployment> = Api::namespaced(look.client.clone(), &namespace);
    let programs = read(
        &format!("deployments of namespace {namespace}"),
        &format!("list deployments.apps in namespace {namespace}"),
        deployments.list(&ListParams::default()),
    )
    .await;
    let is_operator = |program: &Program| {
        let mut arguments = program.arguments.iter();
        arguments.any(|argument| argument == "run")
            && arguments.any(|argument| argument.starts_with("--leader-election"))
    };
    Operator {
        programs: programs.map(|list| {
            let programs = list.items.iter().filter_map(Program::of);
            programs.filter(is_operator).collect()
        }),
        lease: lease(&look.client, &namespace).await,
        namespace,
    }
}

/// The Lease, and whether it is renewed within the time after which another replica would take it. By
/// this machine's clock only: the holder's may be another.
async fn lease(client: &Client, namespace: &str) -> Read<Option<Lease>> {
    const LOOK: Duration = Duration::from_millis(500);
    let leases: Api<KubernetesLease> = Api::namespaced(client.clone(), namespace);
    let get = async || {
        read(
            &format!("lease/{}", leader::NAME),
            &format!(
                "get leases.coordination.k8s.io {} in namespace {namespace}",
                leader::NAME
            ),
            leases.get_opt(leader::NAME),
        )
        .await
    };
    let Some(first) = get().await? else {
        return Ok(None);
    };
    let holder = |lease: &KubernetesLease| {
        let holder = lease.spec.as_ref()?.holder_identity.clone();
        holder.filter(|holder| !holder.is_empty())
    };
    let mut last = first.clone();
    let since = Instant::now();
    while holder(&last).is_some()
        && last.metadata.resource_version == first.metadata.resource_version
        && since.elapsed() < leader::TTL
    {
        sleep(LOOK).await;
        match get().await? {
            Some(lease) => last = lease,
            None => return Ok(None),
        }
    }
    Ok(Some(Lease {
        holder: holder(&last),
        is_renewed: last.metadata.resource_version != first.metadata.resource_version,
    }))
}
