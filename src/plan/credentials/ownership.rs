//! What may be touched at all, whatever a record says.

use crate::{
    model::{FederatedCredential, Subject},
    observe::Snapshot,
};

/// AKS writes this one for its identity bindings.
const AKS_IDENTITY_BINDING: &str = "aks-identity-binding";

/// The last guard, since whoever may write a status may forge a record: ours to repair and to
/// delete. Where Azure keeps descriptions, one without ours is somebody else's.
pub(super) fn is_touchable(snapshot: &Snapshot, live: &FederatedCredential) -> bool {
    live.is_marked != Some(false) && is_adoptable(snapshot, live)
}

/// Whether it may become ours at all.
pub(super) fn is_adoptable(snapshot: &Snapshot, live: &FederatedCredential) -> bool {
    snapshot.is_ours(&live.issuer)
        && Subject::account_in(&live.subject, &snapshot.namespace).is_some()
        && !live.is_named(AKS_IDENTITY_BINDING)
}
