//! Rows of a table of faults, side by side: a namespace, an identity or an application, and an object for each,
//! behind one proxy and one operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use airflow_workload_identity::api::AzureIdentityGrant;
use axum::http::Method;
use futures::{FutureExt, future::join_all};
use kube::{Api, ResourceExt, api::ListParams};
use lab::{
    Lab, LabOptions, Operator, OperatorOptions,
    proxy::{Fate, Proxy, Seen},
};
use serde_json::{Value, json};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use super::bounds::{ENDLESS, ENDLESS_PAGES};
use crate::world::{World, awi, list, resource_id};

/// How long a fault lasts after it is told. What tries again without waiting does so hundreds of times in it.
const TIME: Duration = Duration::from_secs(10);
/// For machines that do much else. Whatever waits for a minute without an answer is not late.
const LIMIT: Duration = Duration::from_secs(360);
/// In MiB: what so many watches take, and far from what an answer without end would.
const MEMORY: u64 = 200;
/// The rows share two cores with an API server.
const LOOK: Duration = Duration::from_millis(500);

/// So that it is the fault that makes the operator try again.
pub const RARELY: &str = "5m";
pub const OFTEN: &str = "1s";

/// A fault, and what comes of it.
pub struct Row {
    /// Also the name of the namespace, and of the managed identity.
    pub name: &'static str,
    /// Which requests it befalls, among those that name the row.
    pub hits: fn(&Seen) -> bool,
    /// What becomes of one of them, by its URL.
    pub fate: fn(&str) -> Fate,
    /// Where the user reads of it meanwhile.
    pub told: Told,
    /// Most requests that it befalls while it lasts.
    pub most: usize,
}

/// Where the user reads of a fault.
pub enum Told {
    /// `Ready` is False for this reason, and says these words.
    Ready(&'static str, &'static str),
    /// No condition can tell. The operator's log does, in a line with these words, and the row's name if it
    /// has one.
    Log(&'static str),
    /// Nothing is amiss.
    Nothing,
}

/// When the faults begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Before the objects are there.
    Before,
    /// When all is well, with all connections cut; and then there is more to do.
    Later,
    /// When all is well, and then the objects are deleted.
    AtTheEnd,
}

/// What the accounts of a table's objects sign in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignIn {
    ManagedIdentities,
    Applications,
}

/// The lab that all tables share.
pub async fn lab() -> &'static Lab {
    static LAB: OnceCell<Lab> = OnceCell::const_new();
    LAB.get_or_init(|| async { Lab::start(LabOptions::default()).await.unwrap() })
        .await
}

/// A row, and how its requests are told from those of others.
struct Target {
    row: &'static Row,
    /// The client ID of its application, if it has one.
    app: Option<String>,
}

impl Target {
    async fn new(row: &'static Row, sign_in: SignIn) -> Self {
        let app = match sign_in {
            SignIn::ManagedIdentities => None,
            SignIn::Applications => {
                let azure = lab().await.azure().await.unwrap();
                let body = json!({ "displayName": row.name });
                let made = azure.graph(Method::POST, "applications", Some(&body)).await;
                Some(made.unwrap()["appId"].as_str().unwrap().to_owned())
            }
        };
        Self { row, app }
    }

    fn namespace(&self) -> Value {
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.row.name } })
    }

    fn account(&self, name: &str) -> Value {
        let namespace = self.row.name;
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } })
    }

    /// As a grant names it.
    fn identity(&self) -> Value {
        self.app.as_ref().map_or_else(
            || json!({ "resourceId": resource_id(self.row.name) }),
            |app| json!({ "appId": app }),
        )
    }

    fn is_hit(&self, seen: &Seen) -> bool {
        let app = self.app.as_ref().map(|app| application(app));
        let mut parts = seen.path.split('/');
        let is_its_own = parts.any(|part| part == self.row.name || Some(part) == app.as_deref());
        let anybodys = ["/namespaces/", "/userAssignedIdentities/", "/applications("];
        let is_shared = !anybodys.iter().any(|part| seen.path.contains(part));
        (is_its_own || is_shared) && (self.row.hits)(seen)
    }
}

