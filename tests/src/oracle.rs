//! What must hold after any fault, whatever it was: functions over the independent books (the network's, the model's, the
//! ledger tool's, the callers'), the files on disk and /proc. Nothing here asks the gateway whether it did well.
//!
//! | rule | |
//! |---|---|
//! | I1 | every message that was acknowledged has exactly one outcome |
//! | I2 | what was not acknowledged is still where it came from |
//! | I3 | class A: one visible reply; class C: one, and one more for each that is reported as doubtful |
//! | I4 | no tool call ran twice |
//! | I5 | every transcript can be read, its chain has no gap, each run has one end |
//! | I6 | order of a session is kept |
//! | I7 | nothing of ours runs any more after a stop, no lock is held |
//! | I8 | `status` names what is wrong, and nothing when all is well |
//! | I9 | no secret in logs, crash reports, arguments or environments |
//! | I10 | another restart changes nothing |
//! | I11 | memory of the supervisor stays in its budget |

pub mod leak;
pub mod transcripts;
pub mod visible;

use crate::gateway::is_alive;
use crate::ledger;
use crate::matrix::processes;
use crate::matrix::scene::{FAILPOINTS, PLACEHOLDER, Scene};
use crate::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

/// Resident memory of a supervisor (I11) in KiB. A build with debug information needs up to three times what is shipped.
const SUPERVISOR_RSS_KB_MAX: u64 = 96 * 1024;
/// A stop may take this long (ruling: SIGTERM ends within 5 s); the rest is for a machine that is busy with other tests.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What the books say.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Verdict {
    pub messages: usize,
    /// Acknowledged and never answered.
    pub lost: usize,
    /// Seen twice although the network tells repetitions apart.
    pub doubled: usize,
    /// Class C sends of unknown outcome, as the gateway reports them.
    pub unknown_reported: u64,
    /// Empty placeholders that stand in a chat.
    pub orphans: usize,
    /// Ledger lines.
    pub tool_calls: usize,
    /// Supervisor, KiB.
    pub rss_kb: u64,
    /// One line for each rule that does not hold.
    pub broken: Vec<String>,
}

impl Verdict {
    fn check(&mut self, rule: &str, found: impl IntoIterator<Item = String>) {
        self.broken.extend(found.into_iter().map(|what| format!("{rule}: {what}")));
    }

    /// Adds another's counts and findings.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.unknown_reported += other.unknown_reported;
        self.orphans += other.orphans;
        self.tool_calls += other.tool_calls;
        self.rss_kb = self.rss_kb.max(other.rss_kb);
        self.broken.extend(other.broken.iter().cloned());
    }
}

/// Rules that can be checked while the gateway runs and is idle: I1 to I6, I8, I9, I11.
pub fn running(scene: &Scene) -> Verdict {
    let mut verdict = Verdict { messages: scene.book.all().len(), ..Verdict::default() };
    let info = scene.info().unwrap_or_default();
    verdict.unknown_reported = info["journal"]["maybeDup"].as_u64().unwrap_or(0)
        + info["journal"]["outboxUnknown"].as_u64().unwrap_or(0)
        + info["journal"]["outboxFailed"].as_u64().unwrap_or(0);
    visible::check(scene, &info, &mut verdict);
    let read = transcripts::read(&scene.gateway.state_dir());
    transcripts::check(scene, &read, &mut verdict);
    let mut lines = ledger::read(&scene.gateway.workspace());
    for agent in agents_of(&scene.gateway.state_dir()) {
        lines.extend(ledger::read(&scene.gateway.state_dir().join(format!("workspace-{agent}"))));
    }
    verdict.tool_calls = lines.len();
    verdict.check("I4", ledger::repeated(&lines));
    verdict.check("I4", marks_worked_on_twice(&lines));
    let degraded = info["degraded"].as_array().cloned().unwrap_or_default();
    verdict.check("I8", degraded.iter().map(|line| format!("idle and healed, and yet status says {line}")));
    verdict.check("I9", leak::found(scene));
    verdict.rss_kb = processes::rss_kb(scene.gateway.pid());
    if verdict.rss_kb > SUPERVISOR_RSS_KB_MAX {
        verdict.check("I11", [format!("the supervisor has {} KiB", verdict.rss_kb)]);
    }
    verdict
}

/// The scripted model asks for the tool once per message, so a message that the ledger shows twice was worked on twice.
fn marks_worked_on_twice(lines: &[ledger::Line]) -> Vec<String> {
    let mut marks: Vec<&String> = lines.iter().flat_map(|line| &line.marks).collect();
    marks.sort();
    let twice = marks.windows(2).filter(|pair| pair[0] == pair[1]);
    twice.map(|pair| format!("the tool ran twice for {}", pair[0])).collect()
}

