//! One death at one point: the load, the fault, and what the oracle says.

use crate::case::Outcome;
use harness::executables;
use harness::matrix::Class;
use harness::matrix::load::{self, FIRST_CHAT};
use harness::matrix::scene::{Plan, Scene};
use harness::oracle;
use harness::telegram_server::Push;
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::task::JoinSet;

/// A start, a run and a restart take a second; a hung worker is found after 30 s.
const PATIENCE: Duration = Duration::from_secs(120);
/// A changed file is looked at within half a second, and its plan carried out within two.
const HEALED_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct Crash {
    /// `OPENCLAW_FAILPOINTS`.
    pub spec: String,
    pub class: Class,
    pub sessions: usize,
    /// Messages of each session.
    pub each: usize,
    /// The person sends a picture with it.
    pub media: bool,
    /// More has come before it than one poll brings.
    pub backlog: bool,
    /// There was a turn before in the first program's session, which nobody looks for afterwards.
    pub earlier: bool,
    /// The point is met when the gateway stops.
    pub at_stop: bool,
    /// Command line that leads to the point.
    pub command: &'static [&'static str],
}

pub async fn run(crash: Crash) -> Outcome {
    let mut plan = Plan::new(executables::with_failpoints());
    plan.failpoints.clone_from(&crash.spec);
    let mut scene = Scene::start(plan).await;
    let mut outcome = Outcome::default();
    if let Err(why) = scene.ready(PATIENCE).await {
        return Outcome::failed(why);
    }
    if let Err(why) = converse(&mut scene, &crash).await {
        outcome.verdict.broken.push(why);
    }
    if !crash.command.is_empty() {
        // It may die of its own command: what came of it is seen by what follows.
        let _answer = scene.gateway.cli(crash.command);
        if let Err(why) = restarted(&mut scene).await {
            outcome.verdict.broken.push(why);
        }
    }
    if crash.at_stop {
        scene.gateway.signal(Signal::SIGTERM);
        if let Err(why) = after_stop(&mut scene).await {
            outcome.verdict.broken.push(why);
        }
    }
    if outcome.verdict.broken.is_empty()
        && let Err(why) = scene.settle(PATIENCE).await
    {
        outcome.verdict.broken.push(why);
    }
    if let Err(why) = scene.awake(PATIENCE).await {
        outcome.verdict.broken.push(why);
    }
    scene.healed(HEALED_WITHIN).await;
    let failed = std::mem::take(&mut outcome.verdict.broken);
    outcome.verdict = oracle::running(&scene);
    outcome.verdict.broken.splice(0..0, failed);
    let reached = scene.restarts > 0 || scene.continued > 0 || scene.reborn() || panicked(&scene);
    if !reached {
        outcome.verdict.broken.push("the point was never reached".to_owned());
    }
    outcome.kills = u64::from(scene.restarts.max(1));
    outcome.note = format!("{} restarts of the gateway", scene.restarts);
    if outcome.passed() {
        oracle::stopped(&mut scene, &mut outcome.verdict).await;
    }
    if !outcome.passed() {
        outcome.verdict.broken.push(format!("log:\n{}", tail(&scene.gateway.log())));
    }
    outcome
}

/// A panic ends a task, not always its process: then somebody was told.
fn panicked(scene: &Scene) -> bool {
    let log = scene.gateway.log();
    let words = ["panicked at", "failpoint panics", "ended by a panic"];
    words.iter().any(|words| log.contains(words))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Sends the load; for calling programs returns when all have their end.
async fn converse(scene: &mut Scene, crash: &Crash) -> Result<(), String> {
    if crash.backlog {
        for nth in 0..BACKLOG {
            // Nobody asked the bot: it reads them and says nothing.
            scene.telegram.push(Push::group(GROUP, FIRST_CHAT, &format!("small talk {nth}")));
        }
    }
    if crash.class != Class::Rpc {
        for nth in 0..crash.each {
            for person in 0..crash.sessions {
                if crash.media {
                    picture(scene, person as i64, nth);
                } else {
                    scene.write(crash.class, person as i64, nth);
                }
            }
        }
        return Ok(());
    }
    if crash.earlier {
        let nobodys = load::Book::default();
        load::call(scene.gateway.port, &nobodys, "agent:main:s0", "mark-earlier-0000", PATIENCE).await?;
    }
    let mut calls = JoinSet::new();
    for session in 0..crash.sessions {
        let (port, book, each) = (scene.gateway.port, scene.book.clone(), crash.each);
        calls.spawn(async move {
            for nth in 0..each {
                let (key, mark) = (format!("agent:main:s{session}"), format!("mark-rpc{session}-{nth:04}"));
                load::call(port, &book, &key, &mark, PATIENCE).await?;
            }
            Ok::<(), String>(())
        });
    }
    loop {
        scene.tend().await;
        let step = tokio::time::timeout(Duration::from_millis(20), calls.join_next()).await;
        match step {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(Ok(())))) | Err(_) => {}
            Ok(Some(Ok(Err(why)))) => return Err(why),
            Ok(Some(Err(error))) => return Err(error.to_string()),
        }
    }
}

/// Updates: a poll brings a hundred.
const BACKLOG: usize = 150;
const GROUP: i64 = -100_700_001;

fn picture(scene: &Scene, person: i64, nth: usize) {
    let mark = format!("mark-edit{person}-{nth:04}");
    let chat = FIRST_CHAT + person;
    let said =
        load::Said { mark: mark.clone(), class: Class::Edit, chat, session: format!("telegram {chat}") };
    scene.book.note(said);
    let push = Push::direct(chat, &load::words(Class::Edit, &mark)).file("photo", PICTURE);
    scene.telegram.push(push);
}

/// The smallest PNG: one transparent point.
const PICTURE: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0,
    0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0,
    1, 0, 0, 5, 0, 1, 0x0d, 0x0a, 0x2d, 0xb4, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// The death that the command led to was seen, or it was survived (a panic of a task, a stop).
async fn restarted(scene: &mut Scene) -> Result<(), String> {
    let limit = Duration::from_secs(20);
    let _died = harness::wait::within(limit, async || {
        (scene.tend().await || scene.continued > 0 || panicked(scene) || scene.reborn()).then_some(())
    })
    .await;
    scene.ready(PATIENCE).await
}

/// The gateway goes down, well or badly; then it is started again.
async fn after_stop(scene: &mut Scene) -> Result<(), String> {
    let gone = harness::wait::within(PATIENCE, async || scene.tend().await.then_some(())).await;
    gone.ok_or("the gateway neither stopped nor died")?;
    scene.ready(PATIENCE).await
}
