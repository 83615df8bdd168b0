//! Kills and faults at random moments under steady load: people in Telegram chats and calling programs that always have a
//! question open, and somebody who kills whatever runs. One seed makes one sequence of victims.
//!
//! The tier `kills` kills only (SIGKILL: supervisor, agents, channel, tools). The tier `soak` also stops processes, breaks the
//! network in both directions, and delivers messages again.

mod load;
mod victims;

use crate::case::{Case, Outcome};
use harness::executables;
use harness::matrix::caller::Caller;
use harness::matrix::chance::Chance;
use harness::matrix::scene::{Plan, Scene};
use harness::{oracle, wait};
use load::Crowd;
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use victims::{Kind, Victim};

/// Kills between two looks of the oracle.
const CHECK_EVERY: u64 = 250;
/// Everything that is open at a look has this long to be answered.
const SETTLE: Duration = Duration::from_secs(180);
/// A worker that is not back by then is left to later looks (nobody wants it, or it waits out a back-off).
const RECOVERY_LIMIT: Duration = Duration::from_secs(4);
/// Longest time between a recovery and the next kill.
const GAP_MS: u64 = 120;
/// Strikes (a third of a second each) between two failures of the model. A run gives up after four in a row, and says so: that
/// is right, and no answer.
const CALM_MIN: u32 = 20;
/// Agents besides `main`.
const MORE_AGENTS: [&str; 2] = ["second", "third"];

/// What to do, and for how long.
#[derive(Debug, Clone)]
pub struct Storm {
    pub seed: u64,
    /// Kills, or no bound.
    pub count: Option<u64>,
    pub limit: Duration,
    /// All kinds of faults instead of kills alone.
    pub faults: bool,
}

pub fn case(storm: Storm) -> Case {
    let name = if storm.faults { "soak" } else { "kills" };
    let text = storm.clone();
    let mut case = Case::new(name, move || run(storm));
    case.topology = "1 supervisor, 3 agents, 1 bot, tools".into();
    case.load =
        "8 people (2 of them want files), 4 calling programs, each always with a question open".into();
    case.fault =
        if text.faults { "kills, stops, broken networks at random" } else { "SIGKILL at random" }.into();
    case.injection = format!("seed {}, {:?} kills, at most {:?}", text.seed, text.count, text.limit);
    case.alone = true;
    case
}

struct Run {
    storm: Storm,
    scene: Scene,
    crowd: Crowd,
    chance: Chance,
    kills: BTreeMap<&'static str, u64>,
    recovery: BTreeMap<String, Vec<u64>>,
    watch: Option<Caller>,
    /// Strikes since a call of the model failed.
    calm: u32,
}

async fn run(storm: Storm) -> Outcome {
    let mut plan = Plan::new(executables::directory());
    plan.more_agents = MORE_AGENTS.map(str::to_owned).to_vec();
    plan.tool_ms = 60;
    plan.delay_ms = 8;
    plan.forget = true;
    let mut scene = Scene::start(plan).await;
    if let Err(why) = scene.ready(SETTLE).await {
        return Outcome::failed(why);
    }
    let crowd = Crowd::new(&scene);
    let chance = Chance::of(storm.seed, "storm");
    let mut run = Run {
        storm,
        scene,
        crowd,
        chance,
        kills: BTreeMap::new(),
        recovery: BTreeMap::new(),
        watch: None,
        calm: 0,
    };
    let result = run.rage().await;
    run.end(result).await
}

/// A worker as `workers.list` shows it.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// 0 while it is not ready, and when nobody answers.
    epoch: u64,
    /// It died so often that its next start waits.
    waits: bool,
}

impl Run {
    fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Kills until it is enough; looks in between.
    async fn rage(&mut self) -> Result<(), String> {
        let end = Instant::now() + self.storm.limit;
        let mut next_look = CHECK_EVERY;
        self.crowd.start(&self.scene);
        while Instant::now() < end && self.storm.count.is_none_or(|count| self.killed() < count) {
            self.strike().await?;
            if self.killed() >= next_look {
                next_look += CHECK_EVERY;
                self.look().await?;
                self.crowd.start(&self.scene);
            }
        }
        self.look().await
    }

    /// Lets everything come to its end, then asks the oracle.
    async fn look(&mut self) -> Result<(), String> {
        self.scene.telegram.heal();
        self.scene.model.heal();
        self.quiet().await?;
        self.scene.settle(SETTLE).await?;
        let verdict = oracle::running(&self.scene);
        let kinds: Vec<String> = self.kills.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        println!(
            "  {} kills ({}), {} messages, {} lost, {} doubled, {} unknown and reported, {} empty placeholders, {} KiB",
            self.killed(),
            kinds.join(", "),
            verdict.messages,
            verdict.lost,
            verdict.doubled,
            verdict.unknown_reported,
            verdict.orphans,
            verdict.rss_kb
        );
        if verdict.broken.is_empty() { Ok(()) } else { Err(verdict.broken.join("\n")) }
    }

    /// Nobody asks any more, and all who asked have their answer.
    async fn quiet(&mut self) -> Result<(), String> {
        let stopping = self.crowd.stop();
        tokio::pin!(stopping);
        loop {
            self.scene.tend().await;
            if let Ok(result) = tokio::time::timeout(Duration::from_millis(20), &mut stopping).await {
                return result;
            }
        }
    }

