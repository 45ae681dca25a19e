//! The API server's client: nothing that it asks hangs for ever, and nothing is asked without a pause.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Uri};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tokio::time::{Instant, sleep_until};
use tower::{Service, layer::layer_fn, limit::ConcurrencyLimitLayer};

/// How long a watch lasts, in seconds; then it is asked for anew, and one that has not ended by then is
/// dead: a connection that broke on the way tells nobody.
pub const WATCH: u32 = 60;
/// Longest silence while an answer is due: in a watch that is well there is none as long.
pub const SILENCE: Duration = Duration::from_secs(75);
/// From one start of a watch to the next. To kube, one that ends at once is over, and nothing is amiss.
const PAUSE: Duration = Duration::from_secs(1);

/// Requests that wait for an answer at a time; watches, once they have begun, do not count. Each takes a connection, and
/// more are no faster. An API server gives the ServiceAccounts of a cluster some 250 places together, queues as many of
/// each, and refuses the rest.
/// <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>
pub const AT_ONCE: usize = 32;

/// A client as everything here uses it.
///
/// # Errors
/// What the configuration names cannot be read.
pub fn client(mut config: Config) -> kube::Result<Client> {
    // The controller tries again by itself; a client that does, too, holds a pass for minutes.
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let begun = Arc::default();
    let paced = layer_fn(|inner| Paced {
        inner,
        begun: Arc::clone(&begun),
    });
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&ConcurrencyLimitLayer::new(AT_ONCE))
        .with_layer(&paced)
        .build())
}

/// Lets no watch begin again before its pause is over.
struct Paced<S> {
    inner: S,
    /// By what is watched.
    begun: Arc<Mutex<HashMap<String, Instant>>>,
}

impl<S> Paced<S> {
    /// When a watch may begin; none for any other request.
    fn start(&self, uri: &Uri) -> Option<Instant> {
        let watched = watched(uri)?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let start = begun
            .get(&watched)
            .map_or(now, |before| now.max(*before + PAUSE));
        begun.insert(watched, start);
        Some(start)
    }
}

impl<S> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let start = self.start(request.uri());
        // Nothing is sent before it is polled.
        let answer = self.inner.call(request);
        async move {
            if let Some(start) = start {
                sleep_until(start).await;
            }
            answer.await
        }
        .boxed()
    }
}

/// What a request watches: path and selectors.
fn watched(uri: &Uri) -> Option<String> {
    let query = uri.query()?;
    let mut parts = query.split('&');
    parts.clone().find(|part| *part == "watch=true")?;
    let selectors = parts.by_ref().filter(|part| part.contains("Selector="));
    Some(selectors.fold(uri.path().to_owned(), |key, part| format!("{key}&{part}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_known_by_path_and_selectors() {
        let of = |uri: &str| watched(&uri.parse().unwrap());
        let secrets = "/api/v1/secrets";
        assert_eq!(of(secrets), None);
        assert_eq!(of("/api/v1/secrets?limit=500"), None);
        let plain = of("/api/v1/secrets?&watch=true&resourceVersion=1");
        assert_eq!(plain.as_deref(), Some(secrets));
        assert_eq!(of("/api/v1/secrets?watch=true&resourceVersion=2"), plain);
        let ours = of("/api/v1/secrets?labelSelector=a&watch=true");
        assert_eq!(ours.as_deref(), Some("/api/v1/secrets&labelSelector=a"));
    }
}
