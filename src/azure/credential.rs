//! How the operator itself signs in to Azure.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use azure_core::{
    Error,
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
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
        self.once(cloud, transport)?;
        Ok(Arc::new(Anew {
            kind: self,
            cloud: cloud.clone(),
            transport: transport.clone(),
        }))
    }

    fn once(
        self,
        cloud: &Cloud,
        transport: &Transport,
    ) -> anyhow::Result<Arc<dyn TokenCredential>> {
        let client_options = sign_in_options(cloud, transport);
        match self {
            Self::Auto if env("AZURE_FEDERATED_TOKEN_FILE").is_some() => {
                Self::WorkloadIdentity.once(cloud, transport)
            }
            Self::Auto => Self::ManagedIdentity.once(cloud, transport),
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

/// A credential for each token. One that lives on keeps what it got, token and file, also when Azure
/// takes it no longer; the pipeline keeps tokens as it is, and asks for another when it must.
#[derive(Debug)]
struct Anew {
    kind: CredentialKind,
    cloud: Cloud,
    transport: Transport,
}

#[async_trait]
impl TokenCredential for Anew {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let credential = self
            .kind
            .once(&self.cloud, &self.transport)
            .map_err(|error| Error::with_message(ErrorKind::Credential, format!("{error:#}")))?;
        credential.get_token(scopes, options).await
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

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
