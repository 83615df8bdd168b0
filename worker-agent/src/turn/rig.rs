//! Test rig: an agent with a scripted model and a scripted tool, on a temporary state directory. No process, no network.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use proto::wire::Id;
use proto::wire::agent::{
    AgentToSup, AskGateway, Origin, OriginKind, RunEvent, RunFinal, RunInput, RunOverrides, RunSpec,
};
use proto::wire::handshake::{SecretMap, WorkerConfig, WorkerPaths};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::control::{self, Reins};
use super::driver;
use super::source::{ModelFacts, ModelSource};
use crate::agent::{Active, Agent, Parts, Upstream};
use crate::provider::select::{ModelRef, SelectError};
use crate::provider::types::StopReason;
use crate::provider::{EventStream, ModelRequest, ProviderError, ProviderEvent, Reason, RetryBudget};
use crate::session::sessions::Sessions;
use crate::setup::Setup;
use crate::tool::registry::Registry;
use crate::tool::running::Table;
use crate::tool::spawner::Spawner;
use crate::tool::{BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome};

pub const KEY: &str = "agent:main:main";

/// One reply of the scripted model.
#[derive(Clone, Debug)]
pub enum Line {
    Text(&'static str),
    /// A text, then calls of the scripted tool by id.
    Calls(&'static str, &'static [&'static str]),
    /// A text, then a failure.
    Fails(&'static str, Reason),
    /// A text, then nothing until the run is stopped.
    Hangs(&'static str),
    /// Like `Text`, but `until` is notified first: the test acts between.
    Waits(Arc<Notify>, &'static str),
    /// The code that talks to the model has a bug.
    Panics,
}

/// Answers by a script and keeps what it was asked.
#[derive(Default)]
pub struct Script {
    lines: Mutex<VecDeque<Line>>,
    pub asked: Mutex<Vec<ModelRequest>>,
    pub models: Mutex<Vec<String>>,
    /// Notified when the first piece of a reply was taken.
    pub spoke: Arc<Notify>,
}

impl Script {
    pub fn of(lines: impl IntoIterator<Item = Line>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::new(lines.into_iter().collect()), ..Self::default() })
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Texts of the messages of one request, with the first letter of their role.
    pub fn conversation(&self, request: usize) -> Vec<String> {
        use crate::provider::types::{Message, joined_text};
        self.asked.lock().unwrap()[request]
            .messages
            .iter()
            .map(|message| match message {
                Message::User(user) => format!("u:{}", user.content.text()),
                Message::Assistant(answer) => format!("a:{}", joined_text(&answer.content)),
                Message::ToolResult(result) => format!("t:{}", joined_text(&result.content)),
            })
            .collect()
    }
}

impl ModelSource for Script {
    fn chain(&self, requested: Option<&str>) -> Result<Vec<ModelRef>, SelectError> {
        let first = requested.unwrap_or("script/one");
        let (provider, id) = first.split_once('/').ok_or(SelectError::Empty)?;
        let of = |provider: &str, id: &str| ModelRef { provider: provider.into(), id: id.into() };
        Ok(vec![of(provider, id), of("script", "two")])
    }

    fn facts(&self, wanted: &ModelRef) -> Result<ModelFacts, SelectError> {
        Ok(ModelFacts {
            provider: wanted.provider.clone(),
            id: wanted.id.clone(),
            api: "scripted".into(),
            context_window: 100_000,
            ..ModelFacts::default()
        })
    }

    fn permitted(&self, text: &str) -> Result<ModelRef, SelectError> {
        let (provider, id) = text.split_once('/').ok_or(SelectError::Empty)?;
        Ok(ModelRef { provider: provider.into(), id: id.into() })
    }

    fn stream(
        &self,
        wanted: &ModelRef,
        request: ModelRequest,
        _budget: &RetryBudget,
        cancel: CancellationToken,
    ) -> EventStream {
        self.asked.lock().unwrap().push(request);
        self.models.lock().unwrap().push(wanted.to_string());
        let line = self.lines.lock().unwrap().pop_front().unwrap_or(Line::Text("nothing more to say"));
        let (wanted, spoke) = (wanted.clone(), self.spoke.clone());
        Box::pin(futures_util::stream::once(async move { play(line, wanted, spoke, cancel).await }).flatten())
    }
}

async fn play(line: Line, wanted: ModelRef, spoke: Arc<Notify>, cancel: CancellationToken) -> EventStream {
    let usage =
        crate::provider::types::Usage { input: 10, output: 5, total_tokens: 15, ..Default::default() };
    let text = |text: &str| Ok(ProviderEvent::TextDelta { text: text.to_owned() });
    let done = |stop_reason| Ok(ProviderEvent::Done { stop_reason });
    let error = move |reason| Err(ProviderError::new(reason, &wanted.provider, &wanted.id, "scripted"));
    let events: Vec<Result<ProviderEvent, ProviderError>> = match line {
        Line::Text(words) => vec![text(words), Ok(ProviderEvent::Usage(usage)), done(StopReason::Stop)],
        Line::Waits(until, words) => {
            spoke.notify_one();
            until.notified().await;
            vec![text(words), done(StopReason::Stop)]
        }
        Line::Calls(words, ids) => {
            let calls = ids.iter().enumerate().map(|(index, id)| {
                Ok(ProviderEvent::ToolCallEnd {
                    index,
                    id: (*id).to_owned(),
                    name: "probe".into(),
                    arguments: json!({"id": id}),
                    thought_signature: None,
                })
            });
            std::iter::once(text(words)).chain(calls).chain([done(StopReason::ToolUse)]).collect()
        }
        Line::Fails(words, reason) => vec![text(words), error(reason)],
        Line::Panics => panic!("scripted"),
        Line::Hangs(words) => {
            let first = futures_util::stream::iter([text(words)]);
            let rest = futures_util::stream::once(async move {
                spoke.notify_one();
                cancel.cancelled().await;
                error(Reason::Cancelled)
            });
            return Box::pin(first.chain(rest));
        }
    };
    Box::pin(futures_util::stream::iter(events))
}

/// The scripted tool: `id` decides what it does.
pub struct Probe {
    pub ran: Arc<Mutex<Vec<String>>>,
    pub started: Arc<Notify>,
    /// The call `gate` waits for it.
    pub gate: Arc<Notify>,
    pub effect: Effect,
}

impl Tool for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn description(&self) -> String {
        "Test tool".into()
    }

    fn schema(&self) -> Value {
        json!({"type": "object", "properties": {"id": {"type": "string"}}})
    }

    fn effect(&self, _args: &Value) -> Effect {
        self.effect
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            self.ran.lock().unwrap().push(call.id.clone());
            self.started.notify_one();
            match call.id.as_str() {
                "hang" => {
                    env.cancel.cancelled().await;
                    Err(ToolError::Aborted)
                }
                "gate" => {
                    self.gate.notified().await;
                    Ok(ToolOutcome::text("open"))
                }
                "fail" => Err(ToolError::failed("it did not work")),
                id => Ok(ToolOutcome::text(format!("result of {id}"))),
            }
        })
    }
}

/// Keeps everything that goes up.
#[derive(Default)]
pub struct Ear {
    pub heard: Mutex<Vec<AgentToSup>>,
}

impl Upstream for Ear {
    fn send(&self, message: AgentToSup) -> BoxFuture<'_, ()> {
        self.heard.lock().unwrap().push(message);
        Box::pin(async {})
    }

    fn send_lossy(&self, message: AgentToSup) {
        self.heard.lock().unwrap().push(message);
    }

    fn progressed(&self) {}

    fn ask(&self, call: AskGateway, _deadline_ms: u64) -> BoxFuture<'_, Result<Value, String>> {
        self.heard.lock().unwrap().push(AgentToSup::AskGateway(call));
        Box::pin(async { Err("nobody is there to ask".to_owned()) })
    }
}

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub agent: Arc<Agent>,
    pub script: Arc<Script>,
    pub ear: Arc<Ear>,
    pub ran: Arc<Mutex<Vec<String>>>,
    pub tool_started: Arc<Notify>,
    pub gate: Arc<Notify>,
    next: AtomicUsize,
}

