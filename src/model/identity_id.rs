//! The Azure identities that a ServiceAccount can be federated with.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{Invalid, ResourceId};

/// What the name of an application begins with; no resource ID begins so.
const APPLICATIONS: &str = "applications/";

/// An Azure identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityId {
    /// A user-assigned managed identity.
    Managed(ResourceId),
    /// An Entra application, by its application (client) ID.
    Application(Uuid),
}

impl IdentityId {
    /// Its name, or the client ID of an application.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Managed(id) => id.name().to_owned(),
            Self::Application(id) => id.to_string(),
        }
    }

    /// The command that lists its credentials.
    #[must_use]
    pub fn az_list(&self) -> String {
        match self {
            Self::Managed(id) => format!("az identity federated-credential list {}", id.az_flags()),
            Self::Application(id) => format!("az ad app federated-credential list --id {id}"),
        }
    }

    /// The command that deletes the credential `name`.
    #[must_use]
    pub fn az_delete(&self, name: &str) -> String {
        match self {
            Self::Managed(id) => format!(
                "az identity federated-credential delete --name {name} {}",
                id.az_flags()
            ),
            Self::Application(id) => format!(
                "az ad app federated-credential delete --id {id} --federated-credential-id {name}"
            ),
        }
    }
}

impl From<ResourceId> for IdentityId {
    fn from(id: ResourceId) -> Self {
        Self::Managed(id)
    }
}

/// As the status records it.
impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Managed(id) => id.fmt(f),
            Self::Application(id) => write!(f, "{APPLICATIONS}{id}"),
        }
    }
}

impl FromStr for IdentityId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        let Some(application) = id.strip_prefix(APPLICATIONS) else {
            return id.parse().map(Self::Managed);
        };
        application.parse().map(Self::Application).map_err(|_| {
            let rule = format!("must be {APPLICATIONS}<client ID>");
            Invalid::new("identity", id, rule)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "aaaaaaaa-0000-0000-0000-00000000000a";

    #[test]
    fn an_application_is_known_by_its_client_id_in_any_case() {
        let id: IdentityId = format!("applications/{CLIENT}").parse().unwrap();
        let upper = format!("applications/{}", CLIENT.to_uppercase());
        assert_eq!(id, upper.parse().unwrap());
        assert_eq!(id, id.to_string().parse().unwrap());
        assert_eq!(id.name(), CLIENT);
    }

    #[test]
    fn what_is_no_application_is_refused() {
        for id in [
            CLIENT.to_owned(),
            "applications/".to_owned(),
            format!("/applications/{CLIENT}"),
            format!("applications/{CLIENT}/x"),
            format!("applications/{CLIENT}')"),
            "applications/..".to_owned(),
        ] {
            assert!(id.parse::<IdentityId>().is_err(), "{id} was accepted");
        }
    }
}
