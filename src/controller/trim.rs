//! What is kept in memory of what is watched: the least that a pass needs.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{ConfigMap, PodSpec, PodTemplateSpec, ServiceAccount},
};
use kube::{Resource, api::ObjectMeta, core::PartialObjectMeta};

use crate::{
    api::{CLIENT_ID_ANNOTATION, RESTART_ANNOTATIONS, TENANT_ID_ANNOTATION},
    observe::POD_TEMPLATES,
};

/// Keeps names and labels.
pub(super) fn metadata<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().annotations = None;
}

/// Keeps the pod template of the KubernetesExecutor.
pub(super) fn config(config: &mut ConfigMap) {
    metadata(config);
    config.binary_data = None;
    if let Some(data) = &mut config.data {
        data.retain(|key, _| POD_TEMPLATES.contains(&key.as_str()));
    }
}

/// Keeps what says who owns our two annotations.
pub(super) fn account(account: &mut PartialObjectMeta<ServiceAccount>) {
    let ours = |key: &str| key == CLIENT_ID_ANNOTATION || key == TENANT_ID_ANNOTATION;
    let metadata = account.meta_mut();
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| ours(key));
    }
    if let Some(entries) = &mut metadata.managed_fields {
        entries.retain(|entry| {
            let fields = entry
                .fields_v1
                .as_ref()
                .map(|f| &f.0["f:metadata"]["f:annotations"]);
            fields
                .and_then(|fields| fields.as_object())
                .is_some_and(|fields| {
                    fields
                        .keys()
                        .any(|key| key.strip_prefix("f:").is_some_and(ours))
                })
        });
    }
}

pub(super) fn deployment(deployment: &mut Deployment) {
    deployment.status = None;
    let template = deployment.spec.as_mut().map(|spec| &mut spec.template);
    workload(&mut deployment.metadata, template);
}

pub(super) fn stateful_set(set: &mut StatefulSet) {
    set.status = None;
    let template = set.spec.as_mut().map(|spec| &mut spec.template);
    workload(&mut set.metadata, template);
}

/// Keeps a workload's labels, the account of its pods, and what it was restarted for.
fn workload(metadata: &mut ObjectMeta, template: Option<&mut PodTemplateSpec>) {
    metadata.managed_fields = None;
    metadata.annotations = None;
    if let Some(template) = template {
        let metadata = restarts(template);
        let account = template
            .spec
            .take()
            .and_then(|spec| spec.service_account_name);
        *template = PodTemplateSpec {
            spec: Some(PodSpec {
                service_account_name: account,
                ..PodSpec::default()
            }),
            metadata,
        };
    }
}

fn restarts(template: &mut PodTemplateSpec) -> Option<ObjectMeta> {
    let mut annotations = template.metadata.take()?.annotations?;
    annotations.retain(|key, _| key.starts_with(RESTART_ANNOTATIONS));
    (!annotations.is_empty()).then(|| ObjectMeta {
        annotations: Some(annotations),
        ..ObjectMeta::default()
    })
}
