//! Azure, as far as federated identities need it: the clouds, the operator's own credential, the
//! clients for Resource Manager, Microsoft Graph and Entra, and their errors. Knows nothing of Kubernetes.

mod arm;
mod calls;
mod client;
mod cloud;
mod credential;
mod error;
mod exchange;
mod graph;
mod identities;
mod permission;
mod rest;
mod token_answer;
mod transport;

pub use calls::Calls;
pub use client::{AzureClient, AzureIdentity, CredentialProperties};
pub use cloud::{Cloud, CloudName, InvalidCloud, Overrides};
pub use credential::CredentialKind;
pub use error::{AzureError, AzureErrorKind};
pub use exchange::AccountToken;
pub use identities::{ARRIVES, Identities, MaxAge, Unsettled, View};
pub use transport::{http_client, transport};
