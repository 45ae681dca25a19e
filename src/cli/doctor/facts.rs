//! Reads what the checks go by. What may not be read stays unread, and stops nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    coordination::v1::Lease as KubernetesLease,
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use super::{
    cluster::Cluster,
    connections::Reading,
    environment::{Environment, Source, kept},
    finding::{Read, Unread},
    issuer::{Fetch, Issued},
    operator::{Lease, Operator},
    policies::{Binding, Policies},
    program::Program,
    webhook::{Entry, WEBHOOK, Webhook},
    written::Written,
};
use crate::{
    api::GROUP,
    cli::look::Look,
    leader,
    observe::{Snapshot, airflow_containers},
    problem::{ClusterError, bounded, chain},
    secrets::wanted_secrets,
};

/// The namespaces in which the webhook is: AKS's own, and that of its Helm chart.
const WEBHOOK_NAMESPACES: [&str; 2] = ["kube-system", "azure-workload-identity-system"];
const WEBHOOK_DEPLOYMENT: &str = "azure-wi-webhook-controller-manager";
const ADMISSION: &str = "admissionregistration.k8s.io";

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

pub(super) async fn webhook(client: &Client) -> Webhook {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configurations = read(
        "MutatingWebhookConfigurations",
        "list mutatingwebhookconfigurations.admissionregistration.k8s.io",
        configurations.list(&ListParams::default()),
    )
    .await;
    let entries = configurations.map(|list| -> Vec<(Entry, Option<String>)> {
        list.items.iter().flat_map(entries).collect()
    });
    let mut namespaces: BTreeSet<String> = WEBHOOK_NAMESPACES.map(str::to_owned).into();
    let named = entries.iter().flatten();
    namespaces.extend(named.filter_map(|(_, namespace)| namespace.clone()));
    let mut programs = Ok(Vec::new());
    for namespace in namespaces {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        let found = read(
            &format!("deployment/{WEBHOOK_DEPLOYMENT} of namespace {namespace}"),
            &format!("get deployments.apps {WEBHOOK_DEPLOYMENT} in namespace {namespace}"),
            deployments.get_opt(WEBHOOK_DEPLOYMENT),
        )
        .await;
        match (found, &mut programs) {
            (Ok(found), Ok(programs)) => programs.extend(found.as_ref().and_then(Program::of)),
            (Err(unread), Ok(found)) if found.is_empty() => programs = Err(unread),
            // One is enough.
            (Ok(Some(found)), Err(_)) => programs = Ok(Program::of(&found).into_iter().collect()),
            _ => {}
        }
    }
    Webhook {
        entries: entries.map(|entries| entries.into_iter().map(|(entry, _)| entry).collect()),
        programs,
    }
}

/// The webhook's entries, and the namespaces of their Services.
fn entries(configuration: &MutatingWebhookConfiguration) -> Vec<(Entry, Option<String>)> {
    let webhooks = configuration.webhooks.iter().flatten();
    let ours = webhooks.filter(|webhook| webhook.name == WEBHOOK);
    ours.map(|webhook| {
        let entry = Entry {
            configuration: configuration.name_any(),
            is_ignored_on_failure: webhook.failure_policy.as_deref() == Some("Ignore"),
            namespaces: webhook.namespace_selector.clone(),
        };
        let service = webhook.client_config.service.as_ref();
        (entry, service.map(|service| service.namespace.clone()))
    })
    .collect()
}

pub(super) async fn policies(client: &Client) -> Policies {
    let mut served = Ok(None);
    for version in ["v1", "v1beta1"] {
        match resources(client, &format!("{ADMISSION}/{version}")).await {
            Ok(resources) if resources.contains("mutatingadmissionpolicies") => {
                served = Ok(Some(version));
                break;
            }
            Ok(_) => {}
            Err(unread) => served = Err(unread),
        }
    }
    let Ok(Some(version)) = served else {
        return Policies {
            served,
            policies: Ok(Vec::new()),
            bindings: Ok(Vec::new()),
        };
    };
    let policies = list(client, version, "MutatingAdmissionPolicy").await;
    let bindings = list(client, version, "MutatingAdmissionPolicyBinding").await;
    Policies {
        served,
        policies: policies.map(|policies| {
            let is_ours = |policy: &&DynamicObject| {
                let kind = &policy.data["spec"]["paramKind"];
                let group = kind["apiVersion"].as_str().unwrap_or_default();
                kind["kind"] == "AirflowWorkloadIdentity" && group.starts_with(&format!("{GROUP}/"))
            };
            let ours = policies.iter().filter(is_ours);
            ours.map(ResourceExt::name_any).collect()
        }),
        bindings: bindings.map(|bindings| bindings.iter().map(binding).collect()),
    }
}

