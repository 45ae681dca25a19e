//! Federated identity credentials and what they are made of. Azure compares issuer, subject and
//! audience byte for byte, so nothing here is ever normalised.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// A value that Azure would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is invalid: {rule}")]
pub struct Invalid {
    what: &'static str,
    value: String,
    rule: String,
}

impl Invalid {
    pub(super) fn new(what: &'static str, value: &str, rule: impl Into<String>) -> Self {
        Self {
            what,
            value: value.to_owned(),
            rule: rule.into(),
        }
    }
}

/// Longest issuer, subject and audience that Azure stores.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
const MAX_FIELD: usize = 600;

/// The issuer of a cluster's ServiceAccount tokens, byte for byte: a trailing slash matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Issuer(String);

impl Issuer {
    /// The issuer as the tokens carry it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Issuer {
    type Err = Invalid;

    fn from_str(issuer: &str) -> Result<Self, Invalid> {
        let invalid = |rule: &str| Err(Invalid::new("issuer", issuer, rule));
        if !issuer.starts_with("https://") || issuer.len() == "https://".len() {
            return invalid("must be an https URL");
        }
        if issuer.len() > MAX_FIELD {
            return invalid("must have at most 600 characters");
        }
        if issuer.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return invalid("must not contain white space");
        }
        Ok(Self(issuer.to_owned()))
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subject of a ServiceAccount's tokens.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens>
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    namespace: String,
    account: String,
}

impl Subject {
    /// The subject of ServiceAccount `account` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, account: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
        }
    }

    /// The name of the ServiceAccount of `namespace` whose subject `subject` is; nothing if it
    /// is anybody else's.
    #[must_use]
    pub fn account_in<'a>(subject: &'a str, namespace: &str) -> Option<&'a str> {
        subject
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.strip_prefix(namespace))
            .and_then(|rest| rest.strip_prefix(':'))
            .filter(|account| !account.is_empty() && !account.contains(':'))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, account } = self;
        write!(f, "system:serviceaccount:{namespace}:{account}")
    }
}

/// The name of a federated identity credential: 3 to 120 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialName(String);

impl CredentialName {
    const MAX: usize = 120;
    const HASH: usize = 10;

    /// The name that no other cluster and no other account shares: readable, and closed by a
    /// hash of issuer and subject.
    #[must_use]
    pub fn derived(issuer: &Issuer, subject: &Subject) -> Self {
        let hash = short_hash(&[issuer.as_str(), &subject.to_string()]);
        let readable = format!("awi-{}-{}", subject.namespace, subject.account);
        Self::closed_by(&readable, &hash)
    }

    /// The name that the user chose: `<prefix>-<suffix>`, where the suffix is a component or an
    /// account. Too long a name is cut and closed by a hash.
    #[must_use]
    pub fn chosen(prefix: &str, suffix: &str) -> Self {
        let readable = format!("{prefix}-{suffix}");
        let valid = readable.len() <= Self::MAX && readable == sanitised(&readable);
        if valid {
            Self(readable)
        } else {
            let hash = short_hash(&[&readable]);
            Self::closed_by(&readable, &hash)
        }
    }

    /// The name as Azure has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn closed_by(readable: &str, hash: &str) -> Self {
        let mut name = sanitised(readable);
        name.truncate(Self::MAX - Self::HASH - 1);
        Self(format!("{name}-{hash}"))
    }
}

impl FromStr for CredentialName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let valid = (3..=Self::MAX).contains(&name.len())
            && name == sanitised(name)
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(Invalid::new(
                "credential name",
                name,
                "must be 3 to 120 letters, digits, hyphens and underscores, and start with a letter or digit",
            ))
        }
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn sanitised(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || c == '_' => c,
            _ => '-',
        })
        .collect()
}

fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        // A separator that no part can hold, so that ("a", "bc") and ("ab", "c") differ.
        hash.update([0]);
    }
    hex(&hash.finalize())[..CredentialName::HASH].to_owned()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// A federated identity credential as Azure stores it; it may be anybody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FederatedCredential {
    /// Its name on the identity. Azure compares names without case.
    pub name: String,
    /// The issuer it trusts.
    pub issuer: String,
    /// The subject it trusts.
    pub subject: String,
    /// The audiences it takes; Azure allows exactly one.
    pub audiences: Vec<String>,
    /// Whether its description says that the operator wrote it; none where Azure keeps none.
    pub is_marked: Option<bool>,
}

