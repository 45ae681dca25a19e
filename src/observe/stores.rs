//! What is watched: one read-only view over all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Account, Discovery, Existing, Guarded, Pod, PodOwner, Restartable, WatchedAccount, WatchedPod,
    WatchedSecret, WatchedWorkload,
    discovery::{self, Inventory, Template},
    grants::Grants,
    named_identity,
    objects::{Left, Objects, Stub},
    packed::{Mark, Marks},
    records,
    watched::Watched,
};
use crate::{
    api::{
        AirflowWorkloadIdentity, AzureIdentityGrant, AzureIdentityGrantSpec, CredentialRecord,
        account_field_manager, restart_annotation,
    },
    grant,
    model::{FederatedCredential, IdentityId, Issuer, Subject},
    secrets::wanted_secrets,
};

/// All of it, filled by the controller's watches.
#[derive(Clone)]
pub struct Stores {
    /// Our objects, also those that do not parse.
    pub objects: Objects,
    /// Grants, also those that do not parse: they grant nothing.
    pub grants: Grants,
    /// The labels of namespaces, for the grants that select by them.
    pub namespaces: Watched<BTreeMap<String, String>>,
    /// All ServiceAccounts.
    pub accounts: Watched<WatchedAccount>,
    /// All Secrets, without what they hold.
    pub secrets: Watched<WatchedSecret>,
    /// Workloads, of which some are Airflow's.
    pub deployments: Watched<WatchedWorkload>,
    /// Workloads, of which some are Airflow's.
    pub stateful_sets: Watched<WatchedWorkload>,
    /// What may hold the pods of a KubernetesExecutor, by label selector.
    pub configs: Vec<Watched<Template>>,
    /// All pods that have not ended.
    pub pods: Watched<WatchedPod>,
}

impl Stores {
    /// Waits until everything was listed once: a grant that is not there yet must not look like
    /// one that was taken away.
    pub async fn ready(&self) {
        self.objects.filled().await;
        self.grants.filled().await;
        self.namespaces.filled().await;
        self.accounts.filled().await;
        self.secrets.filled().await;
        self.deployments.filled().await;
        self.stateful_sets.filled().await;
        for configs in &self.configs {
            configs.filled().await;
        }
        self.pods.filled().await;
    }

    /// The same as if these had been applied: what has one of their names is another now.
    #[must_use]
    pub fn with_applied(
        &self,
        objects: Vec<AirflowWorkloadIdentity>,
        grants: Vec<AzureIdentityGrant>,
    ) -> Self {
        Self {
            objects: Objects::listed(overlay(self.objects.all(), objects)),
            grants: {
                let known = self.grants.all().into_iter().map(Arc::unwrap_or_clone);
                Grants::listed(&overlay(known, grants))
            },
            ..self.clone()
        }
    }

    /// An issuer that an object has credentials on record for, and that is none of `known`.
    #[must_use]
    pub fn issuer_on_record_beside(&self, known: &BTreeSet<Issuer>) -> Option<String> {
        let is_known = |issuer: &str| known.iter().any(|known| known.as_str() == issuer);
        self.objects.all().find_map(|object| {
            let object = object.0.ok()?;
            let mut issuers = records(&object).map(|(_, record)| &record.issuer);
            issuers.find(|issuer| !is_known(issuer)).cloned()
        })
    }

    /// References to all objects that parse.
    #[must_use]
    pub fn references(&self) -> Vec<ObjectRef<Stub>> {
        self.objects.references()
    }

    /// References to the objects of a namespace that parse.
    #[must_use]
    pub fn references_in(&self, namespace: &str) -> Vec<ObjectRef<Stub>> {
        self.objects.references_in(namespace)
    }