/// An application's part of Graph's paths.
fn application(app: &str) -> String {
    format!("applications(appId='{app}')")
}

/// The faults that are there at the moment, by row.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<BTreeMap<&'static str, Arc<Target>>>>);

impl Faults {
    fn begin(&self, target: &Arc<Target>) {
        let mut faults = self.0.lock().unwrap();
        faults.insert(target.row.name, target.clone());
    }

    fn end(&self, row: &Row) {
        self.0.lock().unwrap().remove(row.name);
    }

    fn strike(&self, seen: &Seen, azure: &str) -> Fate {
        let faults = self.0.lock().unwrap();
        let target = faults.values().find(|target| target.is_hit(seen));
        target.map_or(Fate::Pass, |target| {
            (target.row.fate)(&format!("{azure}{}?{}", seen.path, seen.query))
        })
    }
}

/// Runs a table to its end, and tells of every row that is not as it should be.
pub async fn check(rows: &'static [Row], begin: Begin, resync: &str) {
    check_as(SignIn::ManagedIdentities, rows, begin, resync).await;
}

/// The same with applications in place of managed identities.
pub async fn check_applications(rows: &'static [Row], begin: Begin, resync: &str) {
    check_as(SignIn::Applications, rows, begin, resync).await;
}

/// Each row with an operator of its own.
pub async fn check_each(rows: &'static [Row], begin: Begin, resync: &str) {
    let sign_in = SignIn::ManagedIdentities;
    let targets = granted(sign_in, rows).await;
    let alone = targets.into_iter().map(|target| vec![target]);
    join_all(alone.map(|target| check_granted(sign_in, target, begin, resync))).await;
}

async fn check_as(sign_in: SignIn, rows: &'static [Row], begin: Begin, resync: &str) {
    let targets = granted(sign_in, rows).await;
    check_granted(sign_in, targets, begin, resync).await;
}

/// One grant for all: each new one has all objects looked at, those of other tables, too.
async fn granted(sign_in: SignIn, rows: &'static [Row]) -> Vec<Arc<Target>> {
    let mut targets = Vec::new();
    for row in rows {
        targets.push(Arc::new(Target::new(row, sign_in).await));
    }
    apply(lab().await, vec![grant(&targets)]).await;
    targets
}

async fn check_granted(sign_in: SignIn, targets: Vec<Arc<Target>>, begin: Begin, resync: &str) {
    let lab = lab().await;
    let proxy = Proxy::start(lab).unwrap();
    let faults = Faults::default();
    let (struck, azure) = (faults.clone(), proxy.azure_url().to_owned());
    proxy.rule(move |seen| struck.strike(seen, &azure));
    if begin == Begin::Before {
        for target in &targets {
            faults.begin(target);
        }
    }
    let before = targets
        .iter()
        .flat_map(|target| [target.namespace(), target.account(WORKER)]);
    apply(lab, before.collect()).await;
    let mut options = OperatorOptions::default().through(&proxy);
    options.resync = resync.into();
    let watched = targets
        .iter()
        .map(|target| format!("--watch-namespace={}", target.row.name));
    options.extra_args.extend(watched);
    options
        .extra_args
        .extend(["--azure-timeout", "6s"].map(str::to_owned));
    if sign_in == SignIn::Applications {
        options.extra_args.push("--entra-applications".to_owned());
    }
    let operator = lab.start_operator(awi(), options).await.unwrap();

    let wanted: &[&str] = match begin {
        Begin::Before | Begin::AtTheEnd => &[WORKER],
        Begin::Later => &[TRIGGERER, WORKER],
    };
    // One after the other: many at once are slower.
    let mut cases = Vec::new();
    for target in &targets {
        let world = World::existing(lab, &operator, target.row.name).await;
        cases.push(Case {
            target,
            world,
            wanted,
            proxy: &proxy,
            faults: &faults,
            operator: &operator,
        });
    }
    let since = Since::now(&proxy, lab).await;
    let objects = cases.iter().map(Case::object).collect();
    apply(lab, objects).await;
    let since = if begin == Begin::Before {
        since
    } else {
        join_all(
            cases
                .iter()
                .map(|case| case.until("the first account is served", Case::serves_worker)),
        )
        .await;
        let since = Since::now(&proxy, lab).await;
        for target in &targets {
            faults.begin(target);
        }
        if begin == Begin::Later {
            proxy.cut();
            let triggerers = targets.iter().map(|target| target.account(TRIGGERER));
            apply(lab, triggerers.collect()).await;
        } else {
            join_all(cases.iter().map(|case| case.world.delete("prod"))).await;
        }
        since
    };
    let runs = cases.iter().map(|case| async {
        let run = AssertUnwindSafe(case.run(begin, &since)).catch_unwind();
        run.await.is_err().then_some(case.target.row.name)
    });
    let failed: Vec<&str> = join_all(runs).await.into_iter().flatten().collect();
    assert!(
        failed.is_empty(),
        "not as it should be, and said above why: {failed:?}"
    );
    let log = operator.log();
    assert!(!log.contains("panicked"), "{log}");
    let memory = operator.peak_memory().unwrap() >> 20;
    println!("{}: at most {memory} MiB", targets[0].row.name);
    assert!(memory < MEMORY, "{memory} MiB");
}

