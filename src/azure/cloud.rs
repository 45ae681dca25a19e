//! The Azure clouds: where Resource Manager and Entra are, and which audiences they take.

use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use reqwest::Url;

/// A cloud by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CloudName {
    /// Azure, worldwide.
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet in China.
    China,
    /// Endpoint, authority and audience all come from flags.
    Custom,
}

/// Everything that differs between clouds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Azure Resource Manager's base URL.
    pub endpoint: Url,
    /// Entra's base URL.
    pub authority: Url,
    /// The audience of Resource Manager tokens, without `/.default`.
    pub audience: String,
    /// The audience that federated identity credentials take and ServiceAccount tokens carry.
    pub federation_audience: String,
    /// Microsoft Graph's base URL; a custom cloud may have none.
    pub graph: Option<Url>,
}

/// A cloud that lacks a part or has one that is no https URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCloud {
    /// `--cloud custom` without one of its three flags.
    #[error("--cloud custom needs {0}")]
    Missing(&'static str),
    /// Tokens are never sent in the clear.
    #[error("{flag} must be an https URL, not {value:?}")]
    NotHttps {
        /// The flag that holds the value.
        flag: &'static str,
        /// The value.
        value: String,
    },
}

/// What the user overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--azure-endpoint`.
    pub endpoint: Option<String>,
    /// `--azure-authority`.
    pub authority: Option<String>,
    /// `--azure-audience`.
    pub audience: Option<String>,
    /// `--federation-audience`.
    pub federation_audience: Option<String>,
    /// `--azure-graph-endpoint`.
    pub graph: Option<String>,
}

/// endpoint, authority, federation audience, Microsoft Graph.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity>
/// and `az cloud list`. The endpoint doubles as the audience, as current Azure SDKs have it.
fn known(name: CloudName) -> [Option<&'static str>; 4] {
    match name {
        CloudName::Public => [
            Some("https://management.azure.com"),
            Some("https://login.microsoftonline.com"),
            Some("api://AzureADTokenExchange"),
            Some("https://graph.microsoft.com"),
        ],
        CloudName::UsGovernment => [
            Some("https://management.usgovcloudapi.net"),
            Some("https://login.microsoftonline.us"),
            Some("api://AzureADTokenExchangeUSGov"),
            Some("https://graph.microsoft.us"),
        ],
        CloudName::China => [
            Some("https://management.chinacloudapi.cn"),
            Some("https://login.chinacloudapi.cn"),
            Some("api://AzureADTokenExchangeChina"),
            Some("https://microsoftgraph.chinacloudapi.cn"),
        ],
        CloudName::Custom => [None, None, Some("api://AzureADTokenExchange"), None],
    }
}

impl Cloud {
    /// The cloud `name`, with what the user overrides.
    ///
    /// # Errors
    /// A part is missing, or is no https URL.
    pub fn new(name: CloudName, overrides: Overrides) -> Result<Self, InvalidCloud> {
        let [endpoint, authority, federation, graph] = known(name);
        let graph = overrides.graph.as_deref().or(graph);
        let pick = |own: Option<String>, known: Option<&str>, flag| {
            own.or_else(|| known.map(str::to_owned))
                .ok_or(InvalidCloud::Missing(flag))
        };
        let endpoint = pick(overrides.endpoint, endpoint, "--azure-endpoint")?;
        let authority = pick(overrides.authority, authority, "--azure-authority")?;
        let audience = overrides
            .audience
            .or_else(|| (name != CloudName::Custom).then(|| endpoint.clone()))
            .ok_or(InvalidCloud::Missing("--azure-audience"))?;
        Ok(Self {
            endpoint: https("--azure-endpoint", &endpoint)?,
            authority: https("--azure-authority", &authority)?,
            audience: audience.trim_end_matches('/').to_owned(),
            federation_audience: pick(
                overrides.federation_audience,
                federation,
                "--federation-audience",
            )?,
            graph: graph
                .map(|graph| https("--azure-graph-endpoint", graph))
                .transpose()?,
        })
    }

    /// The scope of Resource Manager tokens.
    #[must_use]
    pub fn scope(&self) -> String {
        format!("{}/.default", self.audience)
    }

    /// The cloud as Azure's SDK wants it.
    #[must_use]
    pub fn configuration(&self) -> Arc<CloudConfiguration> {
        let mut custom = CustomConfiguration::default();
        self.authority
            .as_str()
            .clone_into(&mut custom.authority_host);
        Arc::new(custom.into())
    }
}

fn https(flag: &'static str, value: &str) -> Result<Url, InvalidCloud> {
    Url::parse(value)
        .ok()
        .filter(|url| url.scheme() == "https" && url.has_host())
        .ok_or_else(|| InvalidCloud::NotHttps {
            flag,
            value: value.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_cloud_needs_no_flag() {
        let table = [
            (
                CloudName::Public,
                "https://management.azure.com/.default",
                "api://AzureADTokenExchange",
                "https://graph.microsoft.com/",
            ),
            (
                CloudName::UsGovernment,
                "https://management.usgovcloudapi.net/.default",
                "api://AzureADTokenExchangeUSGov",
                "https://graph.microsoft.us/",
            ),
            (
                CloudName::China,
                "https://management.chinacloudapi.cn/.default",
                "api://AzureADTokenExchangeChina",
                "https://microsoftgraph.chinacloudapi.cn/",
            ),
        ];
        for (name, scope, federation, graph) in table {
            let cloud = Cloud::new(name, Overrides::default()).unwrap();
            assert_eq!(
                (cloud.scope().as_str(), cloud.federation_audience.as_str()),
                (scope, federation)
            );
            assert_eq!(cloud.graph.unwrap().as_str(), graph);
        }
    }

    #[test]
    fn a_custom_cloud_names_the_flag_that_it_lacks() {
        let url = || Some("https://azure.example".to_owned());
        let mut overrides = Overrides::default();
        for (flag, set) in [
            (
                "--azure-endpoint",
                (|o, v| o.endpoint = v) as fn(&mut Overrides, Option<String>),
            ),
            ("--azure-authority", |o, v| o.authority = v),
            ("--azure-audience", |o, v| o.audience = v),
        ] {
            assert_eq!(
                Cloud::new(CloudName::Custom, overrides.clone()),
                Err(InvalidCloud::Missing(flag))
            );
            set(&mut overrides, url());
        }
        assert!(Cloud::new(CloudName::Custom, overrides).is_ok());
    }

    #[test]
    fn tokens_never_go_to_an_unencrypted_endpoint() {
        for (endpoint, authority) in [
            ("http://a", "https://b"),
            ("https://a", "http://b"),
            ("a", "https://b"),
        ] {
            let overrides = Overrides {
                endpoint: Some(endpoint.into()),
                authority: Some(authority.into()),
                ..Overrides::default()
            };
            assert!(matches!(
                Cloud::new(CloudName::Public, overrides),
                Err(InvalidCloud::NotHttps { .. })
            ));
        }
    }
}
