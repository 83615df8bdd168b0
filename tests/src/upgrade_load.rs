//! A gateway under load while its program image is replaced again and again: clients of both protocols, some of which
//! write half a request and wait, some of which do not read for a while; streamed runs; people on Telegram; somebody who
//! connects all the time. What each of them saw is counted, and nothing of it may be lost, doubled, closed or refused.

pub mod clients;
pub mod people;
pub mod runs;

use crate::gateway::TestGateway;
use crate::model_server::{ModelServer, Reply, Rule, Script};
use crate::telegram_server::TelegramServer;
use crate::wait;
use crate::ws_client::WsClient;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What every streamed run says; about two seconds.
pub const WORDS: &str =
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen";

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// WebSocket clients, besides those that stream.
    pub clients: usize,
    /// Runs that stream at the same time, each through a client of its own.
    pub runs: usize,
    /// Telegram accounts, one person each.
    pub accounts: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { clients: 95, runs: 5, accounts: 3 }
    }
}

/// Named counts of all tasks together.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    counts: BTreeMap<&'static str, u64>,
    /// What went wrong, for people.
    faults: Vec<String>,
    waits: Vec<Duration>,
}

/// Faults that are kept in words; the rest is counted.
const FAULTS_MAX: usize = 20;

impl Tally {
    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn add(&self, what: &'static str) {
        self.with(|seen| *seen.counts.entry(what).or_default() += 1);
    }

    pub fn fault(&self, what: &'static str, words: String) {
        self.add(what);
        self.with(|seen| {
            if seen.faults.len() < FAULTS_MAX {
                seen.faults.push(format!("{what}: {words}"));
            }
        });
    }

    pub fn waited(&self, time: Duration) {
        self.with(|seen| seen.waits.push(time));
    }

    pub fn count(&self, what: &str) -> u64 {
        self.with(|seen| seen.counts.get(what).copied().unwrap_or(0))
    }
}

/// The scene.
pub struct Load {
    pub gateway: TestGateway,
    pub tally: Tally,
    bots: Vec<TelegramServer>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    watcher: WsClient,
    upgrades: u64,
    _model: ModelServer,
}

fn script() -> Script {
    let slow = Reply { text: WORDS.to_owned(), chunk_chars: 2, delay_ms: 40, ..Reply::default() };
    let quick = Reply { text: "got {mark}".to_owned(), delay_ms: 5, ..Reply::default() };
    let rules = vec![Rule { contains: Some("mark-".to_owned()), reply: quick, ..Rule::default() }];
    Script { rules, otherwise: slow, forget: true, ..Script::default() }
}

fn config(model: &ModelServer, bots: &[TelegramServer]) -> Value {
    let accounts: serde_json::Map<String, Value> = bots
        .iter()
        .enumerate()
        .map(|(n, bot)| {
            let account = json!({
                "botToken": bot.token(), "apiRoot": bot.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
            });
            (format!("bot{n}"), account)
        })
        .collect();
    json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": "sk-test", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 128000, "maxTokens": 1000}],
        }}},
        "agents": {"defaults": {"model": {"primary": "double/m1"}, "maxConcurrent": 16}},
        "channels": {"telegram": {"accounts": accounts}},
        "session": {"dmScope": "per-account-channel-peer"},
        "messages": {"queue": {"mode": "followup", "debounceMs": 0, "cap": 100}},
    })
}

