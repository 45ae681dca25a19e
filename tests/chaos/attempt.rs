//! One attempt: the operator dies at one write, and another one starts.

use std::{
    collections::BTreeMap,
    fmt, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use lab::{
    Lab, Operator, OperatorOptions,
    proxy::{Fate, Proxy, Seen},
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::{
    end::End,
    picture::{Picture, difference},
    scenario::{BLUE, Change, Scenario},
    stage::Stage,
};

/// Without a write for so long, which is more than two resyncs, nothing more comes.
const QUIET: Duration = Duration::from_millis(2500);
const LIMIT: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// A write, by what it is about, and the how-manieth of that kind it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    what: String,
    place: usize,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, place } = self;
        write!(f, "{what} ({place})")
    }
}

/// When the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before the write arrives.
    Before,
    /// After it was done, and before the answer.
    After,
    /// The same, and until the next one starts, the user takes the change back.
    AfterAndUndone,
}

/// What comes of a scenario when nobody dies.
pub struct Reference {
    pub writes: Vec<Write>,
    before: String,
    after: String,
}

/// A replica that waits only reads it.
fn takes_lease(seen: &Seen) -> bool {
    seen.path.contains("/leases") && seen.method != "GET"
}

/// The operator, with a proxy before it whose writes go through one by one.
struct Run {
    operator: Operator,
    proxy: Proxy,
    taken: usize,
    counts: BTreeMap<String, usize>,
}

impl Run {
    async fn start(
        stage: &Stage<'_>,
        scenario: &Scenario,
        awi: &std::path::Path,
        issuer: &str,
    ) -> Result<Self> {
        let proxy = Proxy::start(stage.lab)?;
        let mut extra_args = vec![
            format!("--watch-namespace={}", stage.ns),
            format!("--issuer={issuer}"),
            "--azure-timeout=10s".into(),
        ];
        let mut env = Vec::new();
        if scenario.is_elected {
            extra_args.push("--leader-election".into());
        }
        if scenario.has_own_operator {
            env.push(("POD_NAMESPACE".to_owned(), stage.ns.clone()));
        }
        let options = OperatorOptions {
            resync: "1s".into(),
            extra_args,
            env,
            ..OperatorOptions::default()
        };
        let operator = stage
            .lab
            .start_operator(awi, options.through(&proxy))
            .await?;
        Ok(Self {
            operator,
            proxy,
            taken: 0,
            counts: BTreeMap::new(),
        })
    }

    /// Lets everything through until the object is at rest, and holds it from then on.
    async fn settle(&mut self, stage: &Stage<'_>) -> Result<()> {
        let settled = async {
            let mut since = (0, Instant::now());
            loop {
                let writes = self.proxy.writes().len();
                if writes != since.0 {
                    since = (writes, Instant::now());
                }
                if since.1.elapsed() > Duration::from_millis(800)
                    && stage.picture().await?.is_at_rest()
                {
                    return anyhow::Ok(());
                }
                sleep(LOOK).await;
            }
        };
        let result = timeout(LIMIT, settled).await;
        result.with_context(|| {
            let log = self.operator.log();
            format!("{}\n{log}", in_vain("the object does not come to rest"))
        })??;
        self.taken = self.proxy.writes().len();
        self.hold_from(self.taken, self.taken);
        Ok(())
    }

    /// As long as another replica leads, nothing is written, nor tried.
    fn ensure_waiting(&self) -> Result<()> {
        let seen = self.proxy.seen();
        ensure!(
            !seen
                .iter()
                .any(|seen| seen.write.is_some() || takes_lease(seen)),
            "it took the Lease, or wrote, while another replica led"
        );
        Ok(())
    }

    /// Waits until this replica takes the Lease, before which nothing is written either.
    async fn take_over(&self) -> Result<()> {
        let taken = timeout(LIMIT, self.proxy.arrived(takes_lease)).await;
        let taken = taken.with_context(|| in_vain("the replica does not take over"))?;
        let writes = self.proxy.writes();
        ensure!(
            writes.iter().all(|write| write.number > taken.number),
            "it wrote before it led"
        );
        Ok(())
    }

    /// Writes up to `passed` reach upstream, and up to `answered` are answered.
    fn hold_from(&self, passed: usize, answered: usize) {
        self.proxy.rule(move |seen| match seen.write {
            Some(write) if write > passed => Fate::Hold,
            Some(write) if write > answered => Fate::PassThenHold,
            _ => Fate::Pass,
        });
    }

