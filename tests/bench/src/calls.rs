//! Calls, as the API server's audit log and the emulator's list tell them.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use jiff::Timestamp;
use lab::{AuditEntry, AzureRequest, Lab, parse_audit_log};
use tokio::time::sleep;

use crate::fleet::Fleet;

/// Without a write or an Event for so long, the work is done.
const QUIET: Duration = Duration::from_secs(4);

/// Longest wait for that.
const LIMIT: Duration = Duration::from_secs(1800);

/// What somebody asked of both APIs, by kind of request.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub kubernetes: BTreeMap<String, usize>,
    pub azure: BTreeMap<String, usize>,
    /// How often the credentials of each identity were listed.
    pub lists: BTreeMap<String, usize>,
    /// News about objects: told apart, since they change nothing.
    pub events: usize,
    /// Looks at the Lease of its replicas, and renewals of it: told apart, since they go by the time.
    pub lease: usize,
}

impl Calls {
    pub fn total(&self) -> usize {
        self.kubernetes() + self.azure()
    }

    pub fn kubernetes(&self) -> usize {
        self.kubernetes.values().sum()
    }

    pub fn azure(&self) -> usize {
        self.azure.values().sum()
    }

    /// How many there were of one kind.
    pub fn of(&self, kind: &str) -> usize {
        let count = self.kubernetes.get(kind).or(self.azure.get(kind));
        count.copied().unwrap_or_default()
    }

    /// That all this was done: whoever leaves something out is not quick.
    ///
    /// # Errors
    /// What was not done as often.
    pub fn ensure(&self, least: &[(&str, usize)]) -> Result<()> {
        for (kind, least) in least {
            let count = self.of(kind);
            ensure!(count >= *least, "only {count} of {least} {kind}");
        }
        Ok(())
    }

    /// Those that would change something.
    pub fn writes(&self) -> usize {
        let reads = ["get ", "list ", "watch "];
        let is_read = |kind: &str| reads.iter().any(|read| kind.starts_with(read));
        let kubernetes = self.kubernetes.iter().filter(|(kind, _)| !is_read(kind));
        let azure = self
            .azure
            .iter()
            .filter(|(kind, _)| kind.contains(".put") || kind.contains(".delete"));
        kubernetes.chain(azure).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in self.kubernetes.iter().chain(&self.azure) {
            write!(f, "{count} {kind}, ")?;
        }
        write!(f, "{} events, {} of the Lease", self.events, self.lease)
    }
}

/// The least that a fleet takes from nothing to ready.
pub fn lower_bound(fleet: &Fleet) -> usize {
    let (objects, accounts, identities) = (fleet.objects, fleet.credentials(), fleet.identities());
    let azure = identities + identities + accounts;
    let (finalizers, secrets, statuses) = (objects, objects, 2 * objects);
    azure + finalizers + accounts + secrets + statuses
}

/// Reads along what the operator does.
pub struct Trail<'lab> {
    lab: &'lab Lab,
    log: PathBuf,
    read: u64,
    last_azure: u64,
    calls: Calls,
    /// When it wrote anything last, events aside.
    pub last_write: Option<Timestamp>,
    /// When it published anything last.
    last_event: Option<Timestamp>,
}

impl<'lab> Trail<'lab> {
    /// From now on.
    pub async fn begin(lab: &'lab Lab) -> Result<Self> {
        let log = lab.audit_log_path().to_owned();
        let read = std::fs::metadata(&log)?.len();
        let last_azure = lab
            .emulator()
            .requests(0)
            .await?
            .last()
            .map_or(0, |request| request.n);
        Ok(Self {
            lab,
            log,
            read,
            last_azure,
            calls: Calls::default(),
            last_write: None,
            last_event: None,
        })
    }

    /// All since it began.
    pub async fn calls(&mut self) -> Result<&Calls> {
        self.read_log()?;
        for request in self.lab.emulator().requests(self.last_azure).await? {
            self.last_azure = self.last_azure.max(request.n);
            self.note_azure(&request);
        }
        Ok(&self.calls)
    }

    /// Waits until the operator has written, and then writes and publishes nothing more for a while.
    ///
    /// # Errors
    /// It never does.
    pub async fn until_quiet(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            sleep(Duration::from_millis(500)).await;
            self.read_log()?;
            let now = Timestamp::now();
            let last = self.last_event.max(self.last_write);
            let is_quiet = |at: Timestamp| now.duration_since(at).unsigned_abs() > QUIET;
            if self.last_write.is_some() && last.is_some_and(is_quiet) {
                return Ok(());
            }
        }
        bail!(
            "the operator wrote nothing, or without end: {:?}",
            self.calls
        )
    }

    fn read_log(&mut self) -> Result<()> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut more = String::new();
        file.read_to_string(&mut more)?;
        let whole = more.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for entry in parse_audit_log(&more[..whole])? {
            self.note(&entry)?;
        }
        Ok(())
    }

    fn note(&mut self, entry: &AuditEntry) -> Result<()> {
        if !entry
            .user
            .ends_with(":airflow-workload-identity:airflow-workload-identity")
        {
            return Ok(());
        }
        let at = Some(entry.time.parse()?);
        if entry.resource == "events" {
            self.calls.events += 1;
            self.last_event = self.last_event.max(at);
            return Ok(());
        }
        if entry.resource == "leases" {
            self.calls.lease += 1;
            return Ok(());
        }
        if entry.is_write() {
            self.last_write = self.last_write.max(at);
        }
        let mut kind = format!("{} {}", entry.verb, entry.resource);
        if !entry.subresource.is_empty() {
            kind = format!("{kind}/{}", entry.subresource);
        }
        if entry.code >= 400 {
            kind = format!("{kind} ({})", entry.code);
        }
        *self.calls.kubernetes.entry(kind).or_default() += 1;
        Ok(())
    }

    fn note_azure(&mut self, request: &AzureRequest) {
        if !request.is_operators() {
            return;
        }
        let kind = request.operation.clone().unwrap_or_default();
        if kind == "credential.list" && request.status < 400 {
            *self.calls.lists.entry(request.path.clone()).or_default() += 1;
        }
        let kind = if request.status >= 400 {
            format!("{kind} ({})", request.status)
        } else {
            kind
        };
        *self.calls.azure.entry(kind).or_default() += 1;
    }
}
