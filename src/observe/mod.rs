//! Reads the cluster and Azure into a [`Snapshot`]; never writes. What cannot be read becomes a
//! [`Problem`] in the snapshot, so that one broken part does not hide the others.

mod accounts;
mod discovery;
mod exchange;
mod fields;
mod grants;
mod guard;
mod issuer;
mod objects;
mod packed;
mod pods;
mod reader_role;
mod secret;
mod stores;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

pub use accounts::{Account, AccountState, Annotation, FieldOwner, WatchedAccount};
pub use discovery::{
    Discovery, EXECUTOR_SELECTORS, Install, InstallSelector, Template, WatchedWorkload, Workload,
    is_account_name, is_of_an_airflow,
};
pub use exchange::{Exchange, Exchanges, exchanges_of};
pub use grants::Grants;
pub use guard::Guarded;
pub use issuer::IssuerSource;
pub use objects::{Objects, Stub};
pub use packed::Mark;
pub use pods::{Pod, PodContainer, PodOwner, RUNNING, Restartable, WatchedPod, main_container};
pub use reader_role::{
    ReaderRole, reader_role_name, reader_rules, role_problem, wants_reader_role,
};
pub use secret::{SecretState, WatchedSecret, checksum};
pub use stores::Stores;
pub use watched::{Watched, version};

use crate::{
    api::{
        ABANDON_ANNOTATION, AirflowWorkloadIdentity, AzureIdentityGrantSpec, CredentialRecord,
        Reason, account_field_manager,
    },
    azure::{ARRIVES, Identities, MaxAge, View},
    grant,
    issuers::IssuerHistory,
    model::{FederatedCredential, IdentityId, Issuer},
    problem::Problem,
};

/// Everything that can be read.
pub struct Sources {
    /// The API server, for what is not watched.
    pub client: kube::Client,
    /// What is watched.
    pub stores: Stores,
    /// Azure.
    pub identities: Arc<Identities>,
    /// Who signs the cluster's ServiceAccount tokens.
    pub issuer: Arc<IssuerSource>,
    /// Whether Entra takes them, if that is to be tried.
    pub exchanges: Option<Arc<Exchanges>>,
    /// Who signed them before.
    pub history: Arc<IssuerHistory>,
    /// The audience of federated credentials in this cloud.
    pub audience: String,
}

/// All that a plan is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The object with its last status.
    pub object: AirflowWorkloadIdentity,
    /// Its namespace.
    pub namespace: String,
    /// The identity that the spec names.
    pub identity: Result<IdentityId, Problem>,
    /// Per identity, the grants that cover it and the namespace.
    pub grants: BTreeMap<IdentityId, Vec<AzureIdentityGrantSpec>>,
    /// The issuer of the cluster's tokens.
    pub issuer: Result<Issuer, Problem>,
    /// The issuers that the cluster is known to have had.
    pub history: BTreeSet<Issuer>,
    /// The audience of federated credentials.
    pub audience: String,
    /// Azure's side of the identity, if it is granted, and of those that the status records.
    pub azure: BTreeMap<IdentityId, View>,
    /// The ServiceAccounts that the spec asks for, and how they were found.
    pub discovery: Discovery,
    /// Other accounts that carry this object's annotations; all that do, when the object goes.
    pub left_behind: Result<Vec<Existing>, Problem>,
    /// What other objects have on record.
    pub claimed_by_others: Vec<(IdentityId, CredentialRecord)>,
    /// Subjects whose credential was written so lately that Microsoft Graph may not list it yet.
    pub settling: BTreeSet<String>,
    /// The Secrets that the spec asks for, by name.
    pub secrets: BTreeMap<String, Result<SecretState, Problem>>,
    /// By connection ID, a Secret of somebody else that Airflow could take for the connection.
    pub rival_secrets: BTreeMap<String, String>,
    /// The Role for the connections, if the spec asks for it or did before.
    pub reader_role: Result<Option<ReaderRole>, Problem>,
    /// Other Secrets that this object has created.
    pub stale_secrets: Vec<Existing>,
    /// The pods that run under the accounts, by account.
    pub pods: BTreeMap<String, Vec<Pod>>,
    /// What runs pods in the namespace.
    pub restartable: BTreeMap<PodOwner, Restartable>,
    /// When this was seen.
    pub now: Timestamp,
    /// By account, whether Entra takes its token, as far as it was tried; none if it is not to be.
    pub exchanges: Option<BTreeMap<String, Exchange>>,
}