    fn identify(&mut self, stage: &Stage<'_>, seen: &Seen) -> Write {
        let path = stage.neutral(&seen.path);
        let start = ["/namespaces/", "/userAssignedIdentities/"];
        let mut ends = start.iter().filter_map(|start| path.split_once(start));
        let what = format!(
            "{} {}",
            seen.method,
            ends.next().map_or(&*path, |(_, end)| end)
        );
        let place = self.counts.entry(what.clone()).or_default();
        *place += 1;
        Write {
            what,
            place: *place,
        }
    }

    /// Takes the writes one by one, and looks after each of them, until one is the fatal one, or there is
    /// none for a while and everything is as `expected`. Returns those that were taken, and whether the last is the
    /// fatal one.
    async fn watch(
        &mut self,
        stage: &Stage<'_>,
        scenario: &Scenario,
        of_others: &Value,
        fatal: Option<(&Write, Death)>,
        expected: Option<&str>,
        end: &End,
    ) -> Result<(Vec<Write>, bool)> {
        let mut writes = Vec::new();
        let started = Instant::now();
        let mut latest = Instant::now();
        let look = |picture: &Picture, writes: &[Write]| {
            let wrongs = picture.wrongs(stage, scenario, of_others);
            let last = writes.last().map(ToString::to_string).unwrap_or_default();
            ensure!(
                wrongs.is_empty(),
                "after {} writes, the last of which is {last}:\n{}",
                writes.len(),
                wrongs.join("\n")
            );
            Ok(())
        };
        loop {
            if started.elapsed() > LIMIT {
                let picture = stage.picture().await?;
                let text = picture.text(stage)?;
                bail!(
                    "{}\nThe last of {} writes is {:?}.\n{}\n{}",
                    in_vain("it does not come to its end"),
                    writes.len(),
                    writes.last().map(ToString::to_string),
                    end.wrongs(&picture, stage).join("\n"),
                    expected.map_or(String::new(), |expected| difference(expected, &text))
                );
            }
            let next = self.taken + 1;
            let held = timeout(LOOK, self.proxy.held(|seen| seen.write == Some(next))).await;
            if let Ok(seen) = held {
                let write = self.identify(stage, &seen);
                let death = fatal
                    .filter(|(fatal, _)| **fatal == write)
                    .map(|(_, death)| death);
                writes.push(write);
                if death == Some(Death::Before) {
                    return Ok((writes, true));
                }
                self.hold_from(next, self.taken);
                let answered = self.proxy.answered(|seen| seen.write == Some(next));
                timeout(LIMIT, answered)
                    .await
                    .with_context(|| in_vain("a write has no answer"))?;
                look(&stage.picture().await?, &writes)?;
                if death.is_some() {
                    return Ok((writes, true));
                }
                self.hold_from(next, next);
                self.taken = next;
                latest = Instant::now();
            } else if latest.elapsed() > QUIET {
                let picture = stage.picture().await?;
                look(&picture, &writes)?;
                let text = picture.text(stage)?;
                let is_done = match expected {
                    Some(expected) => expected == text,
                    // Nobody knows how long the first write takes.
                    None => !writes.is_empty() && latest.elapsed() > 2 * QUIET,
                };
                if picture.is_settled() && is_done {
                    return Ok((writes, false));
                }
            }
        }
    }
}

pub struct Attempt<'a> {
    pub lab: &'a Lab,
    pub client: &'a Client,
    pub awi: &'a std::path::Path,
    pub scenario: &'a Scenario,
}

/// Before the change.
struct Scene<'a> {
    stage: Stage<'a>,
    /// It has nothing more to do.
    run: Run,
    /// The second operator, if one is elected: it waits.
    replica: Option<Run>,
    of_others: Value,
    before: String,
}