fn binding(binding: &DynamicObject) -> Binding {
    let spec = &binding.data["spec"];
    let selector = &spec["matchResources"]["namespaceSelector"];
    Binding {
        name: binding.name_any(),
        policy: spec["policyName"].as_str().unwrap_or_default().to_owned(),
        namespaces: serde_json::from_value(selector.clone()).ok(),
    }
}

async fn list(client: &Client, version: &str, kind: &str) -> Read<Vec<DynamicObject>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(ADMISSION, version, kind));
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let right = format!("list {}.{ADMISSION}", resource.plural);
    let list = read(kind, &right, objects.list(&ListParams::default())).await?;
    Ok(list.items)
}

/// `known` is what the operator goes by.
pub(super) async fn issuer(look: &Look, known: Option<String>) -> Issued {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let nobody = || Fetch::Refused("There is no issuer".into());
    let document: Result<Document, Fetch> = match &look.issuer {
        Ok(issuer) => {
            let base = issuer.as_str().trim_end_matches('/');
            fetch(
                &look.http,
                &format!("{base}/.well-known/openid-configuration"),
            )
            .await
        }
        Err(_) => Err(nobody()),
    };
    let keys = match &document {
        Ok(document) if document.jwks_uri.starts_with("https://") => {
            fetch(&look.http, &document.jwks_uri).await.map(Keys::ids)
        }
        Ok(document) => Err(Fetch::Refused(format!(
            "jwks_uri is no https URL: {}",
            document.jwks_uri
        ))),
        Err(_) => Err(nobody()),
    };
    Issued {
        issuer: look.issuer.clone(),
        known,
        is_private_cloud: look.is_private_cloud,
        document: document.map(|document| document.issuer),
        keys,
        own_keys: own_keys(&look.client).await,
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7517#section-5>
#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
}

impl Keys {
    fn ids(self) -> BTreeSet<String> {
        self.keys.into_iter().map(|key| key.kid).collect()
    }
}

async fn own_keys(client: &Client) -> Read<BTreeSet<String>> {
    const PATH: &str = "/openid/v1/jwks";
    let unread = |error| Unread::new("the API server's keys", &format!("get {PATH}"), &error);
    let request = http::Request::get(PATH)
        .body(Vec::new())
        .map_err(|error| unread(ClusterError::Api(kube::Error::HttpError(error))))?;
    let keys: Keys = bounded(client.request(request)).await.map_err(unread)?;
    Ok(keys.ids())
}

/// A JSON document of somebody else's.
async fn fetch<T: DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<T, Fetch> {
    const LIMIT: usize = 1024 * 1024;
    let silent = |error: reqwest::Error| Fetch::NoAnswer(chain(&error));
    let mut answer = client.get(url).send().await.map_err(silent)?;
    if !answer.status().is_success() {
        return Err(Fetch::Refused(format!("{url} answers {}", answer.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        body.extend_from_slice(&chunk);
        if body.len() > LIMIT {
            return Err(Fetch::Refused(format!("{url} does not end")));
        }
    }
    serde_json::from_slice(&body).map_err(|error| Fetch::Refused(format!("{url}: {error}")))
}

/// What the connections of an object are read from.
pub(super) async fn reading(client: &Client, snapshot: &Snapshot) -> Reading {
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
        .flatten()
        .filter(|(account, _)| airflows.contains(account.as_str()))
        .flat_map(|(_, pods)| pods)
        .map(|pod| pod.name.as_str())
        .collect();
    let pods = list.items.iter();
    Ok(pods
        .filter(|pod| observed.contains(pod.name_any().as_str()))
        .flat_map(|pod| {
            let containers = pod.spec.iter().flat_map(airflow_containers);
            containers.map(|container| Environment::of(&pod.name_any(), container))
        })
        .collect())
}

/// The variables that a Secret or ConfigMap holds; none, if there is no such thing.
async fn variables(
    client: &Client,
    namespace: &str,
    source: &Source,
) -> Read<BTreeMap<String, Option<String>>> {
    match source {
        Source::Secret(name) => {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let right = format!("get secrets {name} in namespace {namespace}");
            let secret = read(&format!("secret/{name}"), &right, secrets.get_opt(name)).await?;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
            let variables = data.into_iter();
            Ok(variables
                .map(|(key, value)| {
                    let value = kept(&key, &text(value.0));
                    (key, value)
                })
                .collect())
        }
        Source::ConfigMap(name) => {
            let configs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            let right = format!("get configmaps {name} in namespace {namespace}");
            let config = read(&format!("configmap/{name}"), &right, configs.get_opt(name)).await?;
            let data = config.and_then(|config| config.data).unwrap_or_default();
            let variables = data.into_iter();
            Ok(variables
                .map(|(key, value)| {
                    let value = kept(&key, &value);
                    (key, value)
                })
                .collect())
        }
    }
}
