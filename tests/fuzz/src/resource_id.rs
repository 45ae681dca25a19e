//! IDs of Azure's and what else goes into a URL: a text, and another one to compare it with, a line
//! each.

use std::str::FromStr;

use airflow_workload_identity::model::{
    CredentialName, IdentityId, Invalid, Issuer, ResourceGroupId, ResourceId, Subject,
};
use reqwest::Url;

/// Whatever parses prints as it was, equals itself in any case, and stays in its place in a URL;
/// whatever does not is refused by name.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (text, other) = text.split_once('\n').unwrap_or((text, ""));
    if let Some(id) = parsed::<ResourceId>(text, "resource ID") {
        comes_back(&id, text);
        stays_in_its_path(text);
        assert!(!id.name().is_empty() && text.ends_with(id.name()));
        let group: ResourceGroupId = group_of(text).parse().unwrap();
        let upper: ResourceId = text.to_ascii_uppercase().parse().unwrap();
        assert_eq!(id, upper);
        assert!(id.is_in(&group) && upper.is_in(&group));
        if let Ok(other_id) = other.parse::<ResourceId>() {
            assert_eq!(id == other_id, text.eq_ignore_ascii_case(other));
            assert_eq!(id.cmp(&other_id).is_eq(), id == other_id);
        }
        // One kind of identity is never taken for another.
        assert_eq!(text.parse(), Ok(IdentityId::Managed(id)));
    }
    if let Some(group) = parsed::<ResourceGroupId>(text, "resource group ID") {
        comes_back(&group, text);
        stays_in_its_path(text);
        assert_eq!(Ok(group), text.to_ascii_uppercase().parse());
    }
    if let Ok(id) = text.parse::<IdentityId>() {
        assert_eq!(Ok(&id), id.to_string().parse().as_ref());
        for command in [id.az_list(), id.az_delete("name")] {
            is_one_plain_command(&command);
        }
    }
    if let Some(name) = parsed::<CredentialName>(text, "credential name") {
        comes_back(&name, text);
        stays_in_its_path(&format!("/{text}"));
    }
    if let Some(issuer) = parsed::<Issuer>(text, "issuer") {
        // Byte for byte.
        comes_back(&issuer, text);
        let subject = Subject::new("airflow", other);
        let derived = CredentialName::derived(&issuer, &subject).to_string();
        assert!(derived.parse::<CredentialName>().is_ok(), "{derived}");
    }
    // Names that are made from what users write.
    let chosen = CredentialName::chosen("awi", text).to_string();
    assert!(chosen.parse::<CredentialName>().is_ok(), "{chosen}");
    if let Some(account) = Subject::account_in(text, other) {
        assert_eq!(Subject::new(other, account).to_string(), text);
    }
}

fn parsed<T: FromStr<Err = Invalid>>(text: &str, field: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(invalid) => {
            let message = invalid.to_string();
            let named = format!("{field} {text:?} is invalid: must ");
            assert!(message.starts_with(&named), "{message}");
            None
        }
    }
}

fn comes_back<T>(value: &T, text: &str)
where
    T: FromStr<Err = Invalid> + ToString + PartialEq + std::fmt::Debug,
{
    assert_eq!(value.to_string(), text);
    assert_eq!(Ok(value), text.parse().as_ref());
}

fn group_of(id: &str) -> String {
    id.split('/').take(5).collect::<Vec<_>>().join("/")
}

/// As [`airflow_workload_identity::azure`] makes its URLs.
fn stays_in_its_path(path: &str) {
    let mut url = Url::parse("https://management.azure.com").unwrap();
    url.set_path(path);
    assert_eq!(url.path(), path, "it is changed on its way");
    assert_eq!((url.query(), url.fragment()), (None, None));
    assert_eq!(url.host_str(), Some("management.azure.com"));
    let again = Url::parse(url.as_str()).unwrap();
    assert_eq!(again, url);
    assert!(!path.contains(char::is_whitespace) && !path.to_lowercase().contains("%2f"));
}

/// Users paste it into a shell. Only parentheses, which a group's name may hold, need a look.
fn is_one_plain_command(command: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./()".contains(c);
    assert!(command.chars().all(plain), "{command}");
}