/// An object that exists. The uid keeps an effect from another object of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Snapshot {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Credentials recorded in the status, with the identity parsed. Garbage is nobody's.
    pub fn records(&self) -> impl Iterator<Item = (IdentityId, &CredentialRecord)> {
        records(&self.object)
    }

    /// Whether the namespace may use the identity that the spec names, at least for some accounts.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        let identity = self.identity.as_ref().ok();
        identity
            .and_then(|id| self.grants.get(id))
            .is_some_and(|grants| !grants.is_empty())
    }

    /// Whether a grant lets the account use the identity.
    #[must_use]
    pub fn covers(&self, identity: &IdentityId, account: &str) -> bool {
        let grants = self
            .grants
            .get(identity)
            .map(Vec::as_slice)
            .unwrap_or_default();
        grant::covers_account(grants, account)
    }

    /// What other objects have on record of this credential.
    pub fn claims<'a>(
        &'a self,
        identity: &'a IdentityId,
        name: &'a str,
    ) -> impl Iterator<Item = &'a CredentialRecord> {
        let claims = self.claimed_by_others.iter();
        claims
            .filter(move |(of, record)| of == identity && record.name.eq_ignore_ascii_case(name))
            .map(|(_, record)| record)
    }

    /// Whether another object goes by this credential, for the account that it lets in.
    #[must_use]
    pub fn is_claimed(&self, identity: &IdentityId, live: &FederatedCredential) -> bool {
        let mut claims = self.claims(identity, &live.name);
        claims.any(|record| record.subject == live.subject)
    }

    /// Whether the user lets go of the credentials.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let abandon = self.object.annotations().get(ABANDON_ANNOTATION);
        abandon.is_some_and(|value| value == "true")
    }

    /// The command by which the user does.
    #[must_use]
    pub fn abandon_command(&self) -> String {
        format!(
            "kubectl annotate awi {name} -n {namespace} {ABANDON_ANNOTATION}=true",
            name = self.name(),
            namespace = self.namespace,
        )
    }

    /// Whether the cluster has, or is known to have had, this issuer.
    #[must_use]
    pub fn is_ours(&self, issuer: &str) -> bool {
        let has = self.issuer.as_ref().is_ok_and(|now| now.as_str() == issuer);
        has || self.history.iter().any(|had| had.as_str() == issuer)
    }

    /// Whether a credential on record was not listed while it may have been on its way still, and would
    /// show by now.
    #[must_use]
    pub fn may_miss_records(&self) -> bool {
        self.records().any(|(identity, record)| {
            self.azure.get(&identity).is_some_and(|view| {
                let mut listed = view.credentials.iter().flatten();
                view.unsettled.includes(&record.name)
                    && view.age > ARRIVES
                    && !listed.any(|credential| {
                        credential.is_named(&record.name)
                            && credential.trusts(&record.issuer, &record.subject)
                            && credential.is_marked != Some(false)
                    })
            })
        })
    }

    /// Whether a write of before may still change the credential of this name, or bring it back.
    #[must_use]
    pub fn is_unsettled(&self, identity: &IdentityId, name: &str) -> bool {
        let view = self.azure.get(identity);
        view.is_some_and(|view| view.unsettled.includes(name))
    }

    /// Whether Microsoft Graph may have a credential for this subject that it does not list yet.
    #[must_use]
    pub fn is_hidden(&self, identity: &IdentityId, subject: &str) -> bool {
        matches!(identity, IdentityId::Application(_)) && self.settling.contains(subject)
    }

    /// Whether everything read from Azure is at most this old.
    #[must_use]
    pub fn is_at_most(&self, age: Duration) -> bool {
        self.azure.values().all(|view| view.age <= age)
    }

    /// Whether all that was to be read from Azure was.
    #[must_use]
    pub fn has_read_azure(&self) -> bool {
        self.azure.values().all(|view| view.credentials.is_ok())
    }
}