impl Attempt<'_> {
    /// Nobody dies.
    pub async fn undisturbed(&self) -> Result<Reference> {
        let mut scene = self.set_up("reference").await?;
        self.change(&mut scene).await?;
        let Scene {
            stage,
            mut run,
            replica,
            of_others,
            before,
        } = scene;
        let (writes, _) = run
            .watch(
                &stage,
                self.scenario,
                &of_others,
                None,
                None,
                &self.scenario.end,
            )
            .await?;
        if let Some(replica) = &replica {
            replica.ensure_waiting()?;
        }
        let after = ended(&stage, &self.scenario.end).await?;
        Ok(Reference {
            writes,
            before,
            after,
        })
    }

    /// The operator dies at one of the writes.
    pub async fn fatal(
        &self,
        reference: &Reference,
        name: &str,
        write: &Write,
        death: Death,
    ) -> Result<()> {
        let scenario = self.scenario;
        let mut scene = self.set_up(name).await?;
        self.change(&mut scene).await?;
        let Scene {
            stage,
            mut run,
            replica,
            of_others,
            ..
        } = scene;
        let fatal = Some((write, death));
        let (writes, is_dead) = run
            .watch(
                &stage,
                scenario,
                &of_others,
                fatal,
                Some(&reference.after),
                &scenario.end,
            )
            .await?;
        ensure!(
            is_dead,
            "the write never came: this time the end was reached by others, {}",
            writes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        if let Some(replica) = &replica {
            replica.ensure_waiting()?;
        }
        run.operator.kill();
        // Only now: what is held never arrives.
        drop(run);
        let is_undone = death == Death::AfterAndUndone;
        if is_undone {
            scenario.change.take_back(&stage, scenario).await?;
        }
        let issuer = if matches!(scenario.change, Change::Issuer) && !is_undone {
            stage.green()
        } else {
            BLUE.to_owned()
        };
        let is_elected = replica.is_some();
        let mut next = match replica {
            Some(replica) => {
                replica.take_over().await?;
                replica
            }
            None => Run::start(&stage, scenario, self.awi, &issuer).await?,
        };
        next.hold_from(0, 0);
        let (expected, end) = if is_undone {
            (&reference.before, &scenario.beginning)
        } else {
            (&reference.after, &scenario.end)
        };
        let recovered = next
            .watch(&stage, scenario, &of_others, None, Some(expected), end)
            .await;
        let (rest, _) = recovered
            .with_context(|| format!("it was not as expected:\n{}", next.operator.log()))?;
        let found = ended(&stage, end).await?;
        ensure!(
            found == *expected,
            "it changed again: {}",
            difference(expected, &found)
        );
        // The first wrote until its death, so of two that elect a leader both write: the second what the first left.
        // Only after the very last write there is nothing left; then the second has led, and written nothing wrong.
        let is_complete = death != Death::Before && writes.len() == reference.writes.len();
        ensure!(
            !is_elected || is_complete || !rest.is_empty(),
            "the replica that took over wrote nothing"
        );
        Ok(())
    }

    /// A stage with an operator that has nothing more to do.
    async fn set_up(&self, name: &str) -> Result<Scene<'_>> {
        let scenario = self.scenario;
        let ns = format!("chaos-{}-{name}", scenario.name);
        let stage = Stage::set(self.lab, self.client, &ns, scenario).await?;
        let mut run = Run::start(&stage, scenario, self.awi, BLUE).await?;
        for spec in &scenario.before {
            run.proxy.rule(|_| Fate::Pass);
            stage.apply(&stage.prod(spec)).await?;
            run.settle(&stage).await?;
        }
        run.hold_from(run.taken, run.taken);
        let before = ended(&stage, &scenario.beginning)
            .await
            .context("before the change")?;
        let replica = if scenario.is_elected {
            let replica = Run::start(&stage, scenario, self.awi, BLUE).await?;
            replica.hold_from(0, 0);
            Some(replica)
        } else {
            None
        };
        let of_others = stage.picture().await?.of_others();
        Ok(Scene {
            stage,
            run,
            replica,
            of_others,
            before,
        })
    }

    /// Makes the change; with another issuer, another operator is the one to go on with.
    async fn change(&self, scene: &mut Scene<'_>) -> Result<()> {
        let Scene { stage, run, .. } = scene;
        self.scenario.change.make(stage).await?;
        if matches!(self.scenario.change, Change::Issuer) {
            run.operator.kill();
            *run = Run::start(stage, self.scenario, self.awi, &stage.green()).await?;
            run.hold_from(0, 0);
        }
        Ok(())
    }
}

/// What there is, as text, if it is what the user asked for.
async fn ended(stage: &Stage<'_>, end: &End) -> Result<String> {
    let picture = stage.picture().await?;
    let wrongs = end.wrongs(&picture, stage);
    ensure!(
        wrongs.is_empty(),
        "not what the user asked for:\n{}",
        wrongs.join("\n")
    );
    ensure!(
        picture.checksums_agree(),
        "the status does not know the Secrets"
    );
    picture.text(stage)
}

/// That something took longer than it may, and whether that may be the machine's fault.
fn in_vain(what: &str) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{what}, after {} seconds. That may be the machine: its load is {load}, with {cores} cores. If it is far more than \
         there are cores, end what else runs, and try this scenario alone: make chaos CHAOS=<its name>.",
        LIMIT.as_secs()
    )
}
