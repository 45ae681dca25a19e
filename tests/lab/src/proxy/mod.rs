//! Between the operator and both APIs: sees each request, and does with it what the test says.
//!
//! ```no_run
//! # async fn example(lab: lab::Lab, awi: &std::path::Path) -> anyhow::Result<()> {
//! use lab::OperatorOptions;
//! use lab::proxy::{Fate, Proxy, Side};
//!
//! let proxy = Proxy::start(&lab)?;
//! proxy.rule(|seen| match seen.write {
//!     Some(3) => Fate::Hold,
//!     _ if seen.side == Side::Azure && seen.path.ends_with("/token") => {
//!         Fate::answer(503, &[("retry-after", "1")], "busy")
//!     }
//!     _ => Fate::Pass,
//! });
//! let options = OperatorOptions::default().through(&proxy);
//! let operator = lab.start_operator(awi, options).await?;
//! let third = proxy.held(|seen| seen.write == Some(3)).await;
//! proxy.rule(|_| Fate::Pass);
//! # Ok(())
//! # }
//! ```

mod fate;
mod front;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use axum::http::Method;
use axum::http::request::Parts;
use tokio::sync::watch;

pub use fate::Fate;
use front::Front;

use crate::lab::Lab;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The API server.
    Cluster,
    /// Resource Manager, Microsoft Graph and Entra.
    Azure,
}

/// A request that has arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its place among all requests of the proxy, from 1.
    pub number: usize,
    /// If it is a write, its place among them, from 1.
    pub write: Option<usize>,
    pub side: Side,
    pub method: Method,
    pub path: String,
    /// Empty if there is none.
    pub query: String,
}

/// In front of the API server and of Azure: two addresses, one rule, one count. When it is dropped, so are all
/// connections; but what it has passed on arrives.
pub struct Proxy {
    cluster: Front,
    azure: Front,
    traffic: Arc<Traffic>,
}

impl Proxy {
    /// Passes everything on, until it is told otherwise. It belongs to the current runtime.
    pub fn start(lab: &Lab) -> Result<Self> {
        let traffic = Arc::new(Traffic::new());
        let front = |side, upstream| Front::start(&lab.authority, side, upstream, &traffic);
        Ok(Self {
            cluster: front(Side::Cluster, lab.api_server())?,
            azure: front(Side::Azure, lab.emulator().url().to_owned())?,
            traffic,
        })
    }

    /// Where the API server seems to be.
    #[must_use]
    pub fn cluster_url(&self) -> &str {
        self.cluster.url()
    }

    /// Where Azure seems to be.
    #[must_use]
    pub fn azure_url(&self) -> &str {
        self.azure.url()
    }

    /// From now on, `rule` says what becomes of a request. One that is held is judged anew.
    pub fn rule(&self, rule: impl Fn(&Seen) -> Fate + Send + Sync + 'static) {
        self.traffic.rule.send_replace(Arc::new(rule));
    }

    /// All requests that have arrived.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.traffic.log.borrow().seen.clone()
    }

    /// Those of them that are writes.
    #[must_use]
    pub fn writes(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.write.is_some());
        seen
    }

    /// Waits until such a request has arrived.
    pub async fn arrived(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        self.traffic
            .wait(|log| log.seen.iter().find(|seen| is_it(seen)).cloned())
            .await
    }

    /// Waits until the `k`-th write has arrived.
    pub async fn write(&self, k: usize) -> Seen {
        self.arrived(|seen| seen.write == Some(k)).await
    }

    /// Waits until such a request is held: before it was passed on, or with its answer at hand.
    pub async fn held(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        self.traffic.wait_for_held(|seen, _| is_it(seen)).await
    }

    /// Waits until such a request is held with its answer at hand.
    pub async fn answered(&self, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let is_it = |seen: &Seen, has_answer| has_answer && is_it(seen);
        self.traffic.wait_for_held(is_it).await
    }

    /// Drops all connections that are open now, watches included.
    pub fn cut(&self) {
        self.traffic.cut.send_replace(());
    }
}

/// What both fronts share.
struct Traffic {
    rule: watch::Sender<Arc<Rule>>,
    log: watch::Sender<Log>,
    cut: watch::Sender<()>,
}

type Rule = dyn Fn(&Seen) -> Fate + Send + Sync;

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    /// By number, and whether the answer is at hand.
    held: BTreeMap<usize, bool>,
    writes: usize,
}

