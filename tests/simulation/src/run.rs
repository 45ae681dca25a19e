//! One run: a seed decides everything that happens in it.

use std::sync::{Arc, Once};
use std::time::Duration;
use std::{io, thread};

use fastrand::Rng;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::chance;
use crate::met::{Event, Met};
use crate::names::{IDENTITIES, ISSUERS, identity_id};
use crate::operators::Operators;
use crate::people::People;
use crate::rest::{Rest, ends};
use crate::weather::Weather;
use crate::world::World;

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// Of the whole trace.
    pub hash: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// From the end of the faults until all was as it should be.
    pub settled_in: Duration,
    pub met: Met,
}

/// A rule that was broken, or an end that was not reached.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    /// Its last lines.
    pub trace: String,
}

/// Objects that are not as they should be so long after the last fault never will be: the longest
/// wait of the operator's is its resync, and a change may take a few of them, one after the other.
const SETTLES: Duration = Duration::from_secs(600);

static PREPARED: Once = Once::new();

/// Unoptimised code takes more than a thread has by default, in bytes.
const STACK: usize = 16 << 20;

/// What a process does once it does in no run that counts.
pub fn prepare() {
    PREPARED.call_once(|| {
        chance::fix_stores();
        let _ = run_alone(0, false);
    });
}

/// Runs the seed in a thread of its own: what differs between threads is a function of it.
///
/// # Errors
/// What went wrong.
pub fn run(seed: u64, is_told: bool) -> Result<Report, Failure> {
    prepare();
    run_alone(seed, is_told)
}

fn run_alone(seed: u64, is_told: bool) -> Result<Report, Failure> {
    let run = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || -> io::Result<_> {
            chance::seed(seed);
            let runtime = Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()?;
            Ok(runtime.block_on(async {
                chance::start_clock();
                live(Rng::with_seed(seed), is_told).await
            }))
        });
    let failed = |what: String| Failure {
        what,
        trace: String::new(),
    };
    run.map_err(|error| failed(format!("no thread: {error}")))?
        .join()
        .map_err(|_| failed("the simulation itself panicked".into()))?
        .map_err(|error| failed(format!("no runtime: {error}")))?
}

async fn live(mut rng: Rng, is_told: bool) -> Result<Report, Failure> {
    let start = Instant::now();
    let world = World::new(rng.fork(), is_told);
    let fail = |what: String| Failure {
        what,
        trace: world.state().trace.text(),
    };
    let resync = Duration::from_secs(rng.u64(10..40));
    let elects = rng.u32(..5) == 0;
    let mut people = People::new(&world, rng.fork(), ISSUERS[0].into());
    world.state().move_to(ISSUERS[0]);
    people.set_up().await;
    let mut operators = Operators::start(&world, elects, ISSUERS[0].into(), resync);

    if rng.u32(..4) == 0 {
        bar(&mut rng, &world);
    }
    let gap = [50, 500, 4_000][rng.usize(..3)];
    for _ in 0..rng.usize(4..20) {
        sleep(Duration::from_millis(rng.u64(..gap))).await;
        if rng.u32(..100) < 75 {
            people.act().await;
        } else {
            disturb(&mut rng, &world, &mut people, &mut operators);
        }
        operators.supervise().await;
        let broken = world.state().rules.violation.clone();
        if let Some(broken) = broken {
            return Err(fail(broken));
        }
    }

    world.tell(|| "the faults end".into());
    world.state().weather = Weather::CALM;
    world.azure.throttle(false);
    world.azure.unbar();
    people.end().await;
    let healed = Instant::now();
    let settled = loop {
        sleep(Duration::from_secs(2)).await;
        operators.supervise().await;
        world.state().api.collect_garbage(jiff::Timestamp::now());
        world.news.notify_waiters();
        let broken = world.state().rules.violation.clone();
        if let Some(broken) = broken {
            return Err(fail(broken));
        }
        match ends(&world, &people.issuer) {
            Ok(_) => break healed.elapsed(),
            Err(wrong) if healed.elapsed() > SETTLES => {
                return Err(fail(format!("not within {SETTLES:?}: {wrong}")));
            }
            Err(_) => {}
        }
    };

    // The status says of a new credential, for two minutes, that Entra may not know it yet.
    sleep(Duration::from_secs(125) + resync).await;
    let rest = Rest::begin(&world);
    sleep(resync * 3).await;
    if let Err(what) = rest.check(&world, resync * 3, resync) {
        return Err(fail(what));
    }
    operators.supervise().await;
    let broken = world.state().rules.violation.clone();
    if let Some(broken) = broken {
        return Err(fail(broken));
    }
    match ends(&world, &people.issuer) {
        Ok(ends) => ends.into_iter().for_each(|end| world.met(end)),
        Err(wrong) => return Err(fail(format!("it did not last: {wrong}"))),
    }
    let state = world.state();
    Ok(Report {
        hash: state.trace.hash,
        lasted: start.elapsed(),
        settled_in: settled,
        met: state.met.clone(),
    })
}

