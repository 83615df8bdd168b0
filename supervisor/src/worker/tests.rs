//! Real processes: this test executable runs itself as a worker, good or hostile.

use super::*;
use proto::wire::Wire;
use proto::wire::agent::{AgentToSup, RpcCall, SupToAgent};
use proto::wire::handshake::{Isolation, SecretMap, WorkerConfig, WorkerPaths};
use proto::wire::id::Id;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

#[path = "../../../tests/src/bin/hostile_worker.rs"]
mod hostile;

/// Not a test of its own: the body of a spawned worker.
#[test]
fn play_a_worker() {
    if let Ok(mode) = std::env::var("HOSTILE") {
        std::process::exit(hostile::run(&mode));
    }
}

struct World {
    workers: Workers,
    events: Receiver<WorkerEvent>,
    folder: tempfile::TempDir,
    binary: Arc<Binary>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let epochs = Arc::new(AtomicU64::new(100));
        let config = WorkersConfig {
            boot_id: Id::now(),
            crash_dir: folder.path().join("crash"),
            next_epoch: Arc::new(move |_| {
                let epoch = epochs.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move { Ok(epoch) })
            }),
            adopt_orphans: false,
            held: Default::default(),
        };
        let (workers, events) = Workers::start(config, Default::default()).unwrap();
        let binary = Arc::new(Binary::open(&std::env::current_exe().unwrap()).unwrap());
        Self { workers, events, folder, binary }
    }

    fn spec(&self, agent: &str, mode: &str) -> WorkerSpec {
        let config = WorkerConfig {
            config_json: format!("{{\"agent\":\"{agent}\"}}"),
            paths: WorkerPaths {
                state_dir: "/nowhere".into(),
                workspace: String::new(),
                config_path: String::new(),
                home: String::new(),
            },
            tool_env: BTreeMap::new(),
            version: "0".into(),
        };
        WorkerSpec {
            id: WorkerId::agent(agent),
            binary: self.binary.clone(),
            args: ["--exact", "worker::tests::play_a_worker", "--nocapture"].map(String::from).into(),
            provide: Arc::new(move || {
                let config = config.clone();
                Box::pin(async move {
                    Ok(Provision { config, secrets: SecretMap::default(), cursors: BTreeMap::new() })
                })
            }),
            keep_warm: false,
            idle_stop_ms: None,
            isolation: Isolation::BestEffort,
            policy: None,
            log_level: "info".into(),
            env: [("HOSTILE".to_owned(), mode.to_owned())].into(),
            proxies: SecretMap::default(),
            failpoints: String::new(),
            fingerprint: 1,
            told: 1,
        }
    }

    async fn until<T>(&mut self, mut pick: impl FnMut(&WorkerEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("workers live");
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the event in time")
    }

    async fn down(&mut self, agent: &str) -> ExitClass {
        let id = WorkerId::agent(agent);
        self.until(|event| match event.kind {
            WorkerEventKind::Down { class } if event.worker == id => Some(class),
            _ => None,
        })
        .await
    }

    async fn state(&self, agent: &str, wanted: State) -> WorkerStatus {
        let begin = Instant::now();
        loop {
            let status = self.workers.status_of(&WorkerId::agent(agent)).expect("a worker");
            if status.state == wanted {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{agent} is {status:?}, not {wanted:?}");
            tokio::task::yield_now().await;
        }
    }

    async fn echo(&self, agent: &str) -> String {
        let call =
            RpcCall { method: "echo".into(), params_json: "{\"a\":1}".into(), protocol: 4, client: None };
        let answer = self.workers.request(&WorkerId::agent(agent), SupToAgent::Rpc(call), 10_000).await;
        let (code, payload) = answer.unwrap();
        match AgentToSup::decode(code, &payload).unwrap() {
            AgentToSup::RpcResult(result) => result.ok_json.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn end(mut self) {
        let workers = self.workers.clone();
        let stop = tokio::spawn(async move { workers.stop_all(None, Duration::from_secs(20)).await });
        while !stop.is_finished() {
            let _ = tokio::time::timeout(Duration::from_millis(10), self.events.recv()).await;
        }
        assert_eq!(stop.await.unwrap(), []);
    }
}

fn reports(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("crash")) else { return Vec::new() };
    entries.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect()
}

async fn report_with(folder: &Path, text: &str) {
    let begin = Instant::now();
    while !reports(folder).iter().any(|report| report.contains(text)) {
        assert!(begin.elapsed() < Duration::from_secs(10), "no report with {text}: {:?}", reports(folder));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_worker_starts_when_wanted_answers_restarts_and_stops() {
    let mut world = World::new();
    world.workers.apply(vec![world.spec("main", "good")]);
    let id = WorkerId::agent("main");
    assert!(matches!(
        world.workers.try_send(&id, SupToAgent::FinalAck(proto::wire::agent::FinalAck { run_id: Id::NIL })),
        Err(Refusal::NotUp(_))
    ));
    let first = world.workers.ensure_started(id.clone()).await.unwrap();
    let ready = world
        .until(|event| match &event.kind {
            WorkerEventKind::Up { ready } => Some(ready.clone()),
            _ => None,
        })
        .await;
    assert_eq!(ready, "{\"agent\":\"main\"}");
    assert_eq!(world.echo("main").await, "{\"a\":1}");
    assert_eq!(world.workers.ensure_started(id.clone()).await, Ok(first), "it runs already");
    world.workers.restart(&id).unwrap();
    assert_eq!(world.down("main").await, ExitClass::Asked);
    let second = world.workers.ensure_started(id.clone()).await.unwrap();
    assert!(second > first, "a new start has a new epoch");
    world.workers.stop(&id).unwrap();
    assert_eq!(world.down("main").await, ExitClass::Asked);
    world.state("main", State::Idle).await;
    assert!(reports(world.folder.path()).is_empty(), "a wanted end is no crash");
    world.end().await;
}

#[tokio::test]
async fn a_kill_from_outside_is_answered_at_once_and_not_held_against_it() {
    let mut world = World::new();
    world.workers.apply(vec![WorkerSpec { keep_warm: true, ..world.spec("main", "good") }]);
    for round in 0..3 {
        let status = world.state("main", State::Ready).await;
        let pid = nix::unistd::Pid::from_raw(status.pid.unwrap() as i32);
        let begin = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(world.down("main").await, ExitClass::KilledOutside);
        world.until(|event| matches!(event.kind, WorkerEventKind::Up { .. }).then_some(())).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "round {round} took {:?}", begin.elapsed());
    }
    let status = world.state("main", State::Ready).await;
    assert_eq!((status.restarts, status.why), (3, None));
    world.end().await;
}

#[tokio::test]
async fn exit_codes_decide_what_is_next() {
    let mut world = World::new();
    let warm = |spec: WorkerSpec| WorkerSpec { keep_warm: true, ..spec };
    world.workers.apply(vec![
        warm(world.spec("config", "exit:78")),
        warm(world.spec("login", "exit:77")),
        warm(world.spec("old", "old-release")),
        world.spec("missing", "good"),
    ]);
    let config = world.state("config", State::Quarantined).await;
    assert_eq!(config.why.as_deref(), Some("config"));
    world.state("login", State::NeedsLogin).await;
    let old = world.state("old", State::Quarantined).await;
    assert_eq!(old.why.as_deref(), Some("version skew: restart the gateway"));
    let ensure = world.workers.ensure_started(WorkerId::agent("config")).await;
    assert!(matches!(&ensure, Err(error) if error.is_final()), "{ensure:?}");
    // A changed configuration ends the quarantine; what is no longer wanted goes.
    world.workers.apply(vec![warm(WorkerSpec { fingerprint: 2, ..world.spec("config", "good") })]);
    world.until(|event| matches!(event.kind, WorkerEventKind::Up { .. }).then_some(())).await;
    assert_eq!(world.echo("config").await, "{\"a\":1}");
    world.end().await;
}

#[tokio::test]
async fn a_hostile_worker_dies_and_its_sibling_does_not_notice() {
    let mut world = World::new();
    let modes = [
        "oversize",
        "unknown-class",
        "wrong-direction",
        "garbage-payload",
        "trailing-bytes",
        "replayed-corr",
        "foreign-corr",
        "forged-credit",
        "control-flood",
        "wrong-epoch",
        "abort",
    ];
    let mut specs = vec![world.spec("good", "good")];
    specs.extend(modes.iter().map(|mode| world.spec(mode, mode)));
    world.workers.apply(specs);
    let epoch = world.workers.ensure_started(WorkerId::agent("good")).await.unwrap();
    for mode in modes {
        let workers = world.workers.clone();
        let ensure = tokio::spawn(async move { workers.ensure_started(WorkerId::agent(mode)).await });
        let class = world.down(mode).await;
        assert_eq!(class, ExitClass::Crash, "{mode}");
        ensure.abort();
        assert_eq!(world.echo("good").await, "{\"a\":1}", "after {mode}");
    }
    assert_eq!(world.workers.ensure_started(WorkerId::agent("good")).await, Ok(epoch));
    report_with(world.folder.path(), "frame of 67108864 bytes is over the limit").await;
    report_with(world.folder.path(), "\"number\": 6").await;
    world.end().await;
}

#[tokio::test]
async fn a_worker_that_ignores_its_credit_is_killed_even_while_the_core_is_busy() {
    let mut world = World::new();
    world.workers.apply(vec![world.spec("evil", "credit-overrun")]);
    let epoch = world.workers.ensure_started(WorkerId::agent("evil")).await.unwrap();
    // Nothing is taken from the events: they fill, then the link's window, then the rule is broken.
    world.state("evil", State::Killing).await;
    assert_eq!(world.down("evil").await, ExitClass::Crash);
    assert!(epoch >= 100);
    report_with(world.folder.path(), "more than its credit").await;
    world.end().await;
}

#[tokio::test]
async fn slow_writes_and_messages_of_a_newer_release_are_no_crime() {
    let mut world = World::new();
    world.workers.apply(vec![world.spec("slow", "one-byte-writes"), world.spec("newer", "unknown-code")]);
    world.workers.ensure_started(WorkerId::agent("slow")).await.unwrap();
    world.workers.ensure_started(WorkerId::agent("newer")).await.unwrap();
    let text = world
        .until(|event| match &event.kind {
            WorkerEventKind::Message { message: FromWorker::Agent(AgentToSup::RunStarted(run)), .. } => {
                Some(run.session_id.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(text, "slow");
    world.state("newer", State::Ready).await;
    world.end().await;
}

#[tokio::test]
async fn silence_instead_of_a_greeting_ends_at_the_deadline() {
    let mut world = World::new();
    world.workers.apply(vec![world.spec("half", "half-hello")]);
    let workers = world.workers.clone();
    let ensure = tokio::spawn(async move { workers.ensure_started(WorkerId::agent("half")).await });
    assert_eq!(world.down("half").await, ExitClass::Crash);
    report_with(world.folder.path(), "startDeadline").await;
    ensure.abort();
    world.end().await;
}

#[tokio::test]
async fn a_stopped_process_is_killed_when_it_does_not_obey() {
    let mut world = World::new();
    world.workers.apply(vec![world.spec("stuck", "stopped")]);
    world.workers.ensure_started(WorkerId::agent("stuck")).await.unwrap();
    let begin = Instant::now();
    world.workers.stop(&WorkerId::agent("stuck")).unwrap();
    assert_eq!(world.down("stuck").await, ExitClass::Asked);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    world.end().await;
}

#[tokio::test]
async fn an_executable_that_cannot_run_is_tried_again_later() {
    let world = World::new();
    let path = world.folder.path().join("not-a-program");
    std::fs::write(&path, "").unwrap();
    let binary = Arc::new(Binary::open(&path).unwrap());
    world.workers.apply(vec![WorkerSpec { binary, keep_warm: true, ..world.spec("main", "good") }]);
    let status = world.state("main", State::Backoff).await;
    assert!(status.why.unwrap().contains("could not be run"));
    assert!(Binary::open(&world.folder.path().join("nothing")).is_err());
    world.end().await;
}

#[test]
fn a_short_run_returns_what_it_printed() {
    let sh = Binary::open(Path::new("/bin/sh")).unwrap();
    let run = |script: &str, limit| {
        run_to_end(&sh, &["-c", script], &BTreeMap::new(), b"hello", Duration::from_millis(limit))
    };
    let output = run("cat; echo oops >&2; exit 3", 10_000).unwrap();
    assert_eq!(
        (output.code, &output.stdout[..], &output.stderr[..]),
        (Some(3), &b"hello"[..], &b"oops\n"[..])
    );
    assert_eq!(run("sleep 60", 50).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}