/// Reads everything that concerns `object`; from Azure and of the issuer only what is too old by `age`.
pub async fn observe(sources: &Sources, object: &AirflowWorkloadIdentity, age: MaxAge) -> Snapshot {
    let namespace = object.namespace().unwrap_or_default();
    let identity = named_identity(object);
    let named = identity.as_ref().ok().cloned();
    let recorded = records(object).map(|(identity, _)| identity);
    let concerned: BTreeSet<IdentityId> = named.into_iter().chain(recorded).collect();

    let grants: BTreeMap<IdentityId, Vec<AzureIdentityGrantSpec>> = concerned
        .iter()
        .map(|id| (id.clone(), sources.stores.grants_for(id, &namespace)))
        .collect();

    let mut azure = BTreeMap::new();
    for id in concerned {
        // Nobody learns anything about an identity that was not granted to them; what is on
        // record was, and has to be looked at to be taken away.
        let is_new = !records(object).any(|(recorded, _)| recorded == id);
        if is_new && grants[&id].is_empty() {
            continue;
        }
        let view = sources.identities.view(&id, age).await;
        azure.insert(id, view);
    }

    // What cannot be remembered must not be written for.
    let (issuer, history) = match sources.history.all().await {
        Ok(history) => (
            sources.issuer.get(&sources.client, age.wanted).await,
            history,
        ),
        Err(problem) => (Err(problem), BTreeSet::new()),
    };
    let stores = &sources.stores;
    let discovery = stores.discover(&namespace, object);
    let name = object.name_any();
    let left_behind = if object.metadata.deletion_timestamp.is_some() {
        // Nobody looks again for what is overlooked now.
        let manager = account_field_manager(&name);
        accounts::annotated_by(&sources.client, &namespace, &manager).await
    } else {
        Ok(stores.left_behind(&namespace, object, &discovery.accounts))
    };
    let now = Timestamp::now();
    let mut snapshot = Snapshot {
        left_behind,
        claimed_by_others: stores.claimed_by_others(object, &discovery),
        settling: settling(object, now),
        issuer,
        history,
        audience: sources.audience.clone(),
        secrets: secret::observe(&sources.client, &stores.secrets, object).await,
        rival_secrets: secret::rivals(&stores.secrets, object),
        reader_role: reader_role::observe(&sources.client, object).await,
        stale_secrets: stores.other_secrets(object),
        pods: stores.pods_of(&namespace, &name, &discovery.accounts),
        restartable: stores.restartable(&namespace, &name),
        now,
        exchanges: None,
        object: object.clone(),
        namespace,
        identity,
        grants,
        azure,
        discovery,
    };
    snapshot.exchanges = Box::pin(exchange::observe(sources, &snapshot)).await;
    snapshot
}

fn named_identity(object: &AirflowWorkloadIdentity) -> Result<IdentityId, Problem> {
    let identity = &object.spec.identity;
    let named = match (&identity.managed_identity, &identity.application) {
        (Some(managed), None) => managed
            .resource_id
            .parse()
            .map(IdentityId::Managed)
            .map_err(|invalid| format!("managedIdentity: {invalid}")),
        (None, Some(application)) => Ok(IdentityId::Application(application.app_id)),
        _ => Err("set exactly one of managedIdentity and application".to_owned()),
    };
    named.map_err(|message| {
        Problem::on_change(Reason::InvalidSpec, format!("spec.identity: {message}"))
    })
}

/// Graph has replicas that learn of a write later; two minutes is what Microsoft says of Entra.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
const SETTLED: SignedDuration = SignedDuration::from_mins(2);

fn settling(object: &AirflowWorkloadIdentity, now: Timestamp) -> BTreeSet<String> {
    let accounts = object.status.iter().flat_map(|s| &s.service_accounts);
    let fresh = accounts.filter(|account| {
        let written = account.federated_at.as_ref();
        written.is_some_and(|written| now.duration_since(written.0).abs() < SETTLED)
    });
    fresh.map(|account| account.subject.clone()).collect()
}

fn records(
    object: &AirflowWorkloadIdentity,
) -> impl Iterator<Item = (IdentityId, &CredentialRecord)> {
    let recorded = object.status.iter().flat_map(|status| &status.credentials);
    recorded.filter_map(|record| Some((record.identity.parse().ok()?, record)))
}

/// Whether the operator created something for the object with this uid.
#[must_use]
pub fn created_for(metadata: &kube::api::ObjectMeta, uid: Option<&str>) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    uid.is_some_and(|uid| owners.any(|owner| owner.uid == uid && owner.controller == Some(true)))
}
