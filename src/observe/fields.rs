//! Who owns an annotation, by the API server's own book: `metadata.managedFields`.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::FieldOwner;

/// The managers that own `metadata.annotations[key]`.
pub(super) fn owners_of(key: &str, entries: &[ManagedFieldsEntry]) -> Vec<FieldOwner> {
    let owners = entries.iter().filter(|entry| owns(entry, key));
    let mut owners: Vec<FieldOwner> = owners
        .map(|entry| FieldOwner {
            manager: entry.manager.clone().unwrap_or_default(),
            applies: entry.operation.as_deref() == Some("Apply"),
        })
        .collect();
    // It is kept for each account, and has room for four.
    owners.shrink_to_fit();
    owners
}

fn owns(entry: &ManagedFieldsEntry, key: &str) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| {
        fields.0["f:metadata"]["f:annotations"]
            .get(format!("f:{key}"))
            .is_some()
    })
}
