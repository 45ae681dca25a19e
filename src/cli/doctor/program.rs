//! A Deployment, as far as it tells which program runs, and how it was started.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

/// A program that a Deployment runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub name: String,
    /// The version, by the tag of its image.
    pub version: Option<String>,
    /// Its arguments, and the variables of its environment as `NAME=value`.
    pub arguments: Vec<String>,
    /// How many of its pods are ready.
    pub ready: i32,
}

impl Program {
    /// Of a Deployment; nothing, if it has no container.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Option<Self> {
        let spec = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let container = spec.containers.first()?;
        let variables = container.env.iter().flatten();
        let variables = variables
            .filter_map(|variable| Some(format!("{}={}", variable.name, variable.value.as_ref()?)));
        let parts = [&container.command, &container.args];
        let arguments = parts.into_iter().flatten().flatten().cloned();
        let status = deployment.status.as_ref();
        Some(Self {
            namespace: deployment.namespace().unwrap_or_default(),
            name: deployment.name_any(),
            version: container
                .image
                .as_deref()
                .and_then(tag)
                .map(|tag| tag.trim_start_matches('v').to_owned()),
            arguments: arguments.chain(variables).collect(),
            ready: status.and_then(|s| s.ready_replicas).unwrap_or_default(),
        })
    }

    /// As kubectl takes it.
    #[must_use]
    pub fn object(&self) -> String {
        format!("deployment/{}", self.name)
    }

    /// The values of a flag (`--audience`), or of the variable that it can be instead.
    #[must_use]
    pub fn flag(&self, names: &[&str]) -> Vec<&str> {
        let mut values = Vec::new();
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.split_once('=') {
                Some((name, value)) if names.contains(&name) => values.push(value),
                None if names.contains(&argument.as_str()) => {
                    values.extend(arguments.next().map(String::as_str));
                }
                _ => {}
            }
        }
        values
    }
}

/// `registry:5000/name:tag@digest`.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn the_tag_of_an_image_is_neither_its_port_nor_its_digest() {
        let table = [
            ("mcr.microsoft.com/webhook:v1.6.0", Some("v1.6.0")),
            ("localhost:5000/awi:0.1.0@sha256:ab", Some("0.1.0")),
            ("localhost:5000/awi", None),
            ("awi@sha256:ab", None),
        ];
        for (image, expected) in table {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}
