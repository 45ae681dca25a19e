//! Which of several replicas works: the holder of a Lease. It is taken by compare-and-swap, and
//! another's is overdue by this replica's own clock only, so skewed clocks do no harm.
//! The algorithm is client-go's: <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    api::OPERATOR,
    health::Health,
    mandate::Mandate,
    problem::{ClusterError, bounded},
};

/// The name of the Lease.
pub const NAME: &str = "airflow-workload-identity";
/// What is pending, and which loop runs, in the words of the probes.
const LEASE: &str = "leases airflow-workload-identity";
const LOOP: &str = "election";
const CONFLICT: u16 = 409;
/// How long others wait for a holder of whom nothing is heard.
pub const TTL: Duration = Duration::from_secs(15);
/// How long a holder goes on without having renewed: less than others wait.
const TERM: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// This replica's part in the election.
pub struct Candidate {
    leases: Api<Lease>,
    me: String,
    mandate: Arc<Mandate>,
    health: Arc<Health>,
    /// Another's Lease as last seen, and when it was first seen so.
    seen: Option<(Option<String>, Instant)>,
}

impl Candidate {
    /// A replica called `me`, which no other may be, in the operator's own namespace.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        me: String,
        mandate: Arc<Mandate>,
        health: Arc<Health>,
    ) -> Self {
        health.pending(LEASE, "not asked for yet");
        Self {
            leases: Api::namespaced(client, namespace),
            me,
            mandate,
            health,
            seen: None,
        }
    }

    /// Waits until this replica holds the Lease.
    pub async fn win(&mut self) {
        // Each news once, however often it is looked.
        let mut told = String::new();
        loop {
            self.health.beat(LOOP);
            let taken = self.take().await;
            match &taken {
                // A replica that waits is as ready as it can be.
                Ok(_) => self.health.done(LEASE),
                Err(error) => self.health.explain(LEASE, &error.to_string()),
            }
            match taken {
                Ok(None) => {
                    tracing::info!(lease = NAME, "leading");
                    return;
                }
                Ok(Some(other)) if told != other => {
                    tracing::info!(lease = NAME, holder = other, "waiting");
                    told = other;
                }
                // Another replica was faster; who it is shows the next time.
                Err(error) if error.is_status(CONFLICT) => {}
                Err(error) if told != error.to_string() => {
                    tracing::warn!("cannot take Lease {NAME}: {error}");
                    told = error.to_string();
                }
                Ok(Some(_)) | Err(_) => {}
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews it; resolves when it is lost.
    pub async fn hold(&mut self) {
        loop {
            self.health.beat(LOOP);
            sleep(PERIOD).await;
            // A process that was paused finds its term over; and an answer that comes after it
            // helps nobody.
            if !self.mandate.is_in_term() {
                return;
            }
            let end = self.mandate.ends();
            match timeout_at(end, self.take()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(other))) => {
                    tracing::error!(lease = NAME, holder = other, "somebody else leads");
                    return;
                }
                Ok(Err(error)) => tracing::warn!("cannot renew Lease {NAME}: {error}"),
                Err(_) => {
                    tracing::error!("cannot renew Lease {NAME}: no answer");
                    return;
                }
            }
        }
    }

    /// Gives it up, so that another replica need not wait.
    pub async fn resign(&self) {
        let released = async {
            let Some(mut lease) = bounded(self.leases.get_opt(NAME)).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.me) {
                spec.holder_identity = None;
                let params = PostParams::default();
                bounded(self.leases.replace(NAME, &params, &lease)).await?;
            }
            Ok::<_, ClusterError>(())
        };
        if let Err(error) = released.await {
            tracing::warn!("cannot give Lease {NAME} up: {error}");
        }
    }

    /// Takes or renews it. Returns who holds it if that is somebody else.
    async fn take(&mut self) -> Result<Option<String>, ClusterError> {
        let since = Instant::now();
        let found = bounded(self.leases.get_opt(NAME)).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.clone());
        let holder = spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let other = holder.filter(|holder| !holder.is_empty() && *holder != self.me);
        if let (Some(other), Some(lease)) = (&other, &found)
            && !self.is_overdue(lease)
        {
            return Ok(Some(other.clone()));
        }
        self.write(found.as_ref(), other.is_some()).await?;
        self.seen = None;
        self.mandate.extend(since, TERM);
        Ok(None)
    }

    /// Whether another's Lease has not changed for as long as it lasts.
    fn is_overdue(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() > TTL,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    /// A replace with the version that was read: whoever comes second gets a 409.
    async fn write(&self, found: Option<&Lease>, changes: bool) -> Result<(), ClusterError> {
        let now = Some(MicroTime(Timestamp::now()));
        let before = found
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let transitions = before.lease_transitions.unwrap_or_default();
        let is_mine = before.holder_identity.as_deref() == Some(&self.me);
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(TTL.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| is_mine).or(now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions.saturating_add(i32::from(changes))),
            ..LeaseSpec::default()
        };
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                resource_version: found.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let params = PostParams {
            field_manager: Some(OPERATOR.into()),
            ..PostParams::default()
        };
        if found.is_some() {
            bounded(self.leases.replace(NAME, &params, &lease)).await?;
        } else {
            bounded(self.leases.create(&params, &lease)).await?;
        }
        Ok(())
    }
}
