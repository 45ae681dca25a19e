//! What stands in the way of a step, and when it is worth another try: the one table that
//! decides what is retryable.

use std::time::Duration;

use crate::{
    api::Reason,
    azure::{AzureError, AzureErrorKind},
    model::IdentityId,
};

/// Why a step is not done, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The condition's reason.
    pub reason: Reason,
    /// What happened, to which object, and what to do about it.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

/// When a step is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// When the object, or something that it watches, changes.
    OnChange,
    /// Somebody has to do something first, where no watch can see it: seldom.
    Slow,
    /// It passes by itself: soon, then less and less often.
    Backoff,
    /// Not before this time.
    After(Duration),
}

/// First and longest wait for what passes by itself.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// First and longest wait for what somebody has to do first.
const SLOW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

impl Retry {
    /// How long to wait, if `attempts` failed before this one; none if only a change helps.
    #[must_use]
    pub fn wait(self, attempts: u32) -> Option<Duration> {
        let exponential = |(first, longest): (Duration, Duration)| {
            let doubled = first.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX));
            doubled.min(longest)
        };
        match self {
            Self::OnChange => None,
            Self::Slow => Some(exponential(SLOW)),
            Self::Backoff => Some(exponential(BACKOFF)),
            Self::After(wait) => Some(wait),
        }
    }
}

impl Problem {
    /// A problem that only a change of the cluster's objects solves.
    #[must_use]
    pub fn on_change(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::OnChange,
        }
    }

    /// Azure refused or failed to do `what` with `identity`.
    #[must_use]
    pub fn azure(what: &str, identity: &IdentityId, error: &AzureError) -> Self {
        use AzureErrorKind as Kind;
        let (reason, retry, advice) = match error.kind {
            Kind::ConcurrentWrite => (Reason::AzureBusy, Retry::Backoff, "Another writer is changing the identity; it is tried again.".into()),
            Kind::Outdated => (Reason::AzureBusy, Retry::Backoff, "Read again.".into()),
            Kind::DuplicateSubject => (Reason::Conflict, Retry::Backoff, "Another credential of the identity trusts the same account; read again.".into()),
            Kind::LimitReached => (Reason::LimitReached, Retry::Slow, format!("Azure allows 20 credentials per identity. Delete one that nobody needs: {}", identity.az_list())),
            Kind::Invalid => (Reason::AzureRefused, Retry::Slow, "Azure refuses the request as it is.".into()),
            Kind::UnsupportedRegion => (Reason::AzureRefused, Retry::Slow, "Azure offers no federated credentials in the identity's region; use an identity of another region.".into()),
            Kind::NotFound => (Reason::IdentityNotFound, Retry::Slow, missing(identity).into()),
            Kind::Forbidden => (Reason::AzureForbidden, Retry::Slow, role(identity)),
            Kind::ApplicationsOff => (Reason::ApplicationsOff, Retry::Slow, "A cluster administrator can start it with that flag; docs/azure.md says what this opens.".into()),
            Kind::PolicyDenied => (Reason::AzurePolicy, Retry::Slow, "An Azure Policy limits the issuers of federated credentials; exempt the identity or allow the cluster's issuer.".into()),
            Kind::Locked => (Reason::AzureLocked, Retry::Slow, format!("Remove the delete lock that covers the identity: az lock list --resource {identity}")),
            Kind::Throttled => (Reason::AzureThrottled, error.retry_after.map_or(Retry::Backoff, Retry::After), "Azure asks to slow down; it is tried again.".into()),
            Kind::WrongTenant => (Reason::AzureWrongTenant, Retry::Slow, "The identity's subscription belongs to another Entra tenant than the one that the operator signs in to. Use an identity of the operator's tenant, or run an operator that signs in to the other one.".into()),
            Kind::Unauthenticated => (Reason::AzureUnauthenticated, Retry::Slow, "Azure does not accept the operator's own sign-in. Check the federated credential, client ID and tenant ID of the operator's ServiceAccount.".into()),
            Kind::Unavailable => (Reason::AzureUnavailable, Retry::Backoff, "Azure cannot be reached or is out of order; it is tried again.".into()),
            Kind::Unexpected => (Reason::AzureRefused, Retry::Slow, "Azure answered in a way that the operator does not know.".into()),
        };
        Self {
            reason,
            message: format!(
                "{what}: {error}. {advice}",
                error = error.to_string().trim_end_matches('.')
            ),
            retry,
        }
    }

    /// The API server refused or failed to do `what`.
    #[must_use]
    pub fn cluster(what: &str, error: &ClusterError) -> Self {
        let retry = match error {
            ClusterError::Api(kube::Error::Api(status))
                if matches!(status.code, 400..=404 | 422) =>
            {
                Retry::Slow
            }
            _ => Retry::Backoff,
        };
        Self {
            reason: Reason::ClusterError,
            message: format!("{what}: {error}. It is tried again."),
            retry,
        }
    }
}

/// The first line of a message, for a log of one line per decision: a condition holds the rest, and
/// what Azure says cannot pass for a line of ours.
#[must_use]
pub fn headline(message: &str) -> &str {
    message.split(['\n', '\r']).next().unwrap_or_default()
}

/// What the operator's identity needs, and the command that gives it.
fn role(identity: &IdentityId) -> String {
    match identity {
        IdentityId::Managed(id) => format!(
            "Give the operator's identity the role: az role assignment create \
             --role 'Managed Identity Federated Identity Credential Contributor' \
             --assignee-object-id <its object ID> --assignee-principal-type ServicePrincipal \
             --scope {id}"
        ),
        IdentityId::Application(id) => format!(
            "Give the operator's service principal the Microsoft Graph permission \
             Application.ReadWrite.OwnedBy, and make it an owner: az ad app owner add --id {id} \
             --owner-object-id <its object ID>"
        ),
    }
}

fn missing(identity: &IdentityId) -> &'static str {
    match identity {
        IdentityId::Managed(_) => {
            "Create the identity, or correct spec.identity.managedIdentity.resourceId."
        }
        IdentityId::Application(_) => {
            "Create the application in the operator's tenant, or correct spec.identity.application.appId."
        }
    }
}

/// A request to the API server that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API server refused, or was out of reach.
    #[error("{}", text(.0))]
    Api(#[from] kube::Error),
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
}

/// kube's own text repeats the whole answer in Rust's debug form.
fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        // serde's own text repeats the value that it did not expect.
        kube::Error::SerdeError(error) => format!(
            "its answer is not what was expected, at line {} column {}",
            error.line(),
            error.column()
        ),
        other => chain(other),
    }
}

/// An error with its causes, each of which is said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl ClusterError {
    /// Whether the API server answered with this HTTP status.
    #[must_use]
    pub fn is_status(&self, code: u16) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == code)
    }
}

/// Bounds a request to the API server: kube sets no read timeout of its own.
///
/// # Errors
/// The request failed, or took more than 30 seconds.
pub async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    const LIMIT: Duration = Duration::from_secs(30);
    tokio::time::timeout(LIMIT, request)
        .await
        .map_err(|_| ClusterError::Timeout(LIMIT))?
        .map_err(ClusterError::Api)
}
