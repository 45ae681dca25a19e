//! Parsed vocabulary. A value of these types is valid; nothing here does I/O.

mod credential;
mod identity_id;
mod resource_id;

pub(crate) use credential::hex;
pub use credential::{CredentialName, FederatedCredential, Invalid, Issuer, Subject};
pub use identity_id::IdentityId;
pub use resource_id::{ResourceGroupId, ResourceId};
