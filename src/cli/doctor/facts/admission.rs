//! What changes new pods: the Azure webhook, and the operator's admission policy.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};

use super::{
    super::{
        finding::Read,
        policies::{Binding, Policies},
        program::Program,
        webhook::{Entry, WEBHOOK, Webhook},
    },
    read, resources,
};
use crate::api::GROUP;

/// The namespaces in which the webhook is: AKS's own, and that of its Helm chart.
const WEBHOOK_NAMESPACES: [&str; 2] = ["kube-system", "azure-workload-identity-system"];
const WEBHOOK_DEPLOYMENT: &str = "azure-wi-webhook-controller-manager";
const ADMISSION: &str = "admissionregistration.k8s.io";

pub(in crate::cli::doctor) async fn webhook(client: &Client) -> Webhook {
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

pub(in crate::cli::doctor) async fn policies(client: &Client) -> Policies {
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
