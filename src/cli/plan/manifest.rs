//! A manifest that is not applied: the API server says what would become of it, by a dry run.

use std::{fs, io, path::Path};

use anyhow::{Context, anyhow, bail};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::report::Origin;
use crate::{
    api::{AirflowWorkloadIdentity, AzureIdentityGrant, GROUP, OPERATOR},
    problem::bounded,
};

/// Our objects in a manifest, as they are written there.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Manifest {
    objects: Vec<Value>,
    grants: Vec<Value>,
}

/// What the API server would make of a manifest.
#[derive(Default)]
pub(super) struct Proposed {
    pub objects: Vec<(AirflowWorkloadIdentity, Origin)>,
    pub grants: Vec<(AzureIdentityGrant, Origin)>,
}

impl Manifest {
    /// Reads a file, or standard input if it is called `-`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = if path == Path::new("-") {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(path)
        };
        let named = || format!("cannot read {}", path.display());
        let manifest = Self::parse(&text.with_context(named)?).with_context(named)?;
        if manifest.objects.is_empty() && manifest.grants.is_empty() {
            bail!(
                "{} holds no AirflowWorkloadIdentity and no AzureIdentityGrant",
                path.display()
            );
        }
        Ok(manifest)
    }

    /// Any number of documents; what is not ours is passed over.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut manifest = Self::default();
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
        for document in documents {
            manifest.add(document);
        }
        Ok(manifest)
    }

    fn add(&mut self, mut document: Value) {
        let text = |key: &str| document[key].as_str().unwrap_or_default();
        let group = text("apiVersion").split('/').next();
        match text("kind") {
            "List" => {
                if let Value::Array(items) = document["items"].take() {
                    for item in items {
                        self.add(item);
                    }
                }
            }
            "AirflowWorkloadIdentity" if group == Some(GROUP) => self.objects.push(document),
            "AzureIdentityGrant" if group == Some(GROUP) => self.grants.push(document),
            _ => {}
        }
    }

    /// Asks the API server. Objects that name no namespace are for `namespace`.
    pub(super) async fn propose(
        self,
        client: &Client,
        namespace: &str,
    ) -> anyhow::Result<Proposed> {
        let mut proposed = Proposed::default();
        for grant in self.grants {
            let api = Api::all_with(
                client.clone(),
                &ApiResource::erase::<AzureIdentityGrant>(&()),
            );
            proposed.grants.push(propose(&api, grant).await?);
        }
        for mut object in self.objects {
            let namespace = match object["metadata"]["namespace"].as_str() {
                Some(own) => own.to_owned(),
                None => namespace.to_owned(),
            };
            object["metadata"]["namespace"] = namespace.clone().into();
            let kind = ApiResource::erase::<AirflowWorkloadIdentity>(&());
            let api = Api::namespaced_with(client.clone(), &namespace, &kind);
            proposed.objects.push(propose(&api, object).await?);
        }
        Ok(proposed)
    }
}

/// With the defaults, and with the status of the one that there is.
async fn propose<K>(api: &Api<DynamicObject>, manifest: Value) -> anyhow::Result<(K, Origin)>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = K::kind(&());
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        bail!("the manifest has {kind} without metadata.name");
    }
    let name = name.to_owned();
    let live = bounded(api.get_opt(&name))
        .await
        .map_err(|error| anyhow!("cannot read {kind} {name}: {error}"))?;
    let mut params = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        field_manager: Some(OPERATOR.into()),
        ..PatchParams::default()
    };
    let patch = match &live {
        None => {
            params.force = true;
            Patch::Apply(manifest)
        }
        Some(live) => Patch::Merge(replacing(&live.data["spec"], &manifest["spec"])),
    };
    let proposed = bounded(api.patch(&name, &params, &patch))
        .await
        .map_err(|error| {
            let said = error.to_string();
            // Before it the API server may repeat the whole object.
            let from = said.find("strict decoding error").unwrap_or_default();
            anyhow!(
                "the API server does not take {kind} {name}: {}",
                &said[from..]
            )
        })?;
    let origin = match &live {
        None => Origin::New,
        Some(live) if live.data["spec"] == proposed.data["spec"] => Origin::Applied,
        Some(_) => Origin::Changed,
    };
    let proposed = proposed
        .try_parse()
        .with_context(|| format!("{kind} {name} cannot be read"))?;
    Ok((proposed, origin))
}

/// The merge patch that makes the spec `wanted` out of `live`.
fn replacing(live: &Value, wanted: &Value) -> Value {
    serde_json::json!({ "spec": difference(live, wanted) })
}

/// <https://www.rfc-editor.org/rfc/rfc7396>
fn difference(live: &Value, wanted: &Value) -> Value {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else {
        return wanted.clone();
    };
    let gone = live.keys().filter(|key| !wanted.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let kept = wanted.iter().map(|(key, wanted)| {
        let live = live.get(key).unwrap_or(&Value::Null);
        (key.clone(), difference(live, wanted))
    });
    Value::Object(gone.chain(kept).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_manifest_only_what_is_ours_is_taken() {
        let text = "\
---
---
apiVersion: v1
kind: Namespace
metadata: { name: airflow }
---
apiVersion: airflow-workload-identity.io/v1alpha1
kind: AirflowWorkloadIdentity
metadata: { name: prod }
---
apiVersion: example.org/v1
kind: AirflowWorkloadIdentity
metadata: { name: another }
---
apiVersion: v1
kind: List
items:
- { apiVersion: airflow-workload-identity.io/v1alpha1, kind: AzureIdentityGrant, metadata: { name: airflow } }
- { apiVersion: v1, kind: Secret }
";
        let manifest = Manifest::parse(text).unwrap();
        let names = |all: &[Value]| -> Vec<String> {
            let name = |one: &Value| one["metadata"]["name"].as_str().unwrap().to_owned();
            all.iter().map(name).collect()
        };
        assert_eq!(names(&manifest.objects), ["prod"]);
        assert_eq!(names(&manifest.grants), ["airflow"]);
        assert!(Manifest::parse("a: [").is_err());
    }

    #[test]
    fn a_field_that_the_manifest_leaves_out_goes() {
        let live = json!({ "suspend": true, "airflow": { "helmRelease": "a", "components": [] } });
        let wanted = json!({ "airflow": { "helmRelease": "b" }, "identity": { "x": 1 } });
        let expected = json!({ "spec": {
            "suspend": null,
            "airflow": { "helmRelease": "b", "components": null },
            "identity": { "x": 1 },
        }});
        assert_eq!(replacing(&live, &wanted), expected);
        assert_eq!(replacing(&live, &Value::Null), json!({ "spec": null }));
    }
}
