//! The operators' processes: one, or two that elect a leader. They crash, are paused, are cut off
//! from the cluster or from Azure, and come back.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airflow_workload_identity::azure::{AzureClient, Cloud, CloudName, Overrides};
use airflow_workload_identity::controller::Scope;
use airflow_workload_identity::operator::{Operator, Settings};
use azure_core::http::Transport;
use kube::Client;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::api_server::Watch;
use crate::azure::{AzureLink, SignIn};
use crate::cluster::ClusterLink;
use crate::entra;
use crate::names::{AUDIENCE, CredentialPath, FOREIGN_ISSUER, OWN_NAMESPACE};
use crate::rules::{Known, Trust, identity_of_client};
use crate::world::World;

/// One process's connections, and what it has learnt by them.
pub struct Link {
    pub world: Arc<World>,
    /// No other process has it.
    pub name: String,
    state: Mutex<LinkState>,
    /// It was stopped, or goes on.
    turned: Notify,
}

#[derive(Default)]
struct LinkState {
    /// Until then the network does not lead there.
    cut_from_cluster: Option<Instant>,
    cut_from_azure: Option<Instant>,
    /// The versions up to which it was told of grants and of objects, and when.
    told: BTreeMap<String, Vec<(Instant, u64)>>,
    /// What it was told of identities' credentials.
    credentials: BTreeMap<String, BTreeMap<String, Trust>>,
    /// What Entra has told it since it last wrote a credential for that account: the client, and the subject.
    admissions: BTreeSet<(String, String)>,
    /// When it was told last that an identity lets a subject in.
    let_in: BTreeMap<(String, String), Instant>,
    /// Writes without an answer, by identity.
    writing: BTreeMap<String, usize>,
    is_stopped: bool,
    paused_at: Option<Instant>,
    resumed_at: Option<Instant>,
}

impl LinkState {
    fn is_let_in(&mut self, identity: &str, trust: &Trust) {
        if trust.audience == AUDIENCE && trust.issuer != FOREIGN_ISSUER {
            let let_in = (identity.to_owned(), trust.subject.clone());
            self.let_in.insert(let_in, Instant::now());
        }
    }

    /// It slept for so long. A pass that it was in the middle of has not become any older.
    fn resumes(&mut self, length: Duration) {
        self.resumed_at = Some(Instant::now());
        self.is_stopped = false;
        for at in self.let_in.values_mut() {
            *at += length;
        }
    }
}

const GRANTS: &str = "azureidentitygrants";
const OBJECTS: &str = "airflowworkloadidentities";
/// A pass takes no longer, but where several of its requests are answered late, or the process sleeps.
pub const PASS: Duration = Duration::from_secs(60);
/// Nor, if three of its requests go without an answer for half a minute each, than this.
const LONG_PASS: Duration = Duration::from_secs(100);

/// What is told now is known when the process has had time to read it.
const READ: Duration = Duration::from_secs(2);