const WORKER: &str = "airflow-worker";
const TRIGGERER: &str = "airflow-triggerer";

async fn apply(lab: &Lab, items: Vec<Value>) {
    let name = format!("{}.json", uuid::Uuid::new_v4());
    let file = lab.scratch().join(name);
    std::fs::write(&file, list(items).to_string()).unwrap();
    lab.apply(&file).await.unwrap();
}

fn grant(targets: &[Arc<Target>]) -> Value {
    let names: Vec<&str> = targets.iter().map(|target| target.row.name).collect();
    let identities: Vec<Value> = targets.iter().map(|target| target.identity()).collect();
    json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1", "kind": "AzureIdentityGrant",
        "metadata": { "name": names[0] },
        "spec": { "identities": identities, "namespaces": { "names": names } },
    })
}

/// Since when requests are counted: before the fault there were others.
struct Since {
    number: usize,
    at: Instant,
    grants: BTreeSet<String>,
}

impl Since {
    async fn now(proxy: &Proxy, lab: &Lab) -> Self {
        Self {
            number: proxy.seen().len(),
            at: Instant::now(),
            grants: grants(lab).await,
        }
    }
}

/// All grants, each as it is now.
async fn grants(lab: &Lab) -> BTreeSet<String> {
    let api: Api<AzureIdentityGrant> = Api::all(lab.client().await.unwrap());
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    let version = |grant| ResourceExt::resource_version(&grant).unwrap();
    all.items.into_iter().map(version).collect()
}

/// A row in the making.
struct Case<'a> {
    target: &'a Target,
    world: World<'a>,
    /// The accounts that the object asks for.
    wanted: &'static [&'static str],
    proxy: &'a Proxy,
    faults: &'a Faults,
    operator: &'a Operator,
}