    /// References to the objects of a namespace that parse, have one of the marks, and satisfy `predicate`.
    pub fn marked<'a>(
        &self,
        namespace: &str,
        marks: impl IntoIterator<Item = Mark<'a>>,
        predicate: impl Fn(&AirflowWorkloadIdentity) -> bool,
    ) -> Vec<ObjectRef<Stub>> {
        let marks = marks.into_iter().collect();
        let readable = self.objects.marked(namespace, marks);
        let readable = readable.filter_map(|object| object.0.ok());
        readable
            .filter(|object| predicate(object))
            .map(|object| ObjectRef::new(&object.name_any()).within(namespace))
            .collect()
    }

    /// Whether something of the namespace runs its pods under this account.
    #[must_use]
    pub fn runs_under(&self, namespace: &str, account: &str) -> bool {
        let deployments = self.deployments.in_namespace(namespace).into_iter();
        let stateful_sets = self.stateful_sets.in_namespace(namespace).into_iter();
        let mut running = deployments.chain(stateful_sets);
        let mut templates = self
            .configs
            .iter()
            .flat_map(|configs| configs.in_namespace(namespace));
        running.any(|(_, running)| running.workload.account == account)
            || templates.any(|(_, template)| {
                matches!(&*template, Template::Of(workload) if workload.account == account)
            })
    }

    /// Whether a grant lets the account use the identity now.
    #[must_use]
    pub fn is_granted(&self, identity: &IdentityId, namespace: &str, account: &str) -> bool {
        grant::covers_account(&self.grants_for(identity, namespace), account)
    }

    /// The grants that let the namespace use the identity.
    pub(super) fn grants_for(
        &self,
        identity: &IdentityId,
        namespace: &str,
    ) -> Vec<AzureIdentityGrantSpec> {
        self.grants.covering(identity, &self.namespace(namespace))
    }

    fn namespace(&self, name: &str) -> grant::Namespace {
        let labels = self.namespaces.get("", name);
        grant::Namespace {
            name: name.to_owned(),
            labels: labels.map(|labels| (*labels).clone()),
        }
    }

    /// The accounts that the object asks for, as far as they are known.
    #[must_use]
    pub fn discover(&self, namespace: &str, object: &AirflowWorkloadIdentity) -> Discovery {
        let templates = self.configs.iter();
        let mut workloads = self.deployments.in_namespace(namespace);
        workloads.extend(self.stateful_sets.in_namespace(namespace));
        let inventory = Inventory {
            workloads,
            templates: templates
                .flat_map(|configs| configs.in_namespace(namespace))
                .collect(),
            accounts: self.accounts.in_namespace(namespace),
        };
        discovery::discover(&object.spec.airflow, object.status.as_ref(), &inventory)
    }

    /// Accounts that carry the object's annotations but are not among `wanted`.
    pub(super) fn left_behind(
        &self,
        namespace: &str,
        object: &AirflowWorkloadIdentity,
        wanted: &[Account],
    ) -> Vec<Existing> {
        let manager = account_field_manager(&object.name_any());
        let accounts = self.accounts.in_namespace(namespace).into_iter();
        accounts
            .filter(|(_, account)| account.state.is_managed_by(&manager))
            .filter(|(name, _)| !wanted.iter().any(|account| account.name == *name))
            .map(|(name, account)| Existing {
                name,
                uid: account.state.uid.clone(),
            })
            .collect()
    }

    /// Whether nobody goes by this credential of the object's: the object asks for what it did, and no other one goes by
    /// it.
    #[must_use]
    pub fn is_unwanted(
        &self,
        object: &AirflowWorkloadIdentity,
        identity: &IdentityId,
        credential: &FederatedCredential,
    ) -> bool {
        let namespace = object.namespace().unwrap_or_default();
        let now = self.objects.get(&namespace, &object.name_any());
        let generation = now.and_then(|now| now.0.ok()?.metadata.generation);
        let discovery = self.discover(&namespace, object);
        let claims = self.claimed_by_others(object, &discovery);
        generation == object.metadata.generation && !is_among(&claims, identity, credential)
    }

    /// Leaves a credential that the object has on record to those who go by it; returns whether anybody does. From then
    /// on it is known that the object does not: or two could each leave it to the other.
    #[must_use]
    pub fn leave(
        &self,
        object: &AirflowWorkloadIdentity,
        identity: &IdentityId,
        record: &CredentialRecord,
        credential: &FederatedCredential,
    ) -> bool {
        let discovery = self.discover(&object.namespace().unwrap_or_default(), object);
        let mut left = self.objects.left();
        let claims = self.claims(object, &discovery, &left);
        let is_claimed = is_among(&claims, identity, credential);
        if is_claimed {
            let uid = object.uid().unwrap_or_default();
            left.entry(uid).or_default().push(record.clone());
        }
        is_claimed
    }

    /// Of the credentials that the object has on record, those that others go by.
    pub(super) fn claimed_by_others(
        &self,
        object: &AirflowWorkloadIdentity,
        discovery: &Discovery,
    ) -> Vec<(IdentityId, CredentialRecord)> {
        self.claims(object, discovery, &self.objects.left())
    }

    /// Of the credentials that the object has on record, those that others have on record, too, and
    /// still want; or go by, where the object does not ask for the account, until they are let in by
    /// the identity that they move to. What nobody wants any longer must not be left by each to the other.
    fn claims(
        &self,
        object: &AirflowWorkloadIdentity,
        discovery: &Discovery,
        left: &Left,
    ) -> Vec<(IdentityId, CredentialRecord)> {
        let is_deleting = object.metadata.deletion_timestamp.is_some();
        let goes_by_itself = |account: &str| !is_deleting && discovery.asks_for(account);
        let own: Vec<_> = records(object).collect();
        let is_own = |identity: &IdentityId, record: &CredentialRecord| {
            own.iter()
                .any(|(of, own)| of == identity && own.name.eq_ignore_ascii_case(&record.name))
        };
        let namespace = object.namespace().unwrap_or_default();
        let others = self.objects.marked(&namespace, Marks::of_records(object));
        let others = others
            .filter_map(|other| other.0.ok())
            .filter(|other| other.name_any() != object.name_any())
            .filter(|other| other.metadata.deletion_timestamp.is_none());
        let mut claims = Vec::new();
        for other in others {
            let left = left.get(&other.uid().unwrap_or_default());
            let is_left = |record| left.is_some_and(|left| left.contains(record));
            let mut shared: Vec<_> = records(&other)
                .filter(|(identity, record)| is_own(identity, record) && !is_left(record))
                .map(|(identity, record)| (identity, record.clone()))
                .collect();
            if shared.is_empty() {
                continue;
            }
            let identity = named_identity(&other).ok();
            let wanted = self.discover(&namespace, &other);
            shared.retain(|(of, record)| {
                let Some(account) = Subject::account_in(&record.subject, &namespace) else {
                    return false;
                };
                wanted.asks_for(account)
                    && (identity.as_ref() == Some(of)
                        || !goes_by_itself(account)
                            && !is_let_in(&other, identity.as_ref(), &record.subject))
            });
            claims.extend(shared);
        }
        claims
    }

    /// Secrets that were created for the object and that it does not ask for any longer.
    pub(super) fn other_secrets(&self, object: &AirflowWorkloadIdentity) -> Vec<Existing> {
        let wanted = wanted_secrets(object);
        let namespace = object.namespace().unwrap_or_default();
        let secrets = self.secrets.in_namespace(&namespace).into_iter();
        secrets
            .filter(|(_, secret)| secret.is_of(object))
            .filter(|(name, _)| !wanted.iter().any(|wanted| wanted.name == *name))
            .map(|(name, secret)| Existing {
                name,
                uid: secret.uid.clone(),
            })
            .collect()
    }

    /// What runs pods in the namespace and can be restarted; for which change `object` did so last.
    pub(super) fn restartable(
        &self,
        namespace: &str,
        object: &str,
    ) -> BTreeMap<PodOwner, Restartable> {
        let key = restart_annotation(object);
        let state = |workload: &WatchedWorkload| Restartable {
            uid: workload.uid.clone(),
            account: workload.workload.account.clone(),
            restarted_for: workload.restarts.get(&key).cloned(),
        };
        let deployments = self.deployments.in_namespace(namespace).into_iter();
        let deployments = deployments.map(|(name, d)| (PodOwner::Deployment(name), state(&d)));
        let stateful_sets = self.stateful_sets.in_namespace(namespace).into_iter();
        let stateful_sets = stateful_sets.map(|(name, s)| (PodOwner::StatefulSet(name), state(&s)));
        deployments.chain(stateful_sets).collect()
    }

    /// The running pods of each of these accounts; those that are being deleted are on their way out.
    pub(super) fn pods_of(
        &self,
        namespace: &str,
        object: &str,
        accounts: &[Account],
    ) -> BTreeMap<String, Vec<Pod>> {
        let mut pods: BTreeMap<String, Vec<Pod>> = accounts
            .iter()
            .map(|account| (account.name.clone(), Vec::new()))
            .collect();
        for (_, pod) in self.pods.in_namespace(namespace) {
            if let Some(of_account) = pods.get_mut(&pod.account).filter(|_| !pod.is_ending) {
                of_account.push(pod.seen_by(object));
            }
        }
        pods
    }
}

