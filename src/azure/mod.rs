//! Azure, as far as managed identities need it: the clouds, the operator's own credential, the
//! Resource Manager client and its errors. Knows nothing of Kubernetes or the operator.

mod arm;
mod cloud;
mod credential;
mod error;
mod identities;

pub use arm::{ArmClient, CredentialProperties, ManagedIdentity};
pub use cloud::{Cloud, CloudName, InvalidCloud, Overrides};
pub use credential::{CredentialKind, transport};
pub use error::{ArmError, ArmErrorKind};
pub use identities::{Identities, View};
