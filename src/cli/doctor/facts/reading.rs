//! What connections are read from: the object's Secrets, and the environments of its pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    super::{
        connections::Reading,
        environment::{Environment, Source, kept},
        finding::Read,
        written::Written,
    },
    read,
};
use crate::{
    observe::{Snapshot, main_container},
    secrets::wanted_secrets,
};

/// What the connections of an object are read from.
pub(in crate::cli::doctor) async fn reading(client: &Client, snapshot: &Snapshot) -> Reading {
    let namespace = &snapshot.namespace;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut written = BTreeMap::new();
    for wanted in wanted_secrets(&snapshot.object) {
        let name = &wanted.name;
        let right = format!("get secrets {name} in namespace {namespace}");
        let found = read(&format!("secret/{name}"), &right, secrets.get_opt(name)).await;
        if let Some(found) = found.transpose() {
            let held = found.map(|secret| Written::of(&secret, &wanted));
            written.insert(wanted.name, held);
        }
    }
    let environments = environments(client, snapshot).await;
    let named: BTreeSet<Source> = environments
        .iter()
        .flatten()
        .flat_map(Environment::sources)
        .cloned()
        .collect();
    let mut sources = BTreeMap::new();
    for source in named {
        let held = variables(client, namespace, &source).await;
        sources.insert(source, held);
    }
    Reading {
        secrets: written,
        environments,
        sources,
    }
}

/// Of the pods that were observed: what runs Airflow in them.
async fn environments(client: &Client, snapshot: &Snapshot) -> Read<Vec<Environment>> {
    let namespace = &snapshot.namespace;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = read(
        &format!("pods of namespace {namespace}"),
        &format!("list pods in namespace {namespace}"),
        pods.list(&ListParams::default()),
    )
    .await?;
    let accounts = snapshot.discovery.accounts.iter();
    let airflows: BTreeSet<&str> = accounts
        .filter(|account| snapshot.discovery.runs_airflow(account))
        .map(|account| account.name.as_str())
        .collect();
    let observed: BTreeSet<&str> = snapshot
        .pods
        .iter()
        .filter(|(account, _)| airflows.contains(account.as_str()))
        .flat_map(|(_, pods)| pods)
        .map(|pod| pod.name.as_str())
        .collect();
    let pods = list.items.iter();
    Ok(pods
        .filter(|pod| observed.contains(pod.name_any().as_str()))
        .filter_map(|pod| Some(Environment::of(&pod.name_any(), main_container(pod)?)))
        .collect())
}

/// The variables that a Secret or ConfigMap holds; none, if there is no such thing.
async fn variables(
    client: &Client,
    namespace: &str,
    source: &Source,
) -> Read<BTreeMap<String, Option<String>>> {
    let held: Vec<(String, String)> = match source {
        Source::Secret(name) => {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let right = format!("get secrets {name} in namespace {namespace}");
            let secret = read(&format!("secret/{name}"), &right, secrets.get_opt(name)).await?;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
            data.into_iter()
                .map(|(key, value)| (key, text(value.0)))
                .collect()
        }
        Source::ConfigMap(name) => {
            let configs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            let right = format!("get configmaps {name} in namespace {namespace}");
            let config = read(&format!("configmap/{name}"), &right, configs.get_opt(name)).await?;
            let data = config.and_then(|config| config.data).unwrap_or_default();
            data.into_iter().collect()
        }
    };
    let variables = held.into_iter().map(|(key, value)| {
        let value = kept(&key, &value);
        (key, value)
    });
    Ok(variables.collect())
}
