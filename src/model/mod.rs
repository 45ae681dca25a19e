//! Parsed vocabulary. A value of these types is valid; nothing here does I/O.

mod credential;
mod resource_id;

pub(crate) use credential::hex;
pub use credential::{CredentialName, FederatedCredential, Invalid, Issuer, Subject};
pub use resource_id::{ResourceGroupId, ResourceId};