impl Link {
    fn new(world: &Arc<World>, name: String) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            name,
            state: Mutex::default(),
            turned: Notify::new(),
        })
    }

    /// A process that is stopped sends nothing and reads nothing. What it had made up its mind to send
    /// it sends when it goes on.
    pub async fn is_awake(&self) {
        self.until_stopped(false).await;
    }

    async fn until_stopped(&self, is_stopped: bool) {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if self.state().is_stopped == is_stopped {
                return;
            }
            turned.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_cut_from_cluster(&self) -> bool {
        self.state()
            .cut_from_cluster
            .is_some_and(|until| Instant::now() < until)
    }

    pub fn is_cut_from_azure(&self) -> bool {
        self.state()
            .cut_from_azure
            .is_some_and(|until| Instant::now() < until)
    }

    /// A list of the cluster's was delivered.
    pub fn heard(&self, request: &http::Request<Vec<u8>>, answer: &http::Response<Vec<u8>>) {
        let path = request.uri().path();
        let plural = path.rsplit('/').next().unwrap_or_default();
        let is_list = [GRANTS, OBJECTS].contains(&plural);
        if request.method() == http::Method::GET && is_list && answer.status().is_success() {
            let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let version = body["metadata"]["resourceVersion"].as_str();
            let version = version.and_then(|version| version.parse().ok());
            self.is_told(plural, version.unwrap_or_default());
        }
    }

    /// Events of a watch were delivered up to this version.
    pub fn watched(&self, watch: &Watch, version: u64) {
        self.is_told(watch.plural, version);
    }

    fn is_told(&self, plural: &str, version: u64) {
        let mut state = self.state();
        let told = state.told.entry(plural.to_owned()).or_default();
        told.push((Instant::now(), version));
    }

    /// What it knows for certain when it sends a request.
    pub fn known(&self) -> Known {
        let state = self.state();
        let now = Instant::now();
        // A process that sleeps reads nothing.
        let awake = match (state.paused_at, state.resumed_at) {
            (Some(paused), None) => paused,
            (Some(paused), Some(resumed)) if now < resumed + READ => paused,
            _ => now,
        };
        let told = |plural: &str| state.told.get(plural).into_iter().flatten();
        let mut grants = told(GRANTS).filter(|(at, _)| *at + READ <= awake);
        let mut objects = told(OBJECTS).filter(|(at, _)| *at + READ <= awake);
        // A process that began later began with what it was told first.
        let mut before = told(OBJECTS).filter(|(at, _)| *at + READ + LONG_PASS <= awake);
        let before = before.next_back().or_else(|| told(OBJECTS).next());
        Known {
            grants: grants.next_back().map_or(0, |(_, version)| *version),
            objects: objects.next_back().map_or(0, |(_, version)| *version),
            objects_before: before.map_or(0, |(_, version)| *version),
        }
    }

    /// Whether it was stopped, not long ago: what it was about to send it sent when it went on.
    pub fn has_slept(&self) -> bool {
        let state = self.state();
        state.resumed_at.is_some_and(|at| at.elapsed() < PASS)
    }

    /// What it was told of a credential.
    pub fn knows_credential(&self, path: &CredentialPath) -> Option<Trust> {
        let state = self.state();
        let known = state.credentials.get(&path.identity)?;
        known.get(&path.name).cloned()
    }

    /// Whether it was told, not long ago, that an identity lets this subject in: what a pass has read
    /// it goes by to its end.
    pub fn knew(&self, identity: &str, subject: &str) -> bool {
        let state = self.state();
        let let_in = state.let_in.get(&(identity.to_owned(), subject.to_owned()));
        let_in.is_some_and(|at| at.elapsed() < LONG_PASS)
    }

    /// Whether Entra has told it that this account may become this client, by the credential that it has now.
    pub fn was_admitted(&self, client: &str, subject: &str) -> bool {
        let admission = (client.to_owned(), subject.to_owned());
        self.state().admissions.contains(&admission)
    }

    /// A request to Azure leaves the process. Until what is returned is dropped, it is in flight.
    pub fn sends(&self, request: &http::Request<Vec<u8>>) -> Option<InFlight<'_>> {
        let path = CredentialPath::of(request)?;
        if request.method() == http::Method::GET {
            return None;
        }
        let identity = path.identity.clone();
        let count = {
            let mut state = self.state();
            let count = state.writing.entry(identity.clone()).or_default();
            *count += 1;
            *count
        };
        let state = &mut *self.world.state();
        if count > 1 {
            state.rules.broken(&format!(
                "rule 4: {count} writes of {} in flight to {identity}",
                self.name
            ));
        }
        state.rules.sends(&self.name, &identity);
        Some(InFlight {
            link: self,
            identity,
        })
    }

    /// An answer of Azure's was delivered.
    pub fn learns(&self, request: &http::Request<Vec<u8>>, answer: &http::Response<Vec<u8>>) {
        if !answer.status().is_success() {
            return;
        }
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let mut state = self.state();
        let path = request.uri().path();
        if let Some(admission) = body["access_token"].as_str() {
            state.admissions.extend(entra::admitted(admission));
        } else if let Some(path) = CredentialPath::of(request) {
            let identity = path.identity.clone();
            let known = state.credentials.entry(path.identity).or_default();
            if request.method() == http::Method::DELETE {
                known.remove(&path.name);
            } else {
                let trust = Trust::of(&body["properties"]);
                known.insert(path.name, trust.clone());
                state.is_let_in(&identity, &trust);
                let azure = self.world.azure.state();
                state.admissions.retain(|(client, subject)| {
                    *subject != trust.subject
                        || identity_of_client(&azure, client).as_ref() != Some(&identity)
                });
            }
        } else if let Some(identity) = path.strip_suffix("/federatedIdentityCredentials") {
            let all = body["value"].as_array().into_iter().flatten();
            let known = all.map(|credential| {
                let name = credential["name"].as_str().unwrap_or_default();
                (
                    name.to_ascii_lowercase(),
                    Trust::of(&credential["properties"]),
                )
            });
            let identity = identity.to_ascii_lowercase();
            let known: BTreeMap<String, Trust> = known.collect();
            for trust in known.values() {
                state.is_let_in(&identity, trust);
            }
            state.credentials.insert(identity.clone(), known);
            drop(state);
            self.world.state().rules.lists(&identity);
        }
    }
}

/// A write to Azure without an answer.
pub struct InFlight<'a> {
    link: &'a Link,
    identity: String,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.link.state();
        if let Some(count) = state.writing.get_mut(&self.identity) {
            *count -= 1;
        }
    }
}

/// The watches, the controller and the election of a process, which SIGSTOP stops. Its passes are tasks
/// of their own, whose requests wait.
async fn pausable<T>(link: Arc<Link>, process: impl Future<Output = T>) -> T {
    let mut process = pin!(process);
    loop {
        link.is_awake().await;
        tokio::select! {
            biased;
            () = link.until_stopped(true) => {}
            ended = &mut process => return ended,
        }
    }
}

