//! Which resource a path names, and which operation a request is.

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::graph::GraphRoute;
use crate::resource_id::{IdentityId, Scope};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/metadata/endpoints`, the description of a cloud.
    CloudMetadata,
    /// `/{tenant}/v2.0/.well-known/openid-configuration`
    OpenIdConfiguration { tenant: String },
    /// `/{tenant}/oauth2/v2.0/token`
    Token { tenant: String },
    /// `/subscriptions`
    Subscriptions,
    /// The identities of a resource group or of a subscription.
    Identities(Scope),
    /// One identity.
    Identity(IdentityId),
    /// The federated credentials of an identity.
    Credentials(IdentityId),
    /// One federated credential.
    Credential(IdentityId, String),
    /// What the caller may do to an identity.
    Permissions(IdentityId),
    /// Something of Microsoft Graph's.
    Graph(GraphRoute),
    /// Anything else.
    Unknown,
}

impl Route {
    /// Reads a path, as ARM does without regard to case.
    pub fn parse(path: &str) -> Self {
        let Some(segments) = decode(path) else {
            return Self::Unknown;
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["metadata", "endpoints"] => Self::CloudMetadata,
            [tenant, "oauth2", "v2.0", "token"] => Self::Token {
                tenant: (*tenant).to_owned(),
            },
            [tenant, "v2.0", ".well-known", "openid-configuration"] => Self::OpenIdConfiguration {
                tenant: (*tenant).to_owned(),
            },
            ["v1.0", rest @ ..] => GraphRoute::parse(rest).map_or(Self::Unknown, Self::Graph),
            [first, rest @ ..] if first.eq_ignore_ascii_case("subscriptions") => {
                Self::below_subscriptions(rest)
            }
            _ => Self::Unknown,
        }
    }

    fn below_subscriptions(segments: &[&str]) -> Self {
        let is = str::eq_ignore_ascii_case;
        let (subscription, rest) = match segments {
            [] => return Self::Subscriptions,
            [subscription, rest @ ..] => ((*subscription).to_owned(), rest),
        };
        let (group, rest) = match rest {
            [word, group, rest @ ..] if is(word, "resourceGroups") => {
                (Some((*group).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let rest = match rest {
            [word, provider, kind, rest @ ..]
                if is(word, "providers")
                    && is(provider, "Microsoft.ManagedIdentity")
                    && is(kind, "userAssignedIdentities") =>
            {
                rest
            }
            _ => return Self::Unknown,
        };
        let identity = |group, name: &str| IdentityId {
            subscription: subscription.clone(),
            group,
            name: name.to_owned(),
        };
        match (group, rest) {
            (group, []) => Self::Identities(Scope {
                subscription,
                group,
            }),
            (Some(group), [name]) => Self::Identity(identity(group, name)),
            (Some(group), [name, kind]) if is(kind, "federatedIdentityCredentials") => {
                Self::Credentials(identity(group, name))
            }
            (Some(group), [name, word, provider, kind])
                if is(word, "providers")
                    && is(provider, "Microsoft.Authorization")
                    && is(kind, "permissions") =>
            {
                Self::Permissions(identity(group, name))
            }
            (Some(group), [name, kind, credential]) if is(kind, "federatedIdentityCredentials") => {
                Self::Credential(identity(group, name), (*credential).to_owned())
            }
            _ => Self::Unknown,
        }
    }

    /// Name of the operation, for the journal and for faults.
    pub fn operation(&self, method: &Method) -> String {
        let verb = method.as_str().to_ascii_lowercase();
        match self {
            Self::CloudMetadata => "metadata".to_owned(),
            Self::OpenIdConfiguration { .. } => "openid".to_owned(),
            Self::Token { .. } => "token".to_owned(),
            Self::Subscriptions => "subscription.list".to_owned(),
            Self::Identities(_) if method == Method::GET => "identity.list".to_owned(),
            Self::Identities(_) | Self::Identity(_) => format!("identity.{verb}"),
            Self::Credentials(_) if method == Method::GET => "credential.list".to_owned(),
            Self::Credentials(_) | Self::Credential(..) => format!("credential.{verb}"),
            Self::Permissions(_) if method == Method::GET => "permission.list".to_owned(),
            Self::Permissions(_) => format!("permission.{verb}"),
            Self::Graph(route) => route.operation(method),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

/// Decodes a path's segments one by one, so that an encoded slash cannot make
/// two segments of one. None for anything that could name something else than
/// it seems to.
fn decode(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?
        .split('/')
        .map(|raw| {
            let segment = percent_decode_str(raw).decode_utf8().ok()?;
            let plain = !segment.is_empty()
                && segment != "."
                && segment != ".."
                && !segment.contains(|c: char| matches!(c, '/' | '\\') || c.is_control());
            plain.then(|| segment.into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str = "/subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id";

    fn id() -> IdentityId {
        IdentityId {
            subscription: "S".into(),
            group: "G".into(),
            name: "Id".into(),
        }
    }

    #[test]
    fn paths_name_resources() {
        let scope = |group: Option<&str>| {
            Route::Identities(Scope {
                subscription: "S".into(),
                group: group.map(Into::into),
            })
        };
        let tenant = || "t".to_owned();
        let table = [
            ("/subscriptions".to_owned(), Route::Subscriptions),
            (IDENTITY.to_owned(), Route::Identity(id())),
            (format!("{IDENTITY}/federatedIdentityCredentials"), Route::Credentials(id())),
            (
                format!("{IDENTITY}/FEDERATEDIDENTITYCREDENTIALS/Fic"),
                Route::Credential(id(), "Fic".into()),
            ),
            (
                format!("{IDENTITY}/federatedIdentityCredentials/a%2Db"),
                Route::Credential(id(), "a-b".into()),
            ),
            (
                format!("{IDENTITY}/providers/microsoft.authorization/Permissions"),
                Route::Permissions(id()),
            ),
            (
                "/SUBSCRIPTIONS/S/resourcegroups/G/PROVIDERS/microsoft.managedidentity/userassignedidentities".to_owned(),
                scope(Some("G")),
            ),
            (
                "/subscriptions/S/providers/Microsoft.ManagedIdentity/userAssignedIdentities".to_owned(),
                scope(None),
            ),
            ("/t/oauth2/v2.0/token".to_owned(), Route::Token { tenant: tenant() }),
            (
                "/t/v2.0/.well-known/openid-configuration".to_owned(),
                Route::OpenIdConfiguration { tenant: tenant() },
            ),
            ("/metadata/endpoints".to_owned(), Route::CloudMetadata),
        ];
        for (path, route) in table {
            assert_eq!(Route::parse(&path), route, "{path}");
        }
    }

    #[test]
    fn anything_else_matches_nothing() {
        for path in [
            String::new(),
            "/".to_owned(),
            "/subscriptions/".to_owned(),
            format!("{IDENTITY}/"),
            format!("{IDENTITY}/other"),
            format!("{IDENTITY}/providers/Microsoft.Authorization/roleAssignments"),
            format!("{IDENTITY}/federatedIdentityCredentials/"),
            format!("{IDENTITY}/federatedIdentityCredentials/a/b"),
            format!("{IDENTITY}/federatedIdentityCredentials/.."),
            format!("{IDENTITY}/federatedIdentityCredentials/%2e%2E"),
            format!("{IDENTITY}/federatedIdentityCredentials/a%2Fb"),
            format!("{IDENTITY}/federatedIdentityCredentials/a%5Cb"),
            format!("{IDENTITY}/federatedIdentityCredentials/a%00"),
            format!("{IDENTITY}/federatedIdentityCredentials/%FF"),
            format!("/{IDENTITY}"),
            "/subscriptions/S/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id"
                .to_owned(),
            IDENTITY.replace("Microsoft.ManagedIdentity", "Microsoft.Other"),
        ] {
            assert_eq!(Route::parse(&path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn operations_are_named_after_resource_and_verb() {
        let operation = |path: &str, method| Route::parse(path).operation(&method);
        let credential = format!("{IDENTITY}/federatedIdentityCredentials/fic");
        assert_eq!(operation(&credential, Method::PUT), "credential.put");
        assert_eq!(operation(&credential, Method::GET), "credential.get");
        assert_eq!(operation(IDENTITY, Method::PATCH), "identity.patch");
        assert_eq!(
            operation(
                &format!("{IDENTITY}/federatedIdentityCredentials"),
                Method::GET
            ),
            "credential.list"
        );
    }
}
