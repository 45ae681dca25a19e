//! ARM resource IDs, compared as Azure compares them: without case.

use std::{fmt, hash, str::FromStr};

use super::Invalid;

const EXPECTED: &str = "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>";

/// The ARM resource ID of a user-assigned managed identity.
///
/// Only ASCII, no percent-encoding, no `.` or `..` segment: what is compared with a grant is
/// what goes into the URL. Naming rules:
/// <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>
#[derive(Clone)]
pub struct ResourceId {
    id: String,
    key: String,
}

impl ResourceId {
    /// The ID as the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// Whether this resource group holds the identity.
    #[must_use]
    pub fn is_in(&self, group: &ResourceGroupId) -> bool {
        let rest = self.key.strip_prefix(&group.key);
        rest.is_some_and(|rest| rest.starts_with("/providers/"))
    }

    /// The flags by which `az identity federated-credential` finds the identity.
    pub(super) fn az_flags(&self) -> String {
        let segments: Vec<&str> = self.id.split('/').collect();
        format!(
            "--subscription {} --resource-group {} --identity-name {}",
            segments[2],
            segments[4],
            self.name()
        )
    }

    /// The identity's name: the last segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for ResourceId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        let mut segments = id.rsplitn(5, '/');
        let mut next = || segments.next().unwrap_or_default();
        let (name, kind, namespace, providers, group) = (next(), next(), next(), next(), next());
        let well_formed = is_resource_group(group)
            && providers.eq_ignore_ascii_case("providers")
            && namespace.eq_ignore_ascii_case("Microsoft.ManagedIdentity")
            && kind.eq_ignore_ascii_case("userAssignedIdentities")
            && is_identity_name(name);
        if !well_formed {
            return Err(Invalid::new(
                "resource ID",
                id,
                format!("must be {EXPECTED}"),
            ));
        }
        Ok(Self {
            id: id.to_owned(),
            key: id.to_ascii_lowercase(),
        })
    }
}

/// The ARM resource ID of a resource group.
#[derive(Clone)]
pub struct ResourceGroupId {
    id: String,
    key: String,
}

impl FromStr for ResourceGroupId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        if !is_resource_group(id) {
            return Err(Invalid::new(
                "resource group ID",
                id,
                "must be /subscriptions/<id>/resourceGroups/<group>",
            ));
        }
        Ok(Self {
            id: id.to_owned(),
            key: id.to_ascii_lowercase(),
        })
    }
}

fn is_resource_group(id: &str) -> bool {
    let mut segments = id.splitn(5, '/');
    let mut next = || segments.next().unwrap_or_default();
    next().is_empty()
        && next().eq_ignore_ascii_case("subscriptions")
        && is_uuid(next())
        && next().eq_ignore_ascii_case("resourceGroups")
        && is_group_name(next())
}

fn is_uuid(s: &str) -> bool {
    s.len() == 36
        && s.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_group_name(s: &str) -> bool {
    (1..=90).contains(&s.len())
        && !s.ends_with('.')
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.()".contains(&b))
}

fn is_identity_name(s: &str) -> bool {
    (3..=128).contains(&s.len())
        && s.as_bytes()[0].is_ascii_alphanumeric()
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

macro_rules! compared_without_case {
    ($type:ty) => {
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.key == other.key
            }
        }
        impl Eq for $type {}
        impl hash::Hash for $type {
            fn hash<H: hash::Hasher>(&self, state: &mut H) {
                self.key.hash(state);
            }
        }
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.key.cmp(&other.key)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.id)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.id)
            }
        }
    };
}

compared_without_case!(ResourceId);
compared_without_case!(ResourceGroupId);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/airflow";

    #[test]
    fn an_id_equals_itself_in_any_case() {
        let a: ResourceId = ID.parse().unwrap();
        let b: ResourceId = ID.to_uppercase().parse().unwrap();
        assert_eq!(a, b);
        let data: ResourceGroupId = ID.split("/providers").next().unwrap().parse().unwrap();
        let dat: ResourceGroupId = data.to_string().trim_end_matches('a').parse().unwrap();
        for id in [&a, &b] {
            assert!(id.is_in(&data) && !id.is_in(&dat), "{id}");
        }
        assert_eq!((a.name(), b.name()), ("airflow", "AIRFLOW"));
        assert_eq!((a.as_str(), a.to_string()), (ID, ID.to_owned()));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let wrong = [
            String::new(),
            ID.trim_start_matches('/').to_owned(),
            format!("{ID}/"),
            format!("{ID}/federatedIdentityCredentials/x"),
            format!("{ID}?api-version=1"),
            format!("{ID}%2f"),
            ID.replace("data", ".."),
            ID.replace("data", "data."),
            ID.replace("data", "da/ta"),
            ID.replace("data", "d\u{0430}ta"),
            // The Kelvin sign and the long s are k and s to those who fold case as Unicode does.
            ID.replace("airflow", "air\u{212a}"),
            ID.replace("airflow", "airf\u{17f}"),
            ID.replace("data", "%64ata"),
            ID.replace("data", "..%2fother"),
            ID.replace("data", ""),
            ID.replace("airflow", ".."),
            ID.replace("airflow", "ai"),
            ID.replace("airflow", "_air"),
            ID.replace("0001", "001"),
            ID.replace("Microsoft.ManagedIdentity", "Microsoft.Compute"),
            ID.replace("providers", "provider"),
            format!("https://management.azure.com{ID}"),
        ];
        for id in wrong {
            assert!(id.parse::<ResourceId>().is_err(), "{id} was accepted");
        }
    }
}
