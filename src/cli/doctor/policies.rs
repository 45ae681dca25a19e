//! The admission policy, which gives new pods the label and the connections.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    finding::{Finding, Level, Read},
    webhook::selects,
};
use crate::{observe::Pod, status::by_hand};

const CHECK: &str = "policies";

/// What there is of the policy.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The newest version in which the cluster serves such policies.
    pub served: Read<Option<&'static str>>,
    /// The names of those whose parameters are our objects.
    pub policies: Read<Vec<String>>,
    /// All bindings.
    pub bindings: Read<Vec<Binding>>,
}

/// A binding of a policy.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The policy that it puts to work.
    pub policy: String,
    /// In which namespaces; none: in all.
    pub namespaces: Option<LabelSelector>,
}

/// Where the policy has to work.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The namespace of the pods.
    pub namespace: String,
    /// Its labels, if they are known.
    pub labels: Option<BTreeMap<String, String>>,
    /// The pods that run there, if they are known.
    pub pods: Vec<&'a Pod>,
    /// The Secret with the connections, if pods take it as variables.
    pub secret: Option<String>,
}

/// Whether new pods of the namespace get label and connections.
#[must_use]
pub fn check(policies: &Policies, wanted: &Wanted) -> Finding {
    let read = (&policies.served, &policies.policies, &policies.bindings);
    let (served, ours, bindings) = match read {
        (Ok(served), Ok(policies), Ok(bindings)) => (served, policies, bindings),
        (Err(unread), ..) | (_, Err(unread), _) | (.., Err(unread)) => {
            return Finding::unread(CHECK, unread);
        }
    };
    let Some(version) = served else {
        return lacking(
            "MutatingAdmissionPolicy",
            "is not served by this cluster",
            "Kubernetes serves it from 1.36, or from 1.34 with the feature switched on".into(),
            format!(
                "Upgrade the cluster, or switch the feature on. {}",
                by_hand(wanted.secret.as_deref())
            ),
            wanted,
        );
    };
    let is_at_work = |binding: &&Binding| {
        let selected = match (&binding.namespaces, &wanted.labels) {
            (Some(selector), Some(labels)) => selects(selector, labels),
            _ => true,
        };
        selected && ours.contains(&binding.policy)
    };
    let binding = bindings.iter().find(is_at_work);
    // Each operator of some namespaces brings a policy of its own.
    let Some(policy) = binding.map(|binding| &binding.policy).or(ours.first()) else {
        return lacking(
            "MutatingAdmissionPolicy",
            "there is none of the operator's",
            format!(
                "The cluster serves {version}, and nothing gives new pods the label and the connections"
            ),
            format!(
                "Install it: helm upgrade with podPolicy.enabled=true, or, where the cluster serves v1, kubectl apply -f deploy/base/pod-policy.yaml. {}",
                by_hand(wanted.secret.as_deref())
            ),
            wanted,
        );
    };
    let namespace = &wanted.namespace;
    let object = format!("mutatingadmissionpolicy/{policy}");
    let is_bound = bindings.iter().any(|binding| binding.policy == *policy);
    match binding {
        Some(binding) => Finding::ok(
            CHECK,
            object,
            format!("at work in namespace {namespace} by binding {}, {version}", binding.name),
        ),
        None if !is_bound => lacking(
            &object,
            "nothing binds it",
            "Without a MutatingAdmissionPolicyBinding a policy does nothing".into(),
            "Install it anew: helm upgrade with podPolicy.enabled=true, or, where the cluster serves v1, kubectl apply -f deploy/base/pod-policy.yaml".into(),
            wanted,
        ),
        None => lacking(
            &object,
            &format!("leaves out namespace {namespace}"),
            "Its bindings select other namespaces".into(),
            format!("Add {namespace} to watchNamespaces of the operator's Helm values"),
            wanted,
        ),
    }
}

/// Whether that is wrong depends on how the pods that run got what they have: if their owner sets it by
/// hand, nothing is.
fn lacking(object: &str, what: &str, why: String, fix: String, wanted: &Wanted) -> Finding {
    let is_by_hand = |pod: &&Pod| pod.label.is_some() && pod.connections.is_none();
    let level = if !wanted.pods.is_empty() && wanted.pods.iter().all(is_by_hand) {
        Level::Warning
    } else {
        Level::Error
    };
    Finding::ok(CHECK, object, what).at(level).why(why).fix(fix)
}