/// What goes wrong beside people and single requests.
fn disturb(rng: &mut Rng, world: &Arc<World>, people: &mut People, operators: &mut Operators) {
    let index = rng.usize(..operators.count());
    let length = Duration::from_millis(rng.u64(100..40_000));
    match rng.u32(..16) {
        0..4 => {
            world.met(Event::Crash);
            operators.crash(index);
        }
        4 => {
            world.met(Event::Stop);
            operators.stop(index);
        }
        5 | 6 => {
            world.met(Event::Pause);
            operators.pause(index, length);
        }
        7 => {
            world.met(Event::CutFromCluster);
            if rng.bool() {
                // What it writes waits, perhaps until another one leads.
                for name in IDENTITIES {
                    world.azure.put_off(&identity_id(name));
                }
            }
            operators.cut(index, true, rng.bool(), length);
        }
        8 => {
            world.met(Event::CutFromAzure);
            operators.cut(index, false, true, length);
        }
        9 => {
            world.met(Event::HistoryForgotten);
            let mut state = world.state();
            let version = state.api.version();
            state.api.compact(version);
            state
                .trace
                .tell(|| "the cluster forgets its history".into());
        }
        10 => {
            world.met(Event::ClockJump);
            let by = rng.i64(-86_400_000..86_400_000);
            world.tell(|| format!("the wall clock jumps by {by} ms"));
            chance::jump(by);
        }
        11..14 => bar(rng, world),
        14 => {
            world.tell(|| "all roles are back".into());
            world.azure.unbar();
        }
        _ => {
            // The cluster's issuer moves; whoever starts from now on is told the new one.
            world.met(Event::IssuerMoved);
            let issuer = ISSUERS[1];
            world.tell(|| format!("the issuer is {issuer} from now on"));
            world.state().move_to(issuer);
            people.issuer = issuer.into();
            operators.issuer = issuer.into();
            for index in 0..operators.count() {
                operators.stop(index);
            }
        }
    }
}

/// The operator's role on an identity is taken away, mostly on one that an object asks for, and mostly it may
/// still read.
fn bar(rng: &mut Rng, world: &World) {
    let mut identities: Vec<String> = IDENTITIES.map(identity_id).into();
    if rng.u32(..5) > 0 {
        let state = world.state();
        let objects = state.api.list("airflowworkloadidentities");
        let used = objects.map(|object| &object["spec"]["identity"]["managedIdentity"]);
        let used: Vec<_> = used
            .map(|identity| identity["resourceId"].clone())
            .collect();
        identities.retain(|id| used.is_empty() || used.contains(&json!(id)));
    }
    let identity = &identities[rng.usize(..identities.len())];
    let may_read = rng.u32(..5) > 0;
    world.tell(|| format!("no role on {identity} any longer; may it read: {may_read}"));
    world.azure.bar(identity, may_read);
}