impl Load {
    /// Starts everything, with the executables of this directory or the tree's, and waits until all of it is under way.
    pub async fn start(size: Size, bin: Option<&Path>) -> Self {
        let model = ModelServer::start(script()).await;
        let mut bots = Vec::new();
        for _ in 0..size.accounts {
            bots.push(TelegramServer::start().await);
        }
        let mut builder = TestGateway::builder().config(config(&model, &bots));
        if let Some(bin) = bin {
            builder = builder.bin(bin);
        }
        let gateway = builder.start().await;
        for bot in &bots {
            wait::until("a bot polls", async || bot.is_polled().then_some(())).await;
        }
        let (stop, stopped) = watch::channel(false);
        let (tally, mut tasks, port) = (Tally::default(), JoinSet::new(), gateway.port);
        for n in 0..size.clients {
            let client = clients::connect(port, n).await;
            tasks.spawn(clients::ask_on(client, n, tally.clone(), stopped.clone()));
        }
        for n in 0..size.runs {
            let client = WsClient::cli(port, 4).await;
            tasks.spawn(runs::stream_on(client, n, tally.clone(), stopped.clone()));
        }
        for (n, bot) in bots.iter().enumerate() {
            tasks.spawn(people::write_on(bot.handle(), n, tally.clone(), stopped.clone()));
        }
        tasks.spawn(clients::connect_on(port, tally.clone(), stopped.clone()));
        tasks.spawn(clients::measure(port, tally.clone(), stopped));
        let wanted = (size.clients + size.runs) as u64;
        let ready =
            async || (tally.count("clients") >= wanted && tally.count("runs begun") > 0).then_some(());
        wait::until("all clients are there", ready).await;
        let watcher = WsClient::cli(port, 4).await;
        Self { gateway, tally, bots, stop, tasks, watcher, upgrades: 0, _model: model }
    }

    /// Replaces the image once, and gives the time from the signal until a client that was there before knows of it.
    pub async fn upgrade(&mut self) -> Duration {
        let begin = Instant::now();
        self.gateway.signal(Signal::SIGUSR1);
        self.upgrades += 1;
        loop {
            let id = self.watcher.send("system.info", json!({"gateway": true})).await;
            match self.watcher.response_unless_closed(&id).await {
                Ok(Ok(info)) if info["upgrades"].as_u64() >= Some(self.upgrades) => return begin.elapsed(),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => panic!("system.info: {error}"),
                Err(closed) => {
                    self.tally.fault("closed", format!("the watching client: {closed:?}"));
                    self.watcher = WsClient::cli(self.gateway.port, 4).await;
                }
            }
            self.watcher.events.clear();
            assert!(begin.elapsed() < wait::PATIENCE, "not replaced; the log:\n{}", self.gateway.log());
            wait::step().await;
        }
    }

    /// Ends the load; every run and every message is waited for.
    pub async fn finish(mut self) -> Report {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.tally.fault("crashed", error.to_string());
            }
        }
        for (n, bot) in self.bots.iter().enumerate() {
            people::check(bot, n, &self.tally).await;
        }
        let mut report = Report::of(self.upgrades, &self.tally);
        if report.wrong() > 0 {
            report.log = self.gateway.log();
        }
        report
    }
}

/// What it came to.
#[derive(Debug, Clone)]
pub struct Report {
    pub upgrades: u64,
    pub counts: BTreeMap<&'static str, u64>,
    pub faults: Vec<String>,
    /// Longest waits for the answer to `health`, in order.
    pub waits: Vec<Duration>,
    /// The gateway's log, when something went wrong.
    pub log: String,
}

impl Report {
    fn of(upgrades: u64, tally: &Tally) -> Self {
        let (counts, faults, mut waits) =
            tally.with(|seen| (seen.counts.clone(), seen.faults.clone(), seen.waits.clone()));
        waits.sort();
        Self { upgrades, counts, faults, waits, log: String::new() }
    }

    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Everything that must not have happened.
    pub fn wrong(&self) -> u64 {
        WRONG.iter().map(|what| self.count(what)).sum()
    }
}

/// Counts that must be zero.
pub const WRONG: [&str; 9] = [
    "closed",
    "event gaps",
    "failed answers",
    "answers twice",
    "runs lost",
    "stream gaps",
    "connects refused",
    "messages lost or twice",
    "crashed",
];

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "upgrades: {}", self.upgrades)?;
        for (what, count) in self.counts.iter().filter(|(what, _)| !WRONG.contains(what)) {
            writeln!(f, "{what}: {count}")?;
        }
        for what in WRONG {
            writeln!(f, "{what}: {}", self.count(what))?;
        }
        if let (Some(longest), Some(median)) = (self.waits.last(), self.waits.get(self.waits.len() / 2)) {
            let p99 = self.waits.get(self.waits.len() * 99 / 100).unwrap_or(longest);
            writeln!(
                f,
                "wait for health: p50 {} ms, p99 {} ms, longest {} ms",
                median.as_millis(),
                p99.as_millis(),
                longest.as_millis()
            )?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "! {fault}"))
    }
}
