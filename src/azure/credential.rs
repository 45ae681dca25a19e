//! How the operator itself signs in to Azure.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};

use super::{Cloud, token_answer::TokenAnswers};

/// The operator's own credential. azure_identity for Rust has no chain of credentials on
/// purpose, so the choice is explicit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CredentialKind {
    /// Workload identity if AZURE_FEDERATED_TOKEN_FILE is set, else managed identity.
    Auto,
    /// The pod's federated token: AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE.
    WorkloadIdentity,
    /// The node's managed identity; AZURE_CLIENT_ID picks one of several.
    ManagedIdentity,
    /// The Azure CLI's: `az login`.
    AzureCli,
}

impl CredentialKind {
    /// The credential, made from the environment.
    ///
    /// # Errors
    /// What the credential needs is not in the environment; the message says what.
    pub fn build(
        self,
        cloud: &Cloud,
        transport: &Transport,
    ) -> anyhow::Result<Arc<dyn TokenCredential>> {
        let client_options = sign_in_options(cloud, transport);
        match self {
            Self::Auto if env("AZURE_FEDERATED_TOKEN_FILE").is_some() => {
                Self::WorkloadIdentity.build(cloud, transport)
            }
            Self::Auto => Self::ManagedIdentity.build(cloud, transport),
            Self::WorkloadIdentity => Ok(WorkloadIdentityCredential::new(Some(
                WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    ..Default::default()
                },
            ))
            .context(
                "cannot sign in with workload identity: the pod needs the label \
                 azure.workload.identity/use: \"true\" and its ServiceAccount the annotation \
                 azure.workload.identity/client-id, both before it starts; or choose another \
                 --azure-credential",
            )?),
            Self::ManagedIdentity => Ok(ManagedIdentityCredential::new(Some(
                ManagedIdentityCredentialOptions {
                    user_assigned_id: env("AZURE_CLIENT_ID").map(UserAssignedId::ClientId),
                    client_options,
                },
            ))
            .context("cannot sign in with the node's managed identity")?),
            Self::AzureCli => Ok(AzureCliCredential::new(None)
                .context("cannot sign in with the Azure CLI; is `az` installed?")?),
        }
    }
}

/// Client options that all requests to Azure share. No retries below us: the operator requeues
/// the object instead, so that no call blocks longer than its timeout.
pub(super) fn options(cloud: &Cloud, transport: &Transport) -> ClientOptions {
    ClientOptions {
        cloud: Some(cloud.configuration()),
        retry: RetryOptions::none(),
        transport: Some(transport.clone()),
        ..ClientOptions::default()
    }
}

/// The same, for what signs in.
pub(super) fn sign_in_options(cloud: &Cloud, transport: &Transport) -> ClientOptions {
    ClientOptions {
        per_call_policies: vec![Arc::new(TokenAnswers)],
        ..options(cloud, transport)
    }
}

/// What carries every request to Azure.
///
/// # Errors
/// See [`http_client`].
pub fn transport(extra_ca: Option<&Path>, timeout: Duration) -> anyhow::Result<Transport> {
    Ok(Transport::new(Arc::new(http_client(extra_ca, timeout)?)))
}

/// A client for Azure and for what Azure reads. `extra_ca` is a PEM file of certificates that are
/// trusted beside the system's. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`).
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn http_client(extra_ca: Option<&Path>, timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let mut client = reqwest::Client::builder()
        .https_only(false) // IMDS is plain http; bearer tokens go to https only (Cloud::new)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout);
    if let Some(path) = extra_ca {
        let context = || format!("--extra-ca {}", path.display());
        let pem = std::fs::read(path).with_context(context)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).with_context(context)?;
        anyhow::ensure!(
            !certificates.is_empty(),
            "--extra-ca {}: no PEM certificate in it",
            path.display()
        );
        client = client.tls_certs_merge(certificates);
    }
    Ok(client.build()?)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