fn agents_of(state: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(state.join("agents")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "main").collect()
}

/// Stops the gateway (I7), starts it again (I10), and stops it for good.
pub async fn stopped(scene: &mut Scene, verdict: &mut Verdict) {
    let before = Snapshot::of(scene);
    stop(scene, verdict).await;
    // A point that stops instead of killing is still armed.
    scene.gateway.forget_env(FAILPOINTS);
    scene.gateway.start_again();
    scene.gateway.ready().await;
    let polled =
        wait::within(Duration::from_secs(60), async || scene.telegram.is_polled().then_some(())).await;
    if polled.is_none() {
        verdict.check("I10", ["after another restart nothing is received".to_owned()]);
    }
    let idle = scene.settle(Duration::from_secs(30)).await;
    verdict.check("I10", idle.err());
    let after = Snapshot::of(scene);
    verdict.check("I10", after.differs_from(&before));
    stop(scene, verdict).await;
}

async fn stop(scene: &mut Scene, verdict: &mut Verdict) {
    let all = scene.processes();
    scene.gateway.signal(Signal::SIGTERM);
    let pid = scene.gateway.pid();
    let gone = wait::within(STOP_LIMIT, async || (!is_alive(pid)).then_some(())).await;
    if gone.is_none() {
        verdict.check("I7", [format!("does not stop within {STOP_LIMIT:?}")]);
        scene.gateway.kill9();
        return;
    }
    let status = scene.gateway.wait_exit();
    if !status.success() {
        verdict.check("I7", [format!("an orderly stop ended with {status}")]);
    }
    let left: Vec<_> = all.iter().filter(|process| is_alive(process.pid)).collect();
    verdict.check("I7", left.iter().map(|process| format!("outlived its gateway: {process:?}")));
    let left = scene.processes();
    verdict.check("I7", left.iter().map(|process| format!("still there after the stop: {process:?}")));
    verdict.check("I7", held_locks(scene));
}

fn held_locks(scene: &Scene) -> Vec<String> {
    let path = scene.gateway.state_dir().join("gateway.lock");
    let Ok(file) = std::fs::File::open(&path) else { return Vec::new() };
    let free = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
    if free { Vec::new() } else { vec![format!("{} is still locked", path.display())] }
}

/// Everything that a restart must not change.
struct Snapshot {
    shown: Vec<(i64, Vec<String>)>,
    sends: usize,
    requests: usize,
    ledger: usize,
    transcripts: Vec<(String, u64)>,
}

impl Snapshot {
    fn of(scene: &Scene) -> Self {
        let chats: std::collections::BTreeSet<i64> = scene.book.all().iter().map(|said| said.chat).collect();
        let shown = chats.into_iter().map(|chat| {
            let shown = scene.telegram.visible(chat).into_iter();
            (chat, shown.map(|shown| format!("{}:{}", shown.message_id, shown.text)).collect())
        });
        let methods = ["sendMessage", "editMessageText", "sendDocument", "sendPhoto", "deleteMessage"];
        Self {
            shown: shown.collect(),
            sends: methods.iter().map(|method| scene.telegram.calls(method).len()).sum(),
            requests: scene.model.book().len(),
            ledger: ledger::read(&scene.gateway.workspace()).len(),
            transcripts: transcripts::sizes(&scene.gateway.state_dir()),
        }
    }

    fn differs_from(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut same = |what: &str, now: String, then: String| {
            if now != then {
                found.push(format!("another restart changed {what}: {then} became {now}"));
            }
        };
        same("what is shown", format!("{:?}", self.shown), format!("{:?}", before.shown));
        same("the calls to the network", self.sends.to_string(), before.sends.to_string());
        same("the requests to the model", self.requests.to_string(), before.requests.to_string());
        same("the ledger", self.ledger.to_string(), before.ledger.to_string());
        same("the transcripts", format!("{:?}", self.transcripts), format!("{:?}", before.transcripts));
        found
    }
}

/// Texts that are a whole or empty placeholder.
pub fn is_placeholder(text: &str) -> bool {
    text.trim() == PLACEHOLDER
}

/// `status` names this fault (I8).
pub fn status_names(scene: &Scene, words: &[&str]) -> Result<(), String> {
    let info = scene.info().unwrap_or_default();
    let lines: Vec<String> = info["degraded"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let named = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    if named { Ok(()) } else { Err(format!("I8: status does not name {words:?}: {lines:?}")) }
}
