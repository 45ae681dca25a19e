//! The issuer of the cluster's ServiceAccount tokens, byte for byte. It never comes from an
//! object: an issuer that a tenant chooses would be a foreign identity provider.

use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    api::Reason,
    model::Issuer,
    problem::{Problem, Retry, bounded},
};

/// Where the issuer comes from.
#[derive(Debug)]
pub enum IssuerSource {
    /// The operator was told.
    Fixed(Issuer),
    /// The API server's discovery document, read again from time to time.
    Discovered(Mutex<Option<(Instant, Issuer)>>),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl IssuerSource {
    /// The given issuer, or the API server's.
    #[must_use]
    pub fn new(fixed: Option<Issuer>) -> Self {
        fixed.map_or_else(|| Self::Discovered(Mutex::default()), Self::Fixed)
    }

    /// The issuer; asked again if what is known is older than `max_age`. When the API server
    /// does not answer, the last known one holds: an issuer does not change by itself.
    ///
    /// # Errors
    /// The API server does not tell an issuer that Azure can reach.
    pub async fn get(&self, client: &Client, max_age: Duration) -> Result<Issuer, Problem> {
        let known = match self {
            Self::Fixed(issuer) => return Ok(issuer.clone()),
            Self::Discovered(known) => known,
        };
        let mut known = known.lock().await;
        if let Some((at, issuer)) = known.as_ref()
            && at.elapsed() <= max_age
        {
            return Ok(issuer.clone());
        }
        match discover(client).await {
            Ok(issuer) => {
                *known = Some((Instant::now(), issuer.clone()));
                Ok(issuer)
            }
            Err(problem) => match known.as_ref() {
                Some((_, issuer)) => Ok(issuer.clone()),
                None => Err(problem),
            },
        }
    }
}

/// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>
async fn discover(client: &Client) -> Result<Issuer, Problem> {
    const PATH: &str = "/.well-known/openid-configuration";
    let unknown = |what: String| Problem {
        reason: Reason::IssuerUnknown,
        message: format!(
            "The issuer of the cluster's ServiceAccount tokens is not known: {what}. On AKS: \
             az aks update -g <group> -n <cluster> --enable-oidc-issuer; elsewhere start the operator with --issuer <URL>."
        ),
        retry: Retry::Backoff,
    };
    let request = http::Request::get(PATH)
        .body(Vec::new())
        .map_err(|e| unknown(e.to_string()))?;
    let answer: Discovery = bounded(client.request(request))
        .await
        .map_err(|error| unknown(format!("{PATH}: {error}")))?;
    if is_private(&answer.issuer) {
        return Err(unknown(format!(
            "it is {}, which Azure cannot reach",
            answer.issuer
        )));
    }
    answer
        .issuer
        .parse()
        .map_err(|error: crate::model::Invalid| unknown(error.to_string()))
}

/// The default of a cluster whose issuer nobody has set; Entra fetches keys from the internet.
fn is_private(issuer: &str) -> bool {
    let host = issuer
        .trim_start_matches("https://")
        .split(['/', ':'])
        .next()
        .unwrap_or_default();
    let parts: Vec<&str> = host.split('.').collect();
    matches!(
        parts.as_slice(),
        ["kubernetes", "default", ..] | [.., "svc"] | [.., "cluster", "local"]
    )
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn the_default_issuer_of_a_cluster_is_no_use_to_azure() {
        for issuer in [
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.cluster.local",
            "https://kubernetes.default.svc:443/",
        ] {
            assert!(is_private(issuer), "{issuer}");
        }
        assert!(!is_private(
            "https://westeurope.oic.prod-aks.azure.com/a/b/"
        ));
    }
}
