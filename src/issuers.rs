//! The issuers that the cluster has had: a rotated issuer leaves credentials behind that are still
//! ours to clean up, and nobody but the operator itself may say which those are. Kept in a
//! `ConfigMap` in the operator's own namespace.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::Mutex;

use crate::{
    api::{MANAGED_BY_LABEL, OPERATOR},
    model::Issuer,
    problem::{ClusterError, Problem, bounded},
};

/// The name of the `ConfigMap`.
pub const NAME: &str = "airflow-workload-identity-issuers";
const KEY: &str = "issuers";
const CONFLICT: u16 = 409;
/// How often a write is tried in one go. Two replicas are in each other's way once.
const TRIES: usize = 3;

/// What the operator remembers.
pub struct IssuerHistory {
    api: Api<ConfigMap>,
    known: Mutex<Option<BTreeSet<Issuer>>>,
}

impl IssuerHistory {
    /// The history in the operator's own namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            known: Mutex::default(),
        }
    }

    /// For who may not read it: these are taken for all.
    #[must_use]
    pub fn assumed(client: Client, namespace: &str, issuers: BTreeSet<Issuer>) -> Self {
        Self {
            known: Mutex::new(Some(issuers)),
            ..Self::new(client, namespace)
        }
    }

    /// All issuers that the cluster is known to have had. Read once.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn all(&self) -> Result<BTreeSet<Issuer>, Problem> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref() {
            return Ok(known.clone());
        }
        let read = bounded(self.api.get_opt(NAME))
            .await
            .map_err(|error| problem("cannot read", &error))?;
        let issuers = read.map(|config| issuers(&config)).unwrap_or_default();
        *known = Some(issuers.clone());
        Ok(issuers)
    }

    /// Remembers an issuer, before anything is written for it.
    ///
    /// # Errors
    /// The API server refused or did not answer.
    pub async fn remember(&self, issuer: &Issuer) -> Result<(), Problem> {
        let mut known = self.known.lock().await;
        if known.as_ref().is_some_and(|known| known.contains(issuer)) {
            return Ok(());
        }
        let mut again = 1..TRIES;
        let written = loop {
            match self.add(issuer).await {
                // Another replica was faster.
                Err(error) if error.is_status(CONFLICT) && again.next().is_some() => {}
                result => break result,
            }
        };
        *known = Some(written.map_err(|error| problem("cannot write", &error))?);
        Ok(())
    }

    async fn add(&self, issuer: &Issuer) -> Result<BTreeSet<Issuer>, ClusterError> {
        let params = PostParams {
            field_manager: Some(OPERATOR.into()),
            ..PostParams::default()
        };
        let found = bounded(self.api.get_opt(NAME)).await?;
        let mut all = found.as_ref().map(issuers).unwrap_or_default();
        all.insert(issuer.clone());
        let lines: Vec<&str> = all.iter().map(Issuer::as_str).collect();
        let config = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                labels: Some([(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned())].into()),
                resource_version: found
                    .as_ref()
                    .and_then(|config| config.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            data: Some([(KEY.to_owned(), lines.join("\n"))].into()),
            ..ConfigMap::default()
        };
        if found.is_some() {
            bounded(self.api.replace(NAME, &params, &config)).await?;
        } else {
            bounded(self.api.create(&params, &config)).await?;
        }
        Ok(all)
    }
}

/// One a line; what is no issuer is nobody's.
fn issuers(config: &ConfigMap) -> BTreeSet<Issuer> {
    let text = config.data.as_ref().and_then(|data| data.get(KEY));
    text.into_iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.parse().ok())
        .collect()
}

fn problem(what: &str, error: &ClusterError) -> Problem {
    Problem::cluster(
        &format!("{what} the operator's ConfigMap {NAME} with the cluster's issuers"),
        error,
    )
}