impl Traffic {
    fn new() -> Self {
        Self {
            rule: watch::Sender::new(Arc::new(|_: &Seen| Fate::Pass)),
            log: watch::Sender::default(),
            cut: watch::Sender::default(),
        }
    }

    fn note(&self, side: Side, head: &Parts) -> Seen {
        let mut noted = None;
        self.log.send_modify(|log| {
            let is_write = is_write(side, &head.method, head.uri.path());
            log.writes += usize::from(is_write);
            let seen = Seen {
                number: log.seen.len() + 1,
                write: is_write.then_some(log.writes),
                side,
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
            };
            log.seen.push(seen.clone());
            noted = Some(seen);
        });
        noted.expect("send_modify calls its closure")
    }

    /// What the rule says, as soon as that is not to hold.
    async fn judge(&self, seen: &Seen, has_answer: bool) -> Fate {
        let mut rules = self.rule.subscribe();
        let mut held = None;
        loop {
            let rule = Arc::clone(&rules.borrow_and_update());
            let fate = rule(seen);
            if !fate.holds(has_answer) {
                return fate;
            }
            held.get_or_insert_with(|| Held::new(self, seen.number, has_answer));
            // It fails only when the proxy is gone, and then so is this request.
            let _ = rules.changed().await;
        }
    }

    async fn wait_for_held(&self, is_it: impl Fn(&Seen, bool) -> bool) -> Seen {
        self.wait(|log| {
            let held = log
                .held
                .iter()
                .map(|(n, answer)| (&log.seen[n - 1], *answer));
            let mut found = held.filter(|(seen, answer)| is_it(seen, *answer));
            found.next().map(|(seen, _)| seen.clone())
        })
        .await
    }

    async fn wait<T>(&self, find: impl Fn(&Log) -> Option<T>) -> T {
        let mut log = self.log.subscribe();
        loop {
            if let Some(found) = find(&log.borrow_and_update()) {
                return found;
            }
            // The sender is this very proxy's.
            let _ = log.changed().await;
        }
    }
}

/// Until it is dropped, a request is among those that are held.
struct Held<'a> {
    traffic: &'a Traffic,
    number: usize,
}

impl<'a> Held<'a> {
    fn new(traffic: &'a Traffic, number: usize, has_answer: bool) -> Self {
        traffic.log.send_modify(|log| {
            log.held.insert(number, has_answer);
        });
        Self { traffic, number }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.traffic.log.send_modify(|log| {
            log.held.remove(&self.number);
        });
    }
}

/// Whether it may change an object or a credential. Leases and Events come by the clock; reviews and tokens leave
/// nothing behind.
fn is_write(side: Side, method: &Method, path: &str) -> bool {
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_exempt = match side {
        Side::Cluster => {
            path.starts_with("/apis/coordination.k8s.io/")
                || path.starts_with("/apis/authorization.k8s.io/")
                || resource(path) == Some("events")
                || path.ends_with("/token")
        }
        Side::Azure => path.ends_with("/oauth2/v2.0/token"),
    };
    !is_read && !is_exempt
}

/// The plural of a namespaced object.
fn resource(path: &str) -> Option<&str> {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces");
    parts.nth(2)
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::{Side, is_write};

    #[test]
    fn what_changes_an_object_or_a_credential_is_a_write() {
        let objects = "/apis/airflow-workload-identity.io/v1alpha1/namespaces/events/x/y";
        let leases = "/apis/coordination.k8s.io/v1/namespaces/x/leases/y";
        let credential = "/subscriptions/s/x/federatedIdentityCredentials/y";
        for (side, method, path, expected) in [
            (Side::Cluster, Method::PATCH, objects, true),
            (Side::Cluster, Method::GET, objects, false),
            (Side::Cluster, Method::PUT, leases, false),
            (
                Side::Cluster,
                Method::POST,
                "/api/v1/namespaces/x/events",
                false,
            ),
            (
                Side::Cluster,
                Method::POST,
                "/api/v1/namespaces/x/secrets",
                true,
            ),
            (
                Side::Cluster,
                Method::POST,
                "/api/v1/namespaces/x/serviceaccounts/y/token",
                false,
            ),
            (Side::Azure, Method::PUT, credential, true),
            (Side::Azure, Method::DELETE, credential, true),
            (Side::Azure, Method::GET, credential, false),
            (
                Side::Azure,
                Method::POST,
                "/tenant/oauth2/v2.0/token",
                false,
            ),
        ] {
            assert_eq!(is_write(side, &method, path), expected, "{method} {path}");
        }
    }
}