impl Rig {
    pub async fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self::with(tempfile::tempdir().unwrap(), lines, json!({}), Effect::Write).await
    }

    /// The same state directory with a new process: what was in memory is gone.
    pub async fn restarted(self, lines: impl IntoIterator<Item = Line>, effect: Effect) -> Self {
        let Self { dir, agent, .. } = self;
        drop(agent);
        Self::with(dir, lines, json!({}), effect).await
    }

    pub async fn with(
        dir: tempfile::TempDir,
        lines: impl IntoIterator<Item = Line>,
        config: Value,
        effect: Effect,
    ) -> Self {
        let workspace = dir.path().join("workspace");
        std::fs::create_dir_all(&workspace).unwrap();
        let worker = WorkerConfig {
            config_json: config.to_string(),
            paths: WorkerPaths {
                state_dir: dir.path().display().to_string(),
                workspace: workspace.display().to_string(),
                config_path: String::new(),
                home: dir.path().display().to_string(),
            },
            tool_env: BTreeMap::new(),
            version: "0.0.0-test".into(),
        };
        let setup = Arc::new(Setup::new("main", &worker, &SecretMap::default()));
        let script = Script::of(lines);
        let ear = Arc::new(Ear::default());
        let ran = Arc::new(Mutex::new(Vec::new()));
        let tool_started = Arc::new(Notify::new());
        let gate = Arc::new(Notify::new());
        let probe = Probe { ran: ran.clone(), started: tool_started.clone(), gate: gate.clone(), effect };
        let (notices, _) = mpsc::channel(1);
        let spawner = Spawner::start(PathBuf::from("/bin/false")).unwrap();
        let agent = Arc::new(Agent::new(Parts {
            sessions: Sessions::open(setup.paths.sessions.clone(), 1).await.unwrap(),
            active: Active { setup, models: script.clone() },
            registry: Registry::of(vec![Arc::new(probe)]),
            up: ear.clone(),
            commands: Arc::new(Table::new(spawner, notices)),
        }));
        Self { dir, agent, script, ear, ran, tool_started, gate, next: AtomicUsize::new(1) }
    }

    /// A run of one message from a web chat.
    pub fn spec(&self, text: &str) -> RunSpec {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        RunSpec {
            run_id: Id::derived(&Id::NIL, "test", u32::try_from(n).unwrap()),
            client_run_id: format!("client-{n}"),
            session_key: KEY.into(),
            agent_id: "main".into(),
            attempt: 1,
            resumes: 0,
            inputs: vec![input(text, i64::try_from(n).unwrap())],
            overrides: RunOverrides::default(),
            origin: Origin {
                kind: OriginKind::Chat,
                channel: "webchat".into(),
                owner: true,
                ..Origin::default()
            },
            active_ms_left: 0,
            parts_done: 0,
            texts_done: Vec::new(),
            delivery: Default::default(),
            system_events: Vec::new(),
        }
    }

    pub fn start(&self, spec: RunSpec) -> (Reins, tokio::task::JoinHandle<Option<RunFinal>>) {
        let (reins, control) = control::pair();
        (reins, tokio::spawn(driver::execute(self.agent.clone(), spec, control)))
    }

    pub async fn run(&self, spec: RunSpec) -> RunFinal {
        let (_reins, task) = self.start(spec);
        task.await.unwrap().unwrap()
    }

    pub async fn say(&self, text: &str) -> RunFinal {
        self.run(self.spec(text)).await
    }

    /// The lines of the session's transcript.
    pub async fn transcript(&self) -> Vec<Value> {
        let entry = self.agent.sessions.entry(KEY).await.unwrap().unwrap();
        let text = std::fs::read_to_string(self.agent.sessions.path_of(KEY, &entry)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Kinds of the lines: role, custom type or type.
    pub async fn shape(&self) -> Vec<String> {
        let word = |line: &Value| {
            let part = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            part("/message/role")
                .or_else(|| part("/customType"))
                .or_else(|| part("/type"))
                .unwrap_or_default()
        };
        self.transcript().await.iter().map(word).collect()
    }

    /// What went up, one word each, deltas of one message joined.
    pub fn told(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for message in self.ear.heard.lock().unwrap().iter() {
            let word = match message {
                AgentToSup::Delta(delta) => {
                    let prefix = format!("delta {}: ", delta.message);
                    match words.last_mut().filter(|last| last.starts_with(&prefix)) {
                        Some(last) => {
                            last.push_str(&delta.text);
                            continue;
                        }
                        None => prefix + &delta.text,
                    }
                }
                AgentToSup::RunStarted(_) => "started".into(),
                AgentToSup::RunEvent(RunEvent { stream, data_json, .. }) => {
                    let data: Value = serde_json::from_str(data_json).unwrap();
                    let call = data["toolCallId"].as_str().map(|id| format!(" {id}")).unwrap_or_default();
                    format!("{stream} {}{call}", data["phase"].as_str().unwrap_or_default())
                }
                AgentToSup::RunStep(_) => continue,
                AgentToSup::SessionChanged(changed) => format!("session {}", changed.reason),
                AgentToSup::MessageAppended(appended) => format!("appended {}", appended.reason),
                other => format!("{other:?}"),
            };
            words.push(word);
        }
        words
    }
}

pub fn input(text: &str, seq: i64) -> RunInput {
    RunInput {
        inbound_seq: seq,
        text: text.into(),
        raw: text.into(),
        ts_ms: 1_770_000_000_000,
        authorised: true,
        ..RunInput::default()
    }
}
