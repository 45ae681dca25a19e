//! Rows of a table of faults, side by side: a namespace, an identity and an object for each, behind one
//! proxy and one operator.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use lab::{
    Lab, LabOptions, Operator, OperatorOptions,
    proxy::{Fate, Proxy, Seen},
};
use serde_json::{Value, json};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::world::{World, awi, resource_id};

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
    /// Also the name of the namespace and of the identity.
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

/// The lab that all tables share.
pub async fn lab() -> &'static Lab {
    static LAB: OnceCell<Lab> = OnceCell::const_new();
    LAB.get_or_init(|| async { Lab::start(LabOptions::default()).await.unwrap() })
        .await
}

/// The faults that are there at the moment, by row.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<BTreeMap<&'static str, &'static Row>>>);

impl Faults {
    fn begin(&self, row: &'static Row) {
        self.0.lock().unwrap().insert(row.name, row);
    }

    fn end(&self, row: &Row) {
        self.0.lock().unwrap().remove(row.name);
    }

    fn strike(&self, seen: &Seen, azure: &str) -> Fate {
        let row = self
            .0
            .lock()
            .unwrap()
            .values()
            .copied()
            .find(|row| row.is_hit(seen));
        row.map_or(Fate::Pass, |row| {
            (row.fate)(&format!("{azure}{}?{}", seen.path, seen.query))
        })
    }
}

impl Row {
    fn namespace(&self) -> Value {
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.name } })
    }

    fn account(&self, name: &str) -> Value {
        let namespace = self.name;
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } })
    }

    fn is_hit(&self, seen: &Seen) -> bool {
        let is_its_own = seen.path.split('/').any(|part| part == self.name);
        let is_shared =
            !seen.path.contains("/namespaces/") && !seen.path.contains("/userAssignedIdentities/");
        (is_its_own || is_shared) && (self.hits)(seen)
    }
}

/// Runs a table to its end, and tells of every row that is not as it should be.
pub async fn check(rows: &'static [Row], begin: Begin, resync: &str) {
    let lab = lab().await;
    let proxy = Proxy::start(lab).unwrap();
    let faults = Faults::default();
    let (struck, azure) = (faults.clone(), proxy.azure_url().to_owned());
    proxy.rule(move |seen| struck.strike(seen, &azure));
    if begin == Begin::Before {
        for row in rows {
            faults.begin(row);
        }
    }
    let before = rows
        .iter()
        .flat_map(|row| [row.namespace(), row.account(WORKER)]);
    let grant = grant(rows);
    apply(lab, before.chain([grant]).collect()).await;
    let mut options = OperatorOptions::default().through(&proxy);
    options.resync = resync.into();
    let watched = rows
        .iter()
        .map(|row| format!("--watch-namespace={}", row.name));
    options.extra_args.extend(watched);
    options
        .extra_args
        .extend(["--azure-timeout", "6s"].map(str::to_owned));
    let operator = lab.start_operator(awi(), options).await.unwrap();

    let wanted: &[&str] = match begin {
        Begin::Before | Begin::AtTheEnd => &[WORKER],
        Begin::Later => &[TRIGGERER, WORKER],
    };
    // One after the other: many at once are slower.
    let mut cases = Vec::new();
    for row in rows {
        let world = World::existing(lab, &operator, row.name).await;
        cases.push(Case {
            row,
            world,
            wanted,
            proxy: &proxy,
            faults: &faults,
            operator: &operator,
        });
    }
    let since = Since::now(&proxy);
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
        let since = Since::now(&proxy);
        for row in rows {
            faults.begin(row);
        }
        if begin == Begin::Later {
            proxy.cut();
            apply(lab, rows.iter().map(|row| row.account(TRIGGERER)).collect()).await;
        } else {
            join_all(cases.iter().map(|case| case.world.delete("prod"))).await;
        }
        since
    };
    let runs = cases.iter().map(|case| async {
        let run = AssertUnwindSafe(case.run(begin, &since)).catch_unwind();
        run.await.is_err().then_some(case.row.name)
    });
    let failed: Vec<&str> = join_all(runs).await.into_iter().flatten().collect();
    assert!(
        failed.is_empty(),
        "not as it should be, and said above why: {failed:?}"
    );
    let log = operator.log();
    assert!(!log.contains("panicked"), "{log}");
    let memory = operator.peak_memory().unwrap() >> 20;
    println!("{}: at most {memory} MiB", rows[0].name);
    assert!(memory < MEMORY, "{memory} MiB");
}

const WORKER: &str = "airflow-worker";
const TRIGGERER: &str = "airflow-triggerer";

async fn apply(lab: &Lab, items: Vec<Value>) {
    let name = format!("{}.json", uuid::Uuid::new_v4());
    let file = lab.scratch().join(name);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    std::fs::write(&file, list.to_string()).unwrap();
    lab.apply(&file).await.unwrap();
}

/// One for all: each new one has all objects looked at.
fn grant(rows: &[Row]) -> Value {
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let identities: Vec<Value> = names
        .iter()
        .map(|name| json!({ "resourceId": resource_id(name) }))
        .collect();
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
}

impl Since {
    fn now(proxy: &Proxy) -> Self {
        Self {
            number: proxy.seen().len(),
            at: Instant::now(),
        }
    }
}

/// A row in the making.
struct Case<'a> {
    row: &'static Row,
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
        object
    }

    async fn run(&self, begin: Begin, since: &Since) {
        let Row { name, most, .. } = self.row;
        self.until("it is told", async |case| case.is_told(since).await)
            .await;
        sleep(TIME).await;
        let lasted = since.at.elapsed();
        let hits = self.hits(since);
        self.faults.end(self.row);
        println!("{name}: {hits} in {lasted:.0?}");
        assert!(hits <= *most, "{name}: asked {hits} times in {lasted:?}");

        if begin == Begin::AtTheEnd {
            self.until("it is gone", async |case| {
                case.world.get("prod").await.is_none()
            })
            .await;
            assert_eq!(
                self.world.credentials_of(&self.world.identity).await.len(),
                0,
                "{name}"
            );
            return;
        }
        self.until("all is well again", Self::is_well).await;
        println!(
            "{name}: well after {:.0?}",
            since.at.elapsed().saturating_sub(lasted)
        );
        assert_eq!(self.world.federated().await, self.wanted, "{name}");
        let credentials = self.world.credentials_of(&self.world.identity).await;
        assert_eq!(
            credentials.len(),
            self.wanted.len(),
            "{name}: {credentials:?}"
        );
    }

    fn hits(&self, since: &Since) -> usize {
        let seen = self.proxy.seen();
        let later = seen.iter().skip(since.number);
        later.filter(|seen| self.row.is_hit(seen)).count()
    }

    async fn is_told(&self, since: &Since) -> bool {
        match self.row.told {
            _ if self.hits(since) == 0 => false,
            Told::Nothing => true,
            Told::Log(words) => {
                let concerns = |line: &str| {
                    line.contains(words)
                        && (line.contains(self.row.name) || !line.contains("wire-"))
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
                    |line: &&str| line.contains(self.row.name) || !line.contains("wire-");
                let log: Vec<_> = log.lines().filter(concerns).collect();
                let log = lab::tail(&log.join("\n"), 30).to_owned();
                panic!(
                    "{}: {what}: not within {LIMIT:?}; {:?}\n{log}",
                    self.row.name,
                    self.ready().await
                );
            }
            sleep(LOOK).await;
        }
    }
}
