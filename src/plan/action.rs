//! Steps: one effect each, in words that logs and events use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::ByteString;

use super::Ids;
use crate::{
    api::CredentialRecord,
    azure::CredentialProperties,
    model::{CredentialName, FederatedCredential, IdentityId},
    observe::{Existing, PodOwner},
};

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The effect.
    pub action: Action,
    /// Steps, by position, without which it must not be taken.
    pub after: Vec<usize>,
}

/// What has to be looked at again when the turn of a deletion has come, which may be long after it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    /// Nothing.
    Nothing,
    /// Somebody goes by it: this object, which changed, or another.
    Wanted,
    /// A grant covers it again.
    Granted,
}

/// An effect.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Create or replace a federated identity credential.
    PutCredential {
        /// The identity that carries it.
        identity: IdentityId,
        /// Its name.
        name: CredentialName,
        /// What it trusts.
        properties: CredentialProperties,
        /// The credential of that name that is replaced; none: there is none.
        replaces: Option<FederatedCredential>,
    },
    /// Delete a federated identity credential.
    DeleteCredential {
        /// Its record; it is struck from the status afterwards, unless it `may_return`.
        record: CredentialRecord,
        /// The credential as it was seen: nothing else is deleted.
        seen: FederatedCredential,
        /// The identity that carries it.
        identity: IdentityId,
        /// Whether a write of before may still arrive and bring it back.
        may_return: bool,
        /// What keeps it after all, when its turn comes.
        unless: Unless,
    },
    /// Leave a federated identity credential where it is: it is no longer the object's.
    LeaveCredential {
        /// Its record; it is struck from the status afterwards.
        record: CredentialRecord,
        /// The identity that carries it.
        identity: IdentityId,
        /// The credential as it was seen, if it is left to another object, which goes by it; else it is left to the
        /// user, who said so.
        to_another: Option<FederatedCredential>,
    },
    /// Annotate a ServiceAccount.
    Annotate {
        /// The account.
        account: Existing,
        /// The values.
        ids: Ids,
        /// Someone changed by hand what was ours: take it back, if the account is still at this version.
        repair: Option<u64>,
    },
    /// Take the annotations of a ServiceAccount back.
    Release {
        /// The account.
        account: Existing,
    },
    /// Create or replace a Secret.
    WriteSecret {
        /// Its name.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Its data.
        data: BTreeMap<String, ByteString>,
        /// SHA-256 of the data.
        checksum: String,
        /// The version to replace; none: create it.
        replaces: Option<String>,
    },
    /// Delete a Secret that the operator created for this object.
    DeleteSecret(Existing),
    /// Write the Role that lets pods list Secrets, and bind it.
    WriteReaderRole {
        /// The name of the Role and of the `RoleBinding`.
        name: String,
        /// The accounts that it is bound to.
        accounts: BTreeSet<String>,
    },
    /// Delete that Role and its `RoleBinding`.
    DeleteReaderRole {
        /// The name of both.
        name: String,
    },
    /// Roll a workload whose pods started too early.
    Restart {
        /// The workload.
        workload: PodOwner,
        /// Its uid.
        uid: String,
        /// For which change: since when new pods get what these lack.
        change: String,
    },
}

impl Action {
    /// What it is done to: the kind, and the name.
    #[must_use]
    pub fn object(&self) -> (&'static str, &str) {
        match self {
            Self::PutCredential { name, .. } => ("FederatedCredential", name.as_str()),
            Self::DeleteCredential { record, .. } | Self::LeaveCredential { record, .. } => {
                ("FederatedCredential", &record.name)
            }
            Self::Annotate { account, .. } | Self::Release { account } => {
                ("ServiceAccount", &account.name)
            }
            Self::WriteSecret { name, .. } => ("Secret", name),
            Self::DeleteSecret(secret) => ("Secret", &secret.name),
            Self::WriteReaderRole { name, .. } | Self::DeleteReaderRole { name } => ("Role", name),
            Self::Restart { workload, .. } => match workload {
                PodOwner::Deployment(name) => ("Deployment", name),
                PodOwner::StatefulSet(name) => ("StatefulSet", name),
                PodOwner::DaemonSet(name) => ("DaemonSet", name),
            },
        }
    }

    /// Whether a credential is written, deleted or left.
    #[must_use]
    pub fn is_of_credential(&self) -> bool {
        matches!(
            self,
            Self::PutCredential { .. }
                | Self::DeleteCredential { .. }
                | Self::LeaveCredential { .. }
        )
    }
}

/// Without the Secret's values.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What the action does, for logs and events. No Secret value.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutCredential {
                identity,
                name,
                properties,
                ..
            } => write!(
                f,
                "write federated credential {name} for {subject} to identity {identity}",
                subject = properties.subject,
                identity = identity.name(),
            ),
            Self::DeleteCredential {
                record, identity, ..
            } => write!(
                f,
                "delete federated credential {name} for {subject} from identity {identity}",
                name = record.name,
                subject = record.subject,
                identity = identity.name(),
            ),
            Self::LeaveCredential {
                record,
                identity,
                to_another,
            } => write!(
                f,
                "leave federated credential {name} for {subject} on identity {identity}{to}",
                name = record.name,
                subject = record.subject,
                identity = identity.name(),
                to = if to_another.is_some() {
                    " to another object, which goes by it"
                } else {
                    ""
                },
            ),
            Self::Annotate {
                account,
                ids,
                repair,
                ..
            } => write!(
                f,
                "{verb} ServiceAccount {name} with client ID {client}",
                name = account.name,
                verb = if repair.is_some() {
                    "annotate again"
                } else {
                    "annotate"
                },
                client = ids.client,
            ),
            Self::Release { account } => {
                write!(
                    f,
                    "take the annotations of ServiceAccount {} back",
                    account.name
                )
            }
            Self::WriteSecret { name, data, .. } => write!(
                f,
                "write Secret {name} with {keys}",
                keys = data.keys().cloned().collect::<Vec<_>>().join(", "),
            ),
            Self::DeleteSecret(secret) => write!(f, "delete Secret {}", secret.name),
            Self::WriteReaderRole { name, accounts } => write!(
                f,
                "write Role {name} for {accounts}",
                accounts = accounts.iter().cloned().collect::<Vec<_>>().join(", "),
            ),
            Self::DeleteReaderRole { name } => write!(f, "delete Role {name}"),
            Self::Restart { workload, .. } => write!(f, "restart {workload}"),
        }
    }
}
