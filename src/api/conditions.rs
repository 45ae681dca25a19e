//! Condition types and reasons: every word that `kubectl wait` and alerts can build on.

use std::fmt;

use strum::VariantArray;

/// `Ready`, one type per step beneath it, in the order in which the steps are taken, and what is told
/// beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// All steps are done for all accounts.
    Ready,
    /// The identity's client and tenant ID and the cluster's issuer are known.
    IdentityResolved,
    /// An `AzureIdentityGrant` covers the identity, the namespace and the accounts.
    Granted,
    /// Every account has its federated identity credential.
    CredentialsFederated,
    /// Every account carries the client and tenant ID.
    ServiceAccountsAnnotated,
    /// The Secret holds the connections.
    ConnectionsWritten,
    /// Every running pod of the accounts has the token and the connections.
    PodsInjected,
    /// Entra gave a token for each account. Only where the operator was told to ask; `Ready` does not
    /// wait for it: it says that the operator's own work is done.
    ExchangeVerified,
}

impl ConditionType {
    /// The types beneath `Ready`, in the order in which the steps are taken.
    pub const STEPS: [Self; 5] = [
        Self::IdentityResolved,
        Self::Granted,
        Self::CredentialsFederated,
        Self::ServiceAccountsAnnotated,
        Self::ConnectionsWritten,
    ];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a condition is as it is. The README explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, VariantArray)]
pub enum Reason {
    /// The step is done.
    Done,
    /// An earlier step has to succeed first.
    Waiting,
    /// `spec.suspend` is true.
    Suspended,
    /// The object is being deleted, and its traces are being removed.
    Deleting,
    /// The spec holds a value that the schema could not refuse.
    InvalidSpec,

    /// The managed identity does not exist.
    IdentityNotFound,
    /// Azure's client or tenant ID differs from the pinned one.
    IdentityMismatch,
    /// The API server does not tell its issuer, or tells one that Azure cannot use.
    IssuerUnknown,
    /// No grant covers the object.
    NotGranted,

    /// The spec leaves open which Airflow is meant, and there is none in the namespace.
    AirflowNotFound,
    /// The spec leaves open which Airflow is meant, and there is more than one in the namespace.
    AirflowAmbiguous,
    /// No ServiceAccount of the release was found.
    NoServiceAccounts,
    /// A ServiceAccount does not exist yet.
    ServiceAccountMissing,
    /// Someone else owns the annotation, the credential or the Secret.
    Conflict,
    /// The identity carries as many credentials as Azure allows.
    LimitReached,

    /// Entra refuses the account's token for now, as it does while it learns of a new credential.
    Propagating,
    /// The identity has no federated credential, says Entra.
    NoCredentials,
    /// None of the identity's credentials matches the token.
    NoMatchingCredential,
    /// None of them trusts the token's issuer.
    IssuerNotTrusted,
    /// None of them trusts the token's audience.
    AudienceNotTrusted,
    /// None of them trusts the token's subject.
    SubjectNotTrusted,
    /// One of them names the subject in other upper and lower case.
    SubjectCaseDiffers,
    /// The tenant has no application with the client ID.
    ClientNotFound,
    /// Entra does not know the key that signed the token.
    SigningKeyUnknown,
    /// The token is not valid at this time, by Entra's clock.
    TokenTimeInvalid,
    /// Entra cannot read the issuer's documents.
    IssuerUnreachable,
    /// A policy of the Entra tenant forbids the exchange.
    EntraPolicy,
    /// Entra refuses the token for another reason.
    ExchangeRefused,
    /// The operator may not ask the API server for tokens of the accounts.
    TokenRequestForbidden,

    /// Azure does not accept the operator's own token.
    AzureUnauthenticated,
    /// The identity belongs to another Entra tenant than the operator.
    AzureWrongTenant,
    /// The identity is an Entra application, and the operator was not started for those.
    ApplicationsOff,
    /// The operator lacks a role on the identity.
    AzureForbidden,
    /// An Azure Policy refuses the credential.
    AzurePolicy,
    /// A lock keeps the credential from being deleted.
    AzureLocked,
    /// Azure asks to slow down.
    AzureThrottled,
    /// Another writer, perhaps another cluster, is changing the identity.
    AzureBusy,
    /// Azure cannot be reached or answers with a server error.
    AzureUnavailable,
    /// Azure refused the request for another reason.
    AzureRefused,
    /// The API server refused or did not answer.
    ClusterError,

    /// New pods do not get the label: the admission policy is not at work.
    PolicyMissing,
    /// Pods carry the label and got no token: the Azure webhook is not at work.
    WebhookMissing,
    /// The Azure webhook was told to leave out a container of Airflow.
    ContainerSkipped,
    /// The pods' token has another audience than the credential.
    AudienceDiffers,
    /// Pods started before the account or the connections were what they are now.
    PodsOutdated,
    /// The operator may not restart workloads.
    RestartForbidden,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
