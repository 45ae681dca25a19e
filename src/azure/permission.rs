//! What a principal may do to a resource, as Azure sums up its roles.

use serde::Deserialize;

/// One role's part.
/// <https://learn.microsoft.com/azure/role-based-access-control/role-definitions>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
}

impl Permission {
    /// Whether it allows an action: what a role takes out, another one may still allow.
    pub fn allows(&self, action: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        any(&self.actions) && !any(&self.not_actions)
    }
}

/// Without regard to case; `*` stands for any text.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == action;
    };
    let Some(mut left) = action.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str =
        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write";

    #[test]
    fn actions_allow_what_no_exception_of_the_same_role_takes_out() {
        let identities = "microsoft.managedidentity/userAssignedIdentities";
        let credentials = format!("{identities}/federatedIdentityCredentials");
        let table: [(&[&str], &[&str], bool); 9] = [
            (&["*"], &[], true),
            (&["*/read"], &[], false),
            (&[&format!("{credentials}/write")], &[], true),
            (&[&format!("{identities}/*/write")], &[], true),
            (
                &[&format!("{identities}/*")],
                &[&format!("{credentials}/*")],
                false,
            ),
            (&["*"], &["Microsoft.Authorization/*/Write"], true),
            (&["*"], &["*/write"], false),
            (&["Microsoft.Compute/*"], &[], false),
            (&[], &[], false),
        ];
        for (actions, not_actions, expected) in table {
            let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            let permission = Permission {
                actions: own(actions),
                not_actions: own(not_actions),
            };
            assert_eq!(permission.allows(WRITE), expected, "{permission:?}");
        }
    }
}
