//! The flags that lead to Azure.

use std::{path::PathBuf, time::Duration};

use super::duration;
use crate::azure::{
    AzureClient, Cloud, CloudName, CredentialKind, InvalidCloud, Overrides, http_client, transport,
};

/// Which Azure, and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct AzureArgs {
    /// The Azure cloud.
    #[arg(long, env = "AWI_CLOUD", value_enum, default_value = "public")]
    cloud: CloudName,

    /// Azure Resource Manager's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_ENDPOINT", value_name = "URL")]
    azure_endpoint: Option<String>,

    /// Entra's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_AUTHORITY", value_name = "URL")]
    azure_authority: Option<String>,

    /// The audience of Azure Resource Manager tokens, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_AUDIENCE", value_name = "URL")]
    azure_audience: Option<String>,

    /// The audience of ServiceAccount tokens that go to Azure, if not the cloud's. It must be
    /// the audience that the Azure workload identity webhook was started with.
    #[arg(long, env = "AWI_FEDERATION_AUDIENCE", value_name = "URI")]
    federation_audience: Option<String>,

    /// Serve Entra applications, too (`spec.identity.application`). The operator needs the Microsoft
    /// Graph permission Application.ReadWrite.OwnedBy for it.
    #[arg(long, env = "AWI_ENTRA_APPLICATIONS", value_parser = clap::builder::FalseyValueParser::new())]
    entra_applications: bool,

    /// Microsoft Graph's base URL, if not the cloud's.
    #[arg(long, env = "AWI_AZURE_GRAPH_ENDPOINT", value_name = "URL")]
    azure_graph_endpoint: Option<String>,

    /// How the operator signs in to Azure.
    #[arg(long, env = "AWI_AZURE_CREDENTIAL", value_enum, default_value = "auto")]
    azure_credential: CredentialKind,

    /// PEM file of certificates that are trusted for Azure beside the system's.
    #[arg(long, env = "AWI_EXTRA_CA", value_name = "FILE")]
    extra_ca: Option<PathBuf>,

    /// Longest time that a request to Azure may take.
    #[arg(long, env = "AWI_AZURE_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    azure_timeout: Duration,
}

impl AzureArgs {
    /// A client for what Azure reads from others.
    pub(super) fn http_client(&self) -> anyhow::Result<reqwest::Client> {
        http_client(self.extra_ca.as_deref(), self.azure_timeout)
    }

    /// Whether the cloud is none of Microsoft's.
    pub(super) fn is_custom(&self) -> bool {
        self.cloud == CloudName::Custom
    }

    /// The cloud, and a client for it. Nothing is asked of Azure yet.
    pub(super) fn connect(self) -> anyhow::Result<(Cloud, AzureClient)> {
        let cloud = Cloud::new(
            self.cloud,
            Overrides {
                endpoint: self.azure_endpoint,
                authority: self.azure_authority,
                audience: self.azure_audience,
                federation_audience: self.federation_audience,
                graph: self.azure_graph_endpoint,
            },
        )?;
        let graph = if self.entra_applications {
            let endpoint = cloud.graph.as_ref();
            Some(endpoint.ok_or(InvalidCloud::Missing("--azure-graph-endpoint"))?)
        } else {
            None
        };
        let transport = transport(self.extra_ca.as_deref(), self.azure_timeout)?;
        let credential = self.azure_credential.build(&cloud, &transport)?;
        let client = AzureClient::new(&cloud, graph, &transport, &credential);
        Ok((cloud, client))
    }
}