/// Whether one of these is the identity's credential of this name, for the account that it lets in.
fn is_among(
    records: &[(IdentityId, CredentialRecord)],
    identity: &IdentityId,
    credential: &FederatedCredential,
) -> bool {
    records.iter().any(|(of, record)| {
        of == identity && credential.is_named(&record.name) && record.subject == credential.subject
    })
}

/// Whether the identity lets the account of this subject in, and it is annotated, as the object's status says.
fn is_let_in(
    object: &AirflowWorkloadIdentity,
    identity: Option<&IdentityId>,
    subject: &str,
) -> bool {
    let mut recorded = records(object);
    let is_recorded =
        recorded.any(|(on, record)| identity == Some(&on) && record.subject == subject);
    let accounts = object
        .status
        .iter()
        .flat_map(|status| &status.service_accounts);
    let mut accounts = accounts.filter(|account| account.subject == subject);
    is_recorded && accounts.any(|account| account.federated && account.annotated)
}

/// All of them, with `applied` in place of what has their names; of those the last, which is put first.
fn overlay<K>(below: impl Iterator<Item = Guarded<K>>, applied: Vec<K>) -> Vec<Guarded<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let is_applied = |object: &Guarded<K>| {
        applied.iter().any(|other| {
            other.name_any() == object.name_any() && other.namespace() == object.namespace()
        })
    };
    let mut all: Vec<Guarded<K>> = below.filter(|object| !is_applied(object)).collect();
    all.extend(applied.into_iter().rev().map(|object| Guarded(Ok(object))));
    all
}
