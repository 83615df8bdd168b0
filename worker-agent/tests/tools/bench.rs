//! A workspace, an environment and the calls of a test.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::tool::{
    BoxFuture, GatewaySource, Progress, StatusSource, ToolCall, ToolEnv, ToolOutcome,
    config::ToolSettings,
    registry::Registry,
    running::{ExitNotice, Table},
    spawner::Spawner,
};

/// A wait on a condition that does not come true ends here.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One a process, as in the worker.
pub fn spawner() -> Spawner {
    static ONE: OnceLock<Spawner> = OnceLock::new();
    ONE.get_or_init(|| Spawner::start(PathBuf::from(env!("CARGO_BIN_EXE_openclaw-agent"))).unwrap()).clone()
}

pub struct Bench {
    pub env: ToolEnv,
    pub notices: mpsc::Receiver<ExitNotice>,
    _dir: tempfile::TempDir,
}

struct Card;

impl StatusSource for Card {
    fn card<'a>(&'a self, key: &'a str, model: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            match key {
                "agent:main:other" => Err("no such session".to_owned()),
                _ => Ok(format!("card of {key} with {}", model.unwrap_or("its model"))),
            }
        })
    }
}

/// Tells what it was asked.
struct Asked;

impl GatewaySource for Asked {
    fn ask<'a>(&'a self, method: &'a str, params: Value) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async move { Ok(serde_json::json!({"method": method, "params": params})) })
    }
}

pub fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let workspace = root.join("workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    let vars = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME".to_owned(), root.display().to_string()),
    ]);
    let (sender, notices) = mpsc::channel(8);
    let env = ToolEnv {
        workspace,
        home: Some(root.clone()),
        session_key: "agent:main:main".into(),
        status: Arc::new(Card),
        gateway: Arc::new(Asked),
        settings: Arc::new(ToolSettings::default()),
        env: Arc::new(vars),
        cancel: CancellationToken::new(),
        commands: Arc::new(Table::new(spawner(), sender)),
        process_offered: true,
    };
    Bench { env, notices, _dir: dir }
}

impl Bench {
    pub async fn call(&self, name: &str, args: Value) -> ToolOutcome {
        let call = ToolCall { id: "call-1".into(), name: name.into(), args };
        let registry = Registry::of_all();
        let called = registry.call(call, &self.env, Progress::default());
        Box::pin(tokio::time::timeout(PATIENCE, called)).await.expect("the call ends")
    }

    /// The text of a call that must succeed.
    pub async fn ok(&self, name: &str, args: Value) -> String {
        let outcome = Box::pin(self.call(name, args)).await;
        assert!(!outcome.is_error, "{}", outcome.joined_text());
        outcome.joined_text()
    }

    /// The text of a call that must fail.
    pub async fn err(&self, name: &str, args: Value) -> String {
        let outcome = Box::pin(self.call(name, args)).await;
        assert!(outcome.is_error, "{}", outcome.joined_text());
        outcome.joined_text()
    }

    pub fn settings(&mut self, change: impl FnOnce(&mut ToolSettings)) {
        change(Arc::make_mut(&mut self.env.settings));
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.env.workspace.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn get(&self, name: &str) -> String {
        std::fs::read_to_string(self.env.workspace.join(name)).unwrap()
    }

    /// The pid that a command wrote to a file, once it is there.
    pub async fn pid_in(&self, name: &str) -> u32 {
        let path = self.env.workspace.join(name);
        until("the pid file", || std::fs::read_to_string(&path).ok()?.trim().parse().ok()).await
    }
}

/// Looks until there is an answer.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let look = async {
        let mut every = tokio::time::interval(Duration::from_millis(5));
        loop {
            every.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// A process counts as alive until it is gone or a zombie that someone else has to collect.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None))
}

/// Waits for the end of a process.
pub async fn gone(pid: u32) {
    until("the end of a process", || (!alive(pid)).then_some(())).await;
}
