//! The environment of a container, as the kubelet makes it: what it takes from Secrets and ConfigMaps,
//! the last of them first, and before all of them its own variables.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables>

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar};

use super::{connections::BACKENDS, finding::Read};

/// What a container gets. Of values no more is kept than which secrets backend it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The pod's name.
    pub pod: String,
    /// Its own variables.
    pub own: BTreeMap<String, Own>,
    /// What it takes all variables from, and what their names then begin with.
    pub from: Vec<(Source, String)>,
}

/// A variable of a container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// The class of a secrets backend; of other variables nothing.
    Value(Option<String>),
    /// A key of a Secret or ConfigMap.
    Key(Source, String),
}

/// A Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The Secret of this name.
    Secret(String),
    /// The ConfigMap of this name.
    ConfigMap(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name}"),
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
        }
    }
}

/// Where a container's variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The container sets it itself.
    Own,
    /// A Secret or ConfigMap.
    From(Source),
}

/// The variables of each source, as far as they could be read.
type Sources = BTreeMap<Source, Read<BTreeMap<String, Option<String>>>>;

impl Environment {
    /// Of a container of a pod.
    #[must_use]
    pub fn of(pod: &str, container: &Container) -> Self {
        Self {
            pod: pod.to_owned(),
            own: container.env.iter().flatten().map(own).collect(),
            from: container
                .env_from
                .iter()
                .flatten()
                .filter_map(from)
                .collect(),
        }
    }

    /// Where a variable comes from; nothing if it has none. `ours` holds it, whether or not it was read.
    #[must_use]
    pub fn origin(&self, variable: &str, sources: &Sources, ours: &Source) -> Option<Origin> {
        match self.own.get(variable) {
            Some(Own::Key(source, key)) if source == ours && key == variable => {
                return Some(Origin::From(source.clone()));
            }
            Some(_) => return Some(Origin::Own),
            None => {}
        }
        let holds = |(source, prefix): &&(Source, String)| {
            if source == ours {
                return prefix.is_empty();
            }
            let key = variable.strip_prefix(prefix.as_str());
            match (sources.get(source), key) {
                (Some(Ok(variables)), Some(key)) => variables.contains_key(key),
                _ => false,
            }
        };
        let (source, _) = self.from.iter().rev().find(holds)?;
        Some(Origin::From(source.clone()))
    }

    /// The value of a variable, if it is one that is kept.
    #[must_use]
    pub fn value(&self, variable: &str, sources: &Sources) -> Option<String> {
        let of = |source: &Source, key: &str| match sources.get(source) {
            Some(Ok(variables)) => variables.get(key).cloned().flatten(),
            _ => None,
        };
        match self.own.get(variable) {
            Some(Own::Value(value)) => return value.clone(),
            Some(Own::Key(source, key)) => return of(source, key),
            None => {}
        }
        self.from
            .iter()
            .rev()
            .find_map(|(source, prefix)| of(source, variable.strip_prefix(prefix.as_str())?))
    }

    /// All that it takes variables from.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let keys = self.own.iter().filter_map(|(name, own)| match own {
            // Of what else comes from a key, nothing is asked.
            Own::Key(source, _) if BACKENDS.contains(&name.as_str()) => Some(source),
            _ => None,
        });
        self.from.iter().map(|(source, _)| source).chain(keys)
    }
}

/// Which of a source's values is kept.
pub(super) fn kept(variable: &str, value: &str) -> Option<String> {
    BACKENDS.contains(&variable).then(|| value.to_owned())
}

fn own(variable: &EnvVar) -> (String, Own) {
    let name = variable.name.clone();
    let from = variable.value_from.as_ref();
    let secret = from.and_then(|from| from.secret_key_ref.as_ref());
    let config = from.and_then(|from| from.config_map_key_ref.as_ref());
    let own = match (secret, config) {
        (Some(secret), _) => Own::Key(Source::Secret(secret.name.clone()), secret.key.clone()),
        (None, Some(config)) => {
            Own::Key(Source::ConfigMap(config.name.clone()), config.key.clone())
        }
        (None, None) => Own::Value(variable.value.as_deref().and_then(|v| kept(&name, v))),
    };
    (name, own)
}

fn from(source: &EnvFromSource) -> Option<(Source, String)> {
    let secret = source
        .secret_ref
        .as_ref()
        .map(|s| Source::Secret(s.name.clone()));
    let config = source
        .config_map_ref
        .as_ref()
        .map(|c| Source::ConfigMap(c.name.clone()));
    Some((
        secret.or(config)?,
        source.prefix.clone().unwrap_or_default(),
    ))
}