impl Case<'_> {
    fn object(&self) -> Value {
        let mut object = self.world.object("prod", json!({}));
        object["spec"]["airflow"] = json!({ "serviceAccounts": self.wanted });
        if let Some(app) = &self.target.app {
            let tenant = &self.world.tenant_id;
            object["spec"]["identity"] =
                json!({ "application": { "appId": app }, "tenantId": tenant });
        }
        object
    }

    async fn run(&self, begin: Begin, since: &Since) {
        let Row {
            name, told, most, ..
        } = self.target.row;
        self.until("it is told", async |case| case.is_told(since).await)
            .await;
        sleep(TIME).await;
        let lasted = since.at.elapsed();
        let hits = self.hits(since);
        self.faults.end(self.target.row);
        // Each grant of another test has all objects looked at.
        // The bounds are for half a minute; where it is told later, it was asked for longer.
        let most = most * (1 + usize::try_from(lasted.as_secs() / 45).unwrap());
        let of_a_look = match told {
            Told::Ready(_, ENDLESS) => ENDLESS_PAGES,
            _ => 1,
        };
        let changed = grants(self.world.lab).await;
        let changed = changed.symmetric_difference(&since.grants).count();
        println!("{name}: {hits} in {lasted:.0?}, {changed} grants");
        assert!(
            hits <= most + changed * of_a_look,
            "{name}: asked {hits} times in {lasted:?}, with {changed} other grants"
        );

        if begin == Begin::AtTheEnd {
            self.until("it is gone", async |case| {
                case.world.get("prod").await.is_none()
            })
            .await;
            assert_eq!(self.subjects().await, [""; 0], "{name}");
            return;
        }
        self.until("all is well again", Self::is_well).await;
        println!(
            "{name}: well after {:.0?}",
            since.at.elapsed().saturating_sub(lasted)
        );
        let wanted = self.wanted.iter();
        let wanted: Vec<_> = wanted
            .map(|account| format!("system:serviceaccount:{name}:{account}"))
            .collect();
        assert_eq!(self.subjects().await, wanted, "{name}");
    }

    /// The subjects of all credentials that there are, in order.
    async fn subjects(&self) -> Vec<String> {
        let mut subjects: Vec<String> = if let Some(app) = &self.target.app {
            let azure = self.world.azure().await;
            let path = format!("{}/federatedIdentityCredentials", application(app));
            let list = azure.graph(Method::GET, &path, None).await.unwrap();
            let all = list["value"].as_array().unwrap().iter();
            all.map(|one| one["subject"].as_str().unwrap().to_owned())
                .collect()
        } else {
            let all = self.world.credentials_of(&self.world.identity).await;
            all.into_values().map(|one| one.subject).collect()
        };
        subjects.sort();
        subjects
    }

    fn hits(&self, since: &Since) -> usize {
        let seen = self.proxy.seen();
        let later = seen.iter().skip(since.number);
        later.filter(|seen| self.target.is_hit(seen)).count()
    }

    async fn is_told(&self, since: &Since) -> bool {
        match self.target.row.told {
            _ if self.hits(since) == 0 => false,
            Told::Nothing => true,
            Told::Log(words) => {
                let concerns = |line: &str| {
                    line.contains(words)
                        && (line.contains(self.target.row.name) || !line.contains("wire-"))
                };
                self.operator.log().lines().any(concerns)
            }
            Told::Ready(reason, words) => {
                let (status, why, message) = self.ready().await;
                status == "False" && why == reason && message.contains(words)
            }
        }
    }

    async fn serves_worker(&self) -> bool {
        self.serves(&[WORKER]).await
    }

    async fn is_well(&self) -> bool {
        self.serves(self.wanted).await && self.ready().await.0 == "True"
    }

    /// Whether the status says of these accounts, and no others, that they are federated and annotated.
    async fn serves(&self, accounts: &[&str]) -> bool {
        let status = self
            .world
            .get("prod")
            .await
            .and_then(|object| object.status);
        let told = status
            .map(|status| status.service_accounts)
            .unwrap_or_default();
        let served = told
            .iter()
            .filter(|account| account.federated && account.annotated);
        served
            .map(|account| account.name.as_str())
            .eq(accounts.iter().copied())
    }

    /// Status, reason and message of the condition `Ready`.
    async fn ready(&self) -> (String, String, String) {
        let status = self
            .world
            .get("prod")
            .await
            .and_then(|object| object.status);
        let conditions = status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready");
        ready
            .map(|ready| (ready.status, ready.reason, ready.message))
            .unwrap_or_default()
    }

    async fn until(&self, what: &str, check: impl AsyncFn(&Self) -> bool) {
        let start = Instant::now();
        while !check(self).await {
            if start.elapsed() > LIMIT {
                let log = self.operator.log();
                let concerns =
                    |line: &&str| line.contains(self.target.row.name) || !line.contains("wire-");
                let log: Vec<_> = log.lines().filter(concerns).collect();
                let log = lab::tail(&log.join("\n"), 30).to_owned();
                panic!(
                    "{}: {what}: not within {LIMIT:?}; {:?}\n{log}",
                    self.target.row.name,
                    self.ready().await
                );
            }
            sleep(LOOK).await;
        }
    }
}
