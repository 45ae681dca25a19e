//! Whatever an object went through: applied as it was, it ends as one that was never anything else.
//!
//! The idea, and how it finds what tests by hand do not: Acto, <https://doi.org/10.1145/3600006.3613161>.

mod fields;
mod picture;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, slice,
    sync::Mutex,
    time::{Duration, Instant},
};

use airflow_workload_identity::api::{AirflowWorkloadIdentity, AirflowWorkloadIdentitySpec};
use futures::future::join_all;
use kube::{
    Api, Error,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use lab::{Azure, Lab, LabOptions, Operator, OperatorOptions};
use rand::{
    RngExt, SeedableRng,
    rngs::SmallRng,
    seq::{IndexedRandom, SliceRandom},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::{
    fields::{
        APPLICATION, CLIENT_ID, Change, Field, IDENTITY, OTHER_APPLICATION, OTHER_IDENTITY,
        TENANT_ID, bases,
    },
    picture::{Picture, difference},
};
use crate::world::{World, awi, labels, list, resource_id, run};

/// Random walks from each base.
const WALKS: usize = 100;
/// For a state to come, on a machine that does many things at once.
const LIMIT: Duration = Duration::from_secs(60);
/// For an object to go: a credential of an application that was written within two minutes, and is not listed, is
/// looked for until then, because Graph's lists lag.
const GONE: Duration = Duration::from_secs(180);
/// For how long the operator writes by what it has seen of an identity; a little more.
const SEEN: Duration = Duration::from_secs(6);
/// What a picture says of credentials: where it begins, and how it ends.
const CREDENTIALS: [(&str, &str); 3] = [
    (" credentials", ""),
    (" AirflowWorkloadIdentity prod status credentials", ""),
    (
        " AirflowWorkloadIdentity prod status serviceAccounts",
        " credentialName",
    ),
];
/// How many failures are told in full.
const TOLD: usize = 8;

/// What an object goes through, and returns from.
struct Journey {
    base: &'static str,
    legs: Vec<Leg>,
}

/// From the base, and back to it.
struct Leg {
    /// Each a set of changes of the base.
    stops: Vec<Vec<Change>>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// From one to the next, and back.
    Edited,
    /// Deleted after the last stop.
    Deleted,
    /// Deleted before the operator was done with any of the stops.
    DeletedInHaste,
}

impl Leg {
    fn describe(&self) -> String {
        let stop = |changes: &Vec<Change>| {
            let changes: Vec<String> = changes.iter().map(Change::describe).collect();
            changes.join(" and ")
        };
        let stops: Vec<String> = self.stops.iter().map(stop).collect();
        format!("{:?}: {}", self.how, stops.join(" → "))
    }
}

/// A namespace with an Airflow, and identities that it may use.
struct Stage<'a> {
    world: World<'a>,
    other_identity: String,
    other_client_id: String,
    /// Client IDs of two applications.
    applications: [String; 2],
    /// How many specs the API server refused.
    refused: Mutex<usize>,
}

impl<'a> Stage<'a> {
    async fn set(lab: &'a Lab, operator: &'a Operator, name: &str) -> Self {
        let world = World::of(lab, operator, name).await;
        let azure = world.azure().await;
        let other_identity = resource_id(&format!("{name}-other"));
        let other = azure.put_identity(&other_identity).await.unwrap();
        let mut applications = [String::new(), String::new()];
        for application in &mut applications {
            let body = json!({ "displayName": name });
            let made = azure.graph(Method::POST, "applications", Some(&body)).await;
            let id = made.unwrap()["appId"].take();
            *application = serde_json::from_value(id).unwrap();
        }
        let granted = json!([
            { "resourceId": world.identity },
            { "resourceId": other_identity },
            { "appId": applications[0] },
            { "appId": applications[1] },
        ]);
        world.grant(json!({ "identities": granted })).await;
        let stage = Self {
            other_client_id: other["properties"]["clientId"].as_str().unwrap().to_owned(),
            world,
            other_identity,
            applications,
            refused: Mutex::default(),
        };
        stage.install_airflow().await;
        stage
    }

    /// Accounts of a release and others, and workloads without pods.
    async fn install_airflow(&self) {
        let ns = &self.world.ns;
        let account = |name: &str, labels: Value| {
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": name, "namespace": ns, "labels": labels },
            })
        };
        let deployment = |name: &str, labels: Value| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": { "name": name, "namespace": ns, "labels": labels },
                "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
                    "metadata": { "labels": labels },
                    "spec": { "serviceAccountName": name, "containers": [{ "name": "main", "image": "airflow" }] },
                }},
            })
        };
        let mut items = vec![
            account("extra-one", json!({ "team": "data" })),
            account("extra-two", json!({ "team": "web" })),
            account("jobs", json!({})),
            deployment("jobs", json!({ "team": "data" })),
            deployment("extra-two", json!({ "team": "web" })),
        ];
        for component in ["scheduler", "triggerer", "worker", "dag-processor"] {
            let name = format!("airflow-{component}");
            items.push(account(&name, labels("airflow", component)));
            items.push(deployment(&name, labels("airflow", component)));
        }
        self.world.apply(&list(items)).await.unwrap();
    }

    fn api(&self) -> Api<AirflowWorkloadIdentity> {
        Api::namespaced(self.world.client.clone(), &self.world.ns)
    }

    fn spec(&self, base: &str, changes: &[Change]) -> Value {
        let (_, mut spec) = bases().into_iter().find(|(name, _)| *name == base).unwrap();
        for change in changes {
            change.apply(&mut spec);
        }
        let names = [
            (IDENTITY, &self.world.identity),
            (OTHER_IDENTITY, &self.other_identity),
            (CLIENT_ID, &self.world.client_id),
            (TENANT_ID, &self.world.tenant_id),
            (APPLICATION, &self.applications[0]),
            (OTHER_APPLICATION, &self.applications[1]),
        ];
        let mut text = spec.to_string();
        for (name, value) in names {
            text = text.replace(name, value);
        }
        serde_json::from_str(&text).unwrap()
    }

    /// The changes of one field each that the API server takes and that change something.
    async fn changes(&self, base: &str) -> Vec<Change> {
        let (_, spec) = bases().into_iter().find(|(name, _)| *name == base).unwrap();
        let unchanged = self.tried(&self.spec(base, &[])).await.unwrap();
        let mut seen = BTreeSet::new();
        let mut taken = Vec::new();
        for change in Field::all().iter().flat_map(|field| field.changes(&spec)) {
            let Some(changed) = self.tried(&self.spec(base, slice::from_ref(&change))).await else {
                continue;
            };
            if changed != unchanged && seen.insert((change.field.clone(), changed.to_string())) {
                taken.push(change);
            }
        }
        taken
    }

    /// What the API server would make of a spec, unless it refuses it.
    async fn tried(&self, spec: &Value) -> Option<Value> {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let object = serde_json::from_value(self.world.object("tried", json!({}))).unwrap();
        let mut object: kube::api::DynamicObject = object;
        object.data["spec"] = spec.clone();
        let resource = kube::api::ApiResource::erase::<AirflowWorkloadIdentity>(&());
        let client = self.world.client.clone();
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(client, &self.world.ns, &resource);
        match api.create(&dry, &object).await {
            Ok(taken) => Some(taken.data["spec"].clone()),
            Err(Error::Api(status)) if matches!(status.code, 400 | 422) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// As a user applies it: what is left out goes.
    async fn apply(&self, spec: &Value) -> AirflowWorkloadIdentity {
        let mut object = self.world.object("prod", json!({}));
        object["spec"] = spec.clone();
        let params = PatchParams::apply("user").force();
        self.api()
            .patch("prod", &params, &Patch::Apply(&object))
            .await
            .unwrap()
    }

    /// Applies it, whatever there was before, unless it is refused; fails if something of that is
    /// left in the spec.
    async fn change(&self, spec: &Value) -> Result<Option<AirflowWorkloadIdentity>, String> {
        let Some(fresh) = self.tried(spec).await else {
            return Ok(None);
        };
        let fresh: AirflowWorkloadIdentitySpec = serde_json::from_value(fresh).unwrap();
        let applied = self.apply(spec).await;
        if applied.spec != fresh {
            let [found, fresh] = [applied.spec, fresh].map(|spec| json!(spec));
            return Err(format!("applied:\n  - {fresh}\n  + {found}"));
        }
        Ok(Some(applied))
    }

    /// Waits until the status speaks of the spec, and of nothing that is under way.
    async fn settle(&self, applied: &AirflowWorkloadIdentity) -> Result<(), String> {
        let generation = applied.metadata.generation;
        let is_settled = |object: Option<&AirflowWorkloadIdentity>| {
            let Some(status) = object.and_then(|object| object.status.as_ref()) else {
                return false;
            };
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            status.observed_generation >= generation
                && ready.is_some_and(|ready| ready.observed_generation >= generation)
                && !json!(status).to_string().contains("It is being written")
        };
        let settled = await_condition(self.api(), "prod", is_settled);
        let settled = timeout(LIMIT, settled).await;
        settled
            .map_err(|_| "no status of it".to_owned())?
            .map(drop)
            .map_err(|e| e.to_string())
    }

    async fn delete(&self) -> Result<(), String> {
        let deleted = self
            .api()
            .delete("prod", &DeleteParams::default())
            .await
            .unwrap();
        let Some(object) = deleted.left() else {
            return Ok(());
        };
        let gone = is_deleted(object.metadata.uid.as_deref().unwrap());
        let gone = timeout(GONE, await_condition(self.api(), "prod", gone)).await;
        let Ok(gone) = gone else {
            let left = self.api().get("prod").await.map_err(|e| e.to_string())?;
            return Err(format!("it is not gone: {}", json!(left.status)));
        };
        gone.map(drop).map_err(|e| e.to_string())
    }

    /// Waits until everything is as expected; else says what is not.
    async fn becomes(&self, what: &str, expected: &Picture, retained: bool) -> Result<(), String> {
        let start = Instant::now();
        // What is retained is nobody's any longer, and lets the account in later, whatever its name.
        let is_credential = |key: &str| {
            let mut all = CREDENTIALS.iter();
            all.any(|(start, end)| key.starts_with(start) && key.ends_with(end))
        };
        let is_compared = |key: &str| !retained || !is_credential(key);
        let mut expected = expected.clone();
        expected.retain(|key, _| is_compared(key));
        loop {
            let mut found = self.picture().await;
            found.retain(|key, _| is_compared(key));
            let difference = difference(&expected, &found);
            if difference.is_empty() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("{what}:\n  {}", difference.join("\n  ")));
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn of_application(&self, azure: &Azure<'_>, app: &str) -> Vec<Value> {
        let path = format!("applications(appId='{app}')/federatedIdentityCredentials");
        let list = azure.graph(Method::GET, &path, None).await.unwrap();
        list["value"].as_array().unwrap().clone()
    }

    /// Credentials that were to be retained. The operator goes by what it has seen of an identity a moment ago.
    async fn delete_credentials(&self) {
        let azure = self.world.azure().await;
        for identity in [&self.world.identity, &self.other_identity] {
            for name in self.world.credentials_of(identity).await.into_keys() {
                azure.delete_credential(identity, &name).await.unwrap();
            }
        }
        for app in &self.applications {
            for one in self.of_application(&azure, app).await {
                let id = one["id"].as_str().unwrap();
                let path = format!("applications(appId='{app}')/federatedIdentityCredentials/{id}");
                azure.graph(Method::DELETE, &path, None).await.unwrap();
            }
        }
        sleep(SEEN).await;
    }

    /// How a fresh object of each base ends, and what there is without an object.
    async fn expected(&self) -> Expected {
        let nothing = self.picture().await;
        let mut fresh = BTreeMap::new();
        for (base, _) in bases() {
            self.apply(&self.spec(base, &[])).await;
            // The Secret of the base before may be in its way for as long as the operator has not heard that it went.
            self.world.until("prod", "Ready", "True", "Done").await;
            // What comes after that, if anything.
            sleep(Duration::from_secs(1)).await;
            fresh.insert(base, self.picture().await);
            self.delete().await.unwrap();
            self.becomes("deleted", &nothing, false).await.unwrap();
        }
        Expected { nothing, fresh }
    }

    async fn travel(&self, journey: &Journey, expected: &Expected) -> Result<(), String> {
        let base = self.spec(journey.base, &[]);
        let fresh = &expected.fresh[journey.base];
        self.settle(&self.apply(&base).await).await?;
        self.becomes("a fresh one", fresh, false).await?;
        let mut retained = false;
        for leg in &journey.legs {
            let and_back = self.leg(journey.base, leg, expected, &mut retained).await;
            and_back.map_err(|failure| format!("{}: {failure}", leg.describe()))?;
        }
        self.delete().await?;
        self.becomes("deleted", &expected.nothing, retained).await?;
        if retained {
            self.delete_credentials().await;
        }
        Ok(())
    }

    async fn leg(
        &self,
        base: &'static str,
        leg: &Leg,
        expected: &Expected,
        retained: &mut bool,
    ) -> Result<(), String> {
        for stop in &leg.stops {
            let spec = self.spec(base, stop);
            *retained |= spec.pointer("/federation/deletionPolicy") == Some(&json!("Retain"));
            let Some(applied) = self.change(&spec).await? else {
                *self.refused.lock().unwrap() += 1;
                continue;
            };
            if leg.how != How::DeletedInHaste {
                self.settle(&applied).await?;
            }
        }
        if leg.how != How::Edited {
            self.delete().await?;
            self.becomes("deleted in between", &expected.nothing, *retained)
                .await?;
        }
        let back = self.change(&self.spec(base, &[])).await?;
        self.settle(&back.ok_or("the base is refused")?).await?;
        self.becomes("as it was", &expected.fresh[base], *retained)
            .await
    }
}

struct Expected {
    nothing: Picture,
    fresh: BTreeMap<&'static str, Picture>,
}

/// Takes objects through journeys, many at a time, and tells of those that did not end well.
/// Returns how many specs the API server refused.
async fn travel(
    stages: &[Stage<'_>],
    lab: &Lab,
    operator: &Operator,
    journeys: Vec<Journey>,
    end: Option<Instant>,
) -> usize {
    let expected = stages[0].expected().await;
    let start = Instant::now();
    let legs = |journeys: &[Journey]| -> usize { journeys.iter().map(|one| one.legs.len()).sum() };
    let count = legs(&journeys);
    let todo = Mutex::new(journeys);
    let failures = Mutex::new(Vec::new());
    let told_at = Mutex::new(start);
    let one = async |number: usize| {
        let mut replacement: Option<Stage> = None;
        loop {
            if end.is_some_and(|end| Instant::now() > end) {
                return;
            }
            let Some(journey) = todo.lock().unwrap().pop() else {
                return;
            };
            {
                let mut told_at = told_at.lock().unwrap();
                if told_at.elapsed() > Duration::from_secs(60) {
                    *told_at = Instant::now();
                    let left = legs(&todo.lock().unwrap());
                    println!("{} of {count}", count - left);
                }
            }
            let stage = replacement.as_ref().unwrap_or(&stages[number]);
            if let Err(failure) = stage.travel(&journey, &expected).await {
                let told = format!("{} in {}: {failure}", journey.base, stage.world.ns);
                println!("{told}");
                let failed = {
                    let mut failures = failures.lock().unwrap();
                    failures.push(told);
                    failures.len()
                };
                if failed >= TOLD {
                    return;
                }
                // Nobody knows what is left there.
                let name = format!("stage-{number}-{failed}");
                replacement = Some(Stage::set(lab, operator, &name).await);
            }
        }
    };
    join_all((0..stages.len()).map(one)).await;
    let failures = failures.into_inner().unwrap();
    let refused: usize = stages
        .iter()
        .map(|stage| *stage.refused.lock().unwrap())
        .sum();
    let done = count - legs(&todo.into_inner().unwrap());
    let took = start.elapsed();
    println!("{done} of {count} times there and back in {took:?}; {refused} specs were refused");
    assert!(done > 0, "the time was over before the first");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    refused
}

/// So many objects go through something at the same time, each in a namespace of its own.
async fn stages<'a>(lab: &'a Lab, operator: &'a Operator, count: usize) -> Vec<Stage<'a>> {
    let names: Vec<String> = (0..count).map(|n| format!("stage-{n}")).collect();
    join_all(names.iter().map(|name| Stage::set(lab, operator, name))).await
}

async fn lab() -> (Lab, Operator) {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let options = OperatorOptions {
        extra_args: vec!["--entra-applications".into()],
        ..OperatorOptions::default()
    };
    let operator = lab.start_operator(awi(), options).await.unwrap();
    (lab, operator)
}

/// By base.
type Changes = Vec<(&'static str, Vec<Change>)>;

/// The changes of each base; fails if there is a field without any.
async fn changes(stage: &Stage<'_>) -> Changes {
    let mut changes = Changes::new();
    for (base, _) in bases() {
        changes.push((base, stage.changes(base).await));
    }
    let all = changes.iter().flat_map(|(_, changes)| changes);
    let changed: BTreeSet<&str> = all.map(|change| change.field.as_str()).collect();
    let fields = Field::all();
    let without = fields
        .iter()
        .filter(|field| !field.is_only_its_parts() && !changed.contains(field.path.as_str()));
    let without: Vec<String> = without
        .map(|field| format!("field spec.{} has no second value here", field.path))
        .collect();
    assert!(without.is_empty(), "{}", without.join("\n"));
    changes
}

/// Objects that go through all of these, some each: one that is written for again and again is let
/// rest.
fn journeys(base: &'static str, legs: Vec<Leg>) -> Vec<Journey> {
    const CHANGES: usize = 6;
    let mut journeys: Vec<Journey> = Vec::new();
    let mut room = 0;
    for leg in legs {
        let changes = leg.stops.len() + 1;
        match journeys.last_mut() {
            Some(journey) if changes <= room => journey.legs.push(leg),
            _ => {
                room = CHANGES.max(changes);
                let legs = vec![leg];
                journeys.push(Journey { base, legs });
            }
        }
        room -= changes;
    }
    journeys
}

fn one_by_one(changes: &[Change], how: How) -> Vec<Leg> {
    let leg = |change: &Change| Leg {
        stops: vec![vec![change.clone()]],
        how,
    };
    changes.iter().map(leg).collect()
}

/// One by one; but the fields of connections, which are many and have the same fate, in a row.
fn quickly(changes: &[Change]) -> Vec<Leg> {
    const IN_A_ROW: usize = 5;
    let is_of_connection = |change: &&Change| change.field.starts_with("connections[]");
    let (in_a_row, alone): (Vec<&Change>, Vec<&Change>) =
        changes.iter().partition(is_of_connection);
    let leg = |changes: &[&Change]| Leg {
        stops: changes
            .iter()
            .map(|change| vec![(*change).clone()])
            .collect(),
        how: How::Edited,
    };
    alone
        .chunks(1)
        .chain(in_a_row.chunks(IN_A_ROW))
        .map(leg)
        .collect()
}

/// For each field its first change, in the first base that it changes.
fn first_of_each(changes: &Changes) -> Vec<(&'static str, Vec<Change>)> {
    let mut seen = BTreeSet::new();
    let of_base = |(base, changes): &(&'static str, Vec<Change>)| {
        let new = changes
            .iter()
            .filter(|change| seen.insert(change.field.clone()));
        (*base, new.cloned().collect())
    };
    changes.iter().map(of_base).collect()
}

#[test]
fn every_field_can_be_changed_and_changed_back() {
    run(async {
        let (lab, operator) = lab().await;
        let stages = stages(&lab, &operator, 6).await;
        let changes = changes(&stages[0]).await;
        let some = first_of_each(&changes);
        let some = some
            .iter()
            .flat_map(|(base, changes)| journeys(base, quickly(changes)));
        let refused = travel(&stages, &lab, &operator, some.collect(), None).await;
        assert_eq!(refused, 0);
    });
}

/// All of it takes half an hour, on a slow machine more: it goes on in random order until `$TRANSITIONS_MINUTES` are
/// over. The next run goes on where it ended, if it is told the same `$TRANSITIONS_SEED`, and how many were done:
/// `$TRANSITIONS_DONE`.
#[test]
#[ignore = "takes long: make chaos"]
fn whatever_was_changed_can_be_changed_back() {
    run(async {
        let (lab, operator) = lab().await;
        let number = |name: &str| {
            let text = env::var(name).ok()?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name}={text} is no number")),
            )
        };
        let minutes = number("TRANSITIONS_MINUTES").unwrap_or(60);
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let stages = stages(&lab, &operator, 12).await;
        let changes = changes(&stages[0]).await;
        let seed = number("TRANSITIONS_SEED").unwrap_or_else(rand::random);
        println!("TRANSITIONS_SEED={seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut all, mut paired) = (Vec::new(), BTreeSet::new());
        for (base, changes) in &changes {
            let mut legs = pairs(changes, &mut paired);
            for how in [How::Edited, How::Deleted, How::DeletedInHaste] {
                legs.extend(one_by_one(changes, how));
            }
            println!("{base}: {} pairs, {} changes", legs.len(), changes.len());
            legs.extend((0..WALKS).map(|_| walk(changes, &mut random)));
            legs.shuffle(&mut random);
            all.extend(journeys(base, legs));
        }
        all.shuffle(&mut random);
        let mut before = number("TRANSITIONS_DONE").unwrap_or_default();
        // The last one is the next.
        while let Some(journey) = all.pop_if(|_| before > 0) {
            before = before.saturating_sub(journey.legs.len() as u64);
        }
        travel(&stages, &lab, &operator, all, Some(end)).await;
    });
}

/// Each two fields together that are not `paired` yet, by their first changes.
fn pairs<'a>(changes: &'a [Change], paired: &mut BTreeSet<[&'a str; 2]>) -> Vec<Leg> {
    let mut seen = BTreeSet::new();
    let firsts = changes.iter().filter(|change| seen.insert(&change.field));
    let firsts: Vec<&Change> = firsts.collect();
    let pairs = firsts.iter().enumerate().flat_map(|(n, one)| {
        let others = firsts[n + 1..].iter();
        others.map(|other| [*one, *other])
    });
    let is_new = |[one, other]: &[&'a Change; 2]| paired.insert([&one.field, &other.field]);
    let leg = |pair: [&Change; 2]| Leg {
        stops: vec![pair.map(Clone::clone).into()],
        how: How::Edited,
    };
    pairs.filter(is_new).map(leg).collect()
}

/// Some stops with some changes each, at random.
fn walk(changes: &[Change], random: &mut SmallRng) -> Leg {
    let stops = random.random_range(2..4);
    let mut stop = || {
        let count = random.random_range(1..5);
        changes.sample(&mut *random, count).cloned().collect()
    };
    let stops = (0..stops).map(|_| stop()).collect();
    let how = [How::Edited, How::Edited, How::Deleted, How::DeletedInHaste];
    let how = *how.choose(random).unwrap();
    Leg { stops, how }
}