impl FederatedCredential {
    /// Whether it is called `name`, as Azure compares names.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether it trusts exactly this issuer and subject, whatever its audience.
    #[must_use]
    pub fn trusts(&self, issuer: &str, subject: &str) -> bool {
        self.issuer == issuer && self.subject == subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_issuer_is_kept_byte_for_byte() {
        let slash: Issuer = "https://oidc.example/a/".parse().unwrap();
        let plain: Issuer = "https://oidc.example/a".parse().unwrap();
        assert_eq!(slash.as_str(), "https://oidc.example/a/");
        assert_ne!(slash, plain);
    }

    #[test]
    fn an_issuer_that_azure_cannot_use_is_refused() {
        for issuer in [
            "",
            "https://",
            "http://a",
            "https://a ",
            "https://a\n",
            "kubernetes/serviceaccount",
        ] {
            assert!(issuer.parse::<Issuer>().is_err(), "{issuer:?} was accepted");
        }
        let longest = format!("https://{}", "a".repeat(592));
        assert!(longest.parse::<Issuer>().is_ok());
        assert!(
            format!("https://{}", "a".repeat(593))
                .parse::<Issuer>()
                .is_err()
        );
    }

    #[test]
    fn a_subject_lies_in_its_namespace_only() {
        let subject = Subject::new("airflow", "worker").to_string();
        assert_eq!(subject, "system:serviceaccount:airflow:worker");
        assert_eq!(Subject::account_in(&subject, "airflow"), Some("worker"));
        for namespace in ["air", "airflow2", "airflo", "", "airflow:worker"] {
            assert_eq!(
                Subject::account_in(&subject, namespace),
                None,
                "{namespace}"
            );
        }
        for odd in [
            "system:serviceaccount:airflow:",
            "system:serviceaccount:airflow:a:b",
            "repo:airflow:worker",
        ] {
            assert_eq!(Subject::account_in(odd, "airflow"), None, "{odd}");
        }
    }

    #[test]
    fn a_chosen_name_is_the_guides() {
        assert_eq!(
            CredentialName::chosen("prod", "worker").as_str(),
            "prod-worker"
        );
        let long = CredentialName::chosen("prod", &"a".repeat(253));
        assert_eq!(long.as_str().len(), 120);
        assert_ne!(long, CredentialName::chosen("prod", &"a".repeat(252)));
    }

    #[test]
    fn a_credential_name_is_what_azure_takes() {
        let longest = "a".repeat(120);
        for name in ["abc", "0-_", "Prod_worker-1", &longest] {
            assert!(name.parse::<CredentialName>().is_ok(), "{name} was refused");
        }
        let too_long = "a".repeat(121);
        for name in [
            "", "ab", "-ab", "_ab", "a.b", "a/b", "a b", "\u{e4}bc", &too_long,
        ] {
            assert!(
                name.parse::<CredentialName>().is_err(),
                "{name} was accepted"
            );
        }
    }

    proptest! {
        #[test]
        fn a_derived_name_is_valid_and_tells_accounts_and_clusters_apart(
            ns in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
            a in "[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?",
            b in "[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?",
        ) {
            let here: Issuer = "https://here/".parse().unwrap();
            let there: Issuer = "https://there/".parse().unwrap();
            let name = CredentialName::derived(&here, &Subject::new(&ns, &a));
            // As Azure's specification has it: ^[a-zA-Z0-9]{1}[a-zA-Z0-9-_]{2,119}$
            prop_assert!((3..=120).contains(&name.as_str().len()));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            prop_assert_ne!(&name, &CredentialName::derived(&there, &Subject::new(&ns, &a)));
            if a != b {
                prop_assert_ne!(&name, &CredentialName::derived(&here, &Subject::new(&ns, &b)));
            }
        }
    }
}