    async fn strike(&mut self) -> Result<(), String> {
        self.calm += 1;
        if self.storm.faults && self.chance.between(0, 4) == 0 {
            self.disturb();
        }
        let Some(victim) = victims::pick(self.scene.gateway.pid(), &mut self.chance) else {
            self.scene.tend().await;
            wait::step().await;
            return Ok(());
        };
        let stop = self.storm.faults && self.chance.between(0, 6) == 0 && victim.kind != Kind::Tool;
        if stop {
            return self.pause_process(&victim).await;
        }
        // Sometimes two at once, with nothing between them.
        if self.chance.between(0, 8) == 0
            && let Some(other) = victims::pick(self.scene.gateway.pid(), &mut self.chance)
        {
            other.signal(Signal::SIGKILL);
            *self.kills.entry(other.kind.name()).or_default() += 1;
        }
        self.kill(victim).await?;
        let gap = self.chance.between(0, GAP_MS);
        wait::pause(Duration::from_millis(gap)).await;
        Ok(())
    }

    async fn kill(&mut self, victim: Victim) -> Result<(), String> {
        let before = if victim.kind == Kind::Supervisor { 0 } else { self.look_at(victim.kind).await.epoch };
        let at = Instant::now();
        victim.signal(Signal::SIGKILL);
        *self.kills.entry(victim.kind.name()).or_default() += 1;
        match victim.kind {
            Kind::Tool => {}
            Kind::Supervisor => {
                self.watch = None;
                let gone = wait::within(SETTLE, async || self.scene.tend().await.then_some(())).await;
                gone.ok_or("a supervisor outlives SIGKILL")?;
                self.scene.ready(SETTLE).await?;
                self.recovered(victim.kind.name(), at);
            }
            kind => {
                let mut slowed = false;
                let back = wait::within(RECOVERY_LIMIT, async || {
                    let seen = self.look_at(kind).await;
                    slowed |= seen.waits;
                    (seen.epoch > before).then_some(())
                })
                .await;
                if back.is_some() {
                    // More than 20 kills a minute from outside slow the restarts down: that wait is meant.
                    let name = kind.name();
                    let name = if slowed { format!("{name}, slowed down") } else { name.to_owned() };
                    self.recovered(&name, at);
                }
            }
        }
        self.scene.tend().await;
        Ok(())
    }

    fn recovered(&mut self, name: &str, at: Instant) {
        let ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.recovery.entry(name.to_owned()).or_default().push(ms);
    }

    async fn look_at(&mut self, kind: Kind) -> Seen {
        if self.watch.is_none() {
            self.watch = Caller::connect(self.scene.gateway.port).await.ok();
        }
        let Some(watch) = &mut self.watch else { return Seen::default() };
        let Ok(Ok(listed)) = watch.call("workers.list", json!({})).await else {
            self.watch = None;
            return Seen::default();
        };
        let rows = listed["workers"].as_array().cloned().unwrap_or_default();
        let Some(row) = rows.iter().find(|row| row["id"] == kind.worker()) else { return Seen::default() };
        let epoch = Some(row).filter(|row| row["state"] == "ready").and_then(|row| row["epoch"].as_u64());
        Seen { epoch: epoch.unwrap_or(0), waits: row["state"] == "backoff" }
    }

    /// Stops a process for up to three seconds: less than it takes to be called hung.
    async fn pause_process(&mut self, victim: &Victim) -> Result<(), String> {
        victim.signal(Signal::SIGSTOP);
        let time = self.chance.between(50, 3_000);
        wait::pause(Duration::from_millis(time)).await;
        victim.signal(Signal::SIGCONT);
        Ok(())
    }

    /// Something outside goes wrong for the next calls.
    fn disturb(&mut self) {
        let (telegram, model) = (&self.scene.telegram, &self.scene.model);
        let times = self.chance.between(1, 4) as u32;
        use harness::model_server::Fault as Model;
        use harness::telegram_server::Fault as Network;
        let what = self.chance.between(0, 10);
        if what >= 7 {
            if self.calm < CALM_MIN {
                return;
            }
            self.calm = 0;
        }
        match what {
            0 => telegram.fault("*", times, Network::RateLimit(1)),
            1 => telegram.fault("*", times, Network::Refuse(500, "Internal Server Error".into())),
            2 => telegram.fault("*", times, Network::CutBefore),
            3 => telegram.fault("editMessageText", times, Network::CutAfter),
            4 => telegram.fault("sendMessage", 1, Network::CutAfter),
            5 => telegram.fault("*", times, Network::Slow(400)),
            6 => telegram.redeliver(self.chance.between(1, 20) as usize),
            7 => model.fault(1, &Model::Disconnect { after: 2 }),
            8 => model.fault(1, &Model::Truncate { after: 1 }),
            _ => model.fault(1, &Model::Status { status: 503, body: "overloaded".into() }),
        }
    }

    async fn end(mut self, result: Result<(), String>) -> Outcome {
        let mut outcome = Outcome { kills: self.killed(), ..Outcome::default() };
        outcome.verdict = oracle::running(&self.scene);
        if let Err(why) = result {
            outcome.verdict.broken.push(format!("seed {}: {why}", self.storm.seed));
        }
        if outcome.passed() {
            oracle::stopped(&mut self.scene, &mut outcome.verdict).await;
        }
        if !outcome.passed() {
            let log = self.scene.gateway.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            outcome.verdict.broken.push(format!("log:\n{tail}"));
            if let Some(kept) = self.scene.gateway.keep_home() {
                outcome.verdict.broken.push(format!("its files are kept in {}", kept.display()));
            }
        }
        let kinds: Vec<String> = self.kills.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        outcome.note = format!("killed: {}; calls repeated {} times", kinds.join(", "), self.crowd.repeats());
        outcome.recovery_ms = self.recovery;
        outcome
    }
}
