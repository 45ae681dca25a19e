//! ServiceAccounts and what they carry.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, ResourceExt, api::ListParams, core::PartialObjectMeta};

use super::{Existing, fields::owners_of, watched::version};
use crate::{
    api::{CLIENT_ID_ANNOTATION, Component, TENANT_ID_ANNOTATION},
    problem::{Problem, bounded},
};

/// A ServiceAccount that the spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The components of Airflow that run under it; none if it was only named.
    pub components: BTreeSet<Component>,
    /// What it carries, if it exists.
    pub state: Option<AccountState>,
}

/// What is kept of every ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedAccount {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it carries of ours.
    pub state: AccountState,
}

impl From<&PartialObjectMeta<ServiceAccount>> for WatchedAccount {
    fn from(account: &PartialObjectMeta<ServiceAccount>) -> Self {
        Self {
            labels: account.labels().clone(),
            state: AccountState::of(account),
        }
    }
}

/// What an existing ServiceAccount carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountState {
    /// Guards a patch against an account that was deleted in between.
    pub uid: String,
    /// Guards a patch that overrules somebody against what was changed in between.
    pub version: u64,
    /// `azure.workload.identity/client-id`.
    pub client_id: Annotation,
    /// `azure.workload.identity/tenant-id`.
    pub tenant_id: Annotation,
}

/// An annotation and who owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Its value.
    pub value: Option<String>,
    /// The field managers that own it.
    pub owners: Vec<FieldOwner>,
}

/// A field manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOwner {
    /// Its name.
    pub manager: String,
    /// Whether it declares the field by server-side apply, and so will again.
    pub applies: bool,
}

/// The accounts of a namespace that carry annotations of `manager` at this moment. What is watched may not
/// show yet what was written last.
pub(super) async fn annotated_by(
    client: &Client,
    namespace: &str,
    manager: &str,
) -> Result<Vec<Existing>, Problem> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let all = bounded(api.list_metadata(&ListParams::default()))
        .await
        .map_err(|error| Problem::cluster("cannot list ServiceAccounts", &error))?;
    let annotated = all
        .into_iter()
        .filter(|account| AccountState::of(account).is_managed_by(manager));
    let existing = |account: PartialObjectMeta<ServiceAccount>| Existing {
        name: account.name_any(),
        uid: account.uid().unwrap_or_default(),
    };
    Ok(annotated.map(existing).collect())
}

impl Account {
    /// Its uid, if it exists.
    #[must_use]
    pub fn uid(&self) -> Option<String> {
        self.state.as_ref().map(|state| state.uid.clone())
    }
}

impl AccountState {
    /// Whether `manager` owns one of the two annotations.
    #[must_use]
    pub fn is_managed_by(&self, manager: &str) -> bool {
        let owners = self.client_id.owners.iter().chain(&self.tenant_id.owners);
        owners.into_iter().any(|owner| owner.manager == manager)
    }

    pub(super) fn of(account: &PartialObjectMeta<ServiceAccount>) -> Self {
        let annotation = |key: &str| Annotation {
            value: account.annotations().get(key).cloned(),
            owners: owners_of(key, account.managed_fields()),
        };
        Self {
            uid: account.uid().unwrap_or_default(),
            version: version(&account.metadata),
            client_id: annotation(CLIENT_ID_ANNOTATION),
            tenant_id: annotation(TENANT_ID_ANNOTATION),
        }
    }
}
