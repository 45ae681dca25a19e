//! ARM ids of managed identities.

use std::fmt;

/// Names that make up the id of a user-assigned identity, in the casing of whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityId {
    /// Subscription id.
    pub subscription: String,
    /// Resource group.
    pub group: String,
    /// Name of the identity.
    pub name: String,
}

impl IdentityId {
    /// Form to compare by: ARM ids are case-insensitive.
    pub fn key(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl fmt::Display for IdentityId {
    /// The managed identity provider answers with a lower-case `resourcegroups`
    /// (examples of the REST specification), whatever was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{}",
            self.subscription, self.group, self.name
        )
    }
}

/// Where a list of identities looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Subscription id.
    pub subscription: String,
    /// Resource group; none for the whole subscription.
    pub group: Option<String>,
}

impl Scope {
    /// Whether the identity lies in this scope.
    pub fn contains(&self, id: &IdentityId) -> bool {
        id.subscription.eq_ignore_ascii_case(&self.subscription)
            && self
                .group
                .as_ref()
                .is_none_or(|group| id.group.eq_ignore_ascii_case(group))
    }

    /// Form to compare by.
    pub fn key(&self) -> String {
        let group = self.group.as_deref().unwrap_or_default();
        format!("/subscriptions/{}/{group}", self.subscription).to_ascii_lowercase()
    }
}
