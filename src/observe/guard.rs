//! Objects that may not be readable: stored when the schema was another one.

use std::borrow::Cow;

use kube::{
    Resource,
    api::ObjectMeta,
    core::{PartialObjectMeta, error_boundary::InvalidObject},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Value, value::RawValue};

/// An object, or why it cannot be read: one must not hide the others. As kube's `DeserializeGuard`,
/// but the reason begins with the field.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not by way of a tree, which takes several times the room of a long list.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(mut read) = serde_json::from_str::<K>(json.get()) {
            // Who owns which field takes more room than all else, and nobody asks.
            read.meta_mut().managed_fields = None;
            return Ok(Self(Ok(read)));
        }
        let object: Value = serde_json::from_str(json.get()).map_err(Error::custom)?;
        let unreadable = match serde_path_to_error::deserialize(&object) {
            Ok(read) => return Ok(Self(Ok(read))),
            Err(unreadable) => unreadable,
        };
        let PartialObjectMeta::<K> { mut metadata, .. } =
            serde_json::from_value(object).map_err(Error::custom)?;
        metadata.managed_fields = None;
        let error = unreadable.to_string();
        Ok(Self(Err(InvalidObject { error, metadata })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}