struct Process {
    link: Arc<Link>,
    task: JoinHandle<anyhow::Result<()>>,
    stop: Option<oneshot::Sender<()>>,
}

/// All of them, and what keeps them running.
pub struct Operators {
    world: Arc<World>,
    elects: bool,
    /// What the next process takes for the issuer.
    pub issuer: String,
    pub resync: Duration,
    started: usize,
    processes: Vec<Process>,
}

impl Operators {
    pub fn start(world: &Arc<World>, elects: bool, issuer: String, resync: Duration) -> Self {
        let mut operators = Self {
            world: world.clone(),
            elects,
            issuer,
            resync,
            started: 0,
            processes: Vec::new(),
        };
        for _ in 0..if elects { 2 } else { 1 } {
            let process = operators.launch();
            operators.processes.push(process);
        }
        operators
    }

    fn launch(&mut self) -> Process {
        self.started += 1;
        let name = format!("operator-{}", self.started);
        self.world.tell(|| format!("{name} starts"));
        let link = Link::new(&self.world, name.clone());
        let cloud = Cloud::new(CloudName::Public, Overrides::default()).expect("the public cloud");
        let transport = Transport::new(Arc::new(AzureLink(link.clone())));
        let sign_in: Arc<dyn azure_core::credentials::TokenCredential> =
            Arc::new(SignIn(link.clone()));
        let operator = Operator::new(
            Settings {
                namespace: OWN_NAMESPACE.into(),
                scopes: vec![Scope::Cluster],
                issuer: Some(self.issuer.parse().expect("an issuer")),
                audience: cloud.federation_audience.clone(),
                verify_exchange: self.world.verifies,
                resync: self.resync,
                candidate: self.elects.then(|| name.clone()),
            },
            Client::new(ClusterLink(link.clone()), OWN_NAMESPACE),
            AzureClient::new(&cloud, None, &transport, &sign_in),
            &mut Registry::default(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // Whoever forgets to stop it lets it run.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(pausable(link.clone(), operator.run(stopped)));
        Process {
            link,
            task,
            stop: Some(stop),
        }
    }

    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// What the kubelet does: a process that has ended is started again. A panic is a violation, and so is an end
    /// that nobody asked for, unless the Lease may be lost.
    pub async fn supervise(&mut self) {
        for index in 0..self.processes.len() {
            if !self.processes[index].task.is_finished() {
                continue;
            }
            let next = self.launch();
            let ended = std::mem::replace(&mut self.processes[index], next);
            let how = ended.task.await;
            self.world.tell(|| format!("{} ended", ended.link.name));
            let wrong = match how {
                Err(error) if error.is_panic() => format!("panicked: {error}"),
                Ok(Err(error)) if !self.elects => format!("ended by itself: {error:#}"),
                Ok(Ok(())) if ended.stop.is_some() => "ended by itself".to_owned(),
                _ => continue,
            };
            let what = format!("{} {wrong}", ended.link.name);
            self.world.state().rules.broken(&what);
        }
    }

    /// SIGKILL. It is started again with the next look.
    pub fn crash(&mut self, index: usize) {
        let process = &mut self.processes[index];
        self.world.tell(|| format!("{} crashes", process.link.name));
        process.task.abort();
    }

    /// SIGTERM.
    pub fn stop(&mut self, index: usize) {
        let process = &mut self.processes[index];
        self.world
            .tell(|| format!("{} is told to stop", process.link.name));
        if let Some(stop) = process.stop.take() {
            let _ = stop.send(());
        }
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub fn pause(&mut self, index: usize, length: Duration) {
        let link = self.processes[index].link.clone();
        if std::mem::replace(&mut link.state().is_stopped, true) {
            return;
        }
        link.turned.notify_waiters();
        self.world
            .tell(|| format!("{} is paused for {length:?}", link.name));
        {
            let mut state = link.state();
            state.paused_at = Some(Instant::now());
            state.resumed_at = None;
        }
        tokio::spawn(async move {
            sleep(length).await;
            link.world.tell(|| format!("{} goes on", link.name));
            link.state().resumes(length);
            link.turned.notify_waiters();
        });
    }

    /// For a while the network leads nowhere.
    pub fn cut(&mut self, index: usize, cluster: bool, azure: bool, length: Duration) {
        let link = &self.processes[index].link;
        self.world.tell(|| {
            format!(
                "{} is cut off for {length:?}: cluster {cluster}, Azure {azure}",
                link.name
            )
        });
        let until = Some(Instant::now() + length);
        let mut state = link.state();
        if cluster {
            state.cut_from_cluster = state.cut_from_cluster.max(until);
        }
        if azure {
            state.cut_from_azure = state.cut_from_azure.max(until);
        }
    }
}
