//! The composition root of the worker: brings the link up, builds every part once, serves messages until it is told to
//! stop.
//!
//! ```text
//! begin → spawner → runtime → Hello/Welcome → sessions → Ready → serve
//! ```
//! One task per run; RPCs run beside them. Nothing here decides about a run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::runtime::dump;
use proto::runtime::failpoint;
use proto::runtime::link::{LinkEvent, LinkHandle};
use proto::runtime::shutdown::Hooks;
use proto::runtime::worker_start::{self, Greeted, StartError, Started};
use proto::wire::agent::{
    AgentToSup, AskGateway, FinalAck, RpcCall, RpcResult, RunFinal, RunSpec, Steered, SupToAgent,
};
use proto::wire::handshake::{Isolation, SecretMap, WorkerConfig, WorkerKind};
use proto::wire::{Id, Wire, WireError};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{Active, Agent, Parts, Upstream};
use crate::canary;
use crate::prompt;
use crate::session::sessions::{SessionError, Sessions};
use crate::setup::Setup;
use crate::tool::BoxFuture;
use crate::tool::confined::{self, Confinement};
use crate::tool::registry::Registry;
use crate::tool::running::{ExitNotice, Table};
use crate::tool::spawner::Spawner;
use crate::turn::control::{self, Reins, SHUTDOWN};
use crate::turn::{driver, upkeep};

/// Threads that may block on files at once.
const BLOCKING_THREADS_MAX: usize = 8;
/// A blocking thread that has had nothing to do for this long gives its stack back.
const BLOCKING_IDLE: Duration = Duration::from_secs(5);
/// An end of a run that is not acknowledged is told again after this long; the link itself loses nothing, but the
/// supervisor may have been unable to store it.
const FINAL_AGAIN: Duration = Duration::from_secs(5);
/// From the order to stop to the end of the process, when runs do not end by themselves.
const STOP_GRACE: Duration = Duration::from_millis(2_500);
/// From SIGTERM to the end of commands in the background; their guards need half of it.
const COMMANDS_GRACE: Duration = Duration::from_secs(1);
/// From the end of the runs to the end of the last write of the session store.
const FLUSH_GRACE: Duration = Duration::from_millis(500);
/// Notices of background commands that may wait.
const NOTICES_WAITING_MAX: usize = 64;
/// Methods that are being answered at once; further ones are refused.
const RPC_AT_ONCE_MAX: usize = 64;

/// Why the worker ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot open the sessions: {0}")]
    Sessions(#[from] SessionError),
    #[error("cannot set up the process: {0}")]
    Io(#[from] std::io::Error),
    #[error("worker id {0} names no agent")]
    NotAnAgent(String),
}

impl WorkerError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit_code(),
            Self::Sessions(_) | Self::Io(_) => worker_start::EXIT_TEMPORARY,
            Self::NotAnAgent(_) => worker_start::EXIT_PROTOCOL,
        }
    }
}

/// The worker's `main`, without arguments.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openclaw-agent: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn start() -> Result<(), WorkerError> {
    let hooks = Hooks { last: Box::new(kill_children), ..Hooks::default() };
    let started = worker_start::begin(WorkerKind::Agent, hooks)?;
    crate::provider::proxies::install(started.bootstrap.proxies.clone());
    if let Some(policy) = started.bootstrap.policy.as_ref().and_then(|policy| policy.tool.clone()) {
        let enforce = started.bootstrap.isolation != Isolation::Off;
        confined::install(Confinement { policy, enforce })?;
    }
    let spawner = Spawner::start(PathBuf::from("/proc/self/exe"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_IDLE)
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(started, spawner));
    runtime.shutdown_timeout(Duration::from_millis(500));
    kill_children();
    result
}

/// Everything that tools started and that still lives.
fn kill_children() {
    let own = std::process::id();
    // The keeper ends with this process, and would take it along.
    let keeper = proto::runtime::confine::attributes::keeper();
    let all = || {
        let children = crate::tool::tree::children(own);
        children.into_iter().filter(|pid| Some(*pid) != keeper).collect::<Vec<u32>>()
    };
    crate::tool::tree::kill_until_empty(all, Duration::from_secs(1));
}

async fn run(started: Started, spawner: Spawner) -> Result<(), WorkerError> {
    let greeted = started.greet().await?;
    let id = &greeted.bootstrap.worker_id;
    let agent_id = id.agent_id().ok_or_else(|| WorkerError::NotAnAgent(id.to_string()))?.to_owned();
    let up = Arc::new(LinkUp(greeted.link.clone()));
    let active = activate(&agent_id, &greeted.welcome.config, &greeted.welcome.secrets).await;
    let paths = active.setup.paths.clone();
    let sessions = Sessions::open(paths.sessions.clone(), crate::clock::now_ms()).await?;
    let (notices, notice_events) = mpsc::channel(NOTICES_WAITING_MAX);
    prompt::seed::open(paths.workspace.clone(), active.setup.skips_seeding()).await?;
    let agent = Arc::new(Agent::new(Parts {
        active,
        sessions,
        registry: Registry::of_all(),
        up,
        commands: Arc::new(Table::new(spawner, notices)),
    }));
    greeted.ready("").map_err(StartError::from)?;
    failpoint::hit("ag.up");
    let worker = Worker {
        agent_id,
        agent,
        link: greeted.link.clone(),
        runs: Arc::default(),
        tasks: JoinSet::new(),
        rpcs: JoinSet::new(),
        draining: false,
        stopping: CancellationToken::new(),
        resting: CancellationToken::new(),
    };
    worker.serve(greeted, notice_events).await;
    Ok(())
}

async fn activate(agent_id: &str, config: &WorkerConfig, secrets: &SecretMap) -> Active {
    let (id, config, secrets) = (agent_id.to_owned(), config.clone(), secrets.clone());
    // Reads the auth profiles.
    let made = tokio::task::spawn_blocking(move || {
        let setup = Setup::new(&id, &config, &secrets);
        canary::init(&setup);
        setup
    })
    .await;
    let setup = match made {
        Ok(setup) => setup,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    Active { models: Arc::new(setup.models.clone()), setup: Arc::new(setup) }
}

/// The link as runs see it.
struct LinkUp(LinkHandle);

impl Upstream for LinkUp {
    fn send(&self, message: AgentToSup) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(refusal) = self.0.send(&message).await {
                tracing::warn!(%refusal, code = message.code(), "the supervisor did not take a message");
            }
        })
    }

    fn send_lossy(&self, message: AgentToSup) {
        // Refused only when the link is closed, and then nobody listens.
        drop(self.0.send_lossy(message));
    }

    fn progressed(&self) {
        self.0.progressed();
    }

    fn ask(&self, call: AskGateway, deadline_ms: u64) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(async move {
            let asked = self.0.request(&AgentToSup::AskGateway(call), deadline_ms).await;
            let (code, payload) = asked.map_err(|error| format!("the gateway did not answer: {error}"))?;
            match SupToAgent::decode(code, &payload) {
                Ok(SupToAgent::Asked(RpcResult { error: Some(error), .. })) => Err(error.message),
                Ok(SupToAgent::Asked(RpcResult { ok_json: Some(text), .. })) => {
                    serde_json::from_str(&text).map_err(|error| format!("unreadable answer: {error}"))
                }
                _ => Err("the gateway's answer was not understood".to_owned()),
            }
        })
    }
}

/// A run that was started here and is not yet acknowledged.
struct Known {
    reins: Reins,
    acked: Arc<Notify>,
}

type Runs = Arc<Mutex<HashMap<Id, Known>>>;

struct Worker {
    agent_id: String,
    agent: Arc<Agent>,
    link: LinkHandle,
    runs: Runs,
    tasks: JoinSet<()>,
    rpcs: JoinSet<()>,
    draining: bool,
    stopping: CancellationToken,
    /// No upkeep of sessions any more: the worker is to end.
    resting: CancellationToken,
}

enum Flow {
    Go,
    Stop,
}

impl Worker {
    async fn serve(mut self, greeted: Greeted, mut notices: mpsc::Receiver<ExitNotice>) {
        let Greeted { mut events, mut stop, .. } = greeted;
        loop {
            let flow = tokio::select! {
                event = events.recv() => self.on_event(event).await,
                () = stop.asked() => Flow::Stop,
                Some(notice) = notices.recv() => {
                    self.agent.notice(&notice.session_key, notice.text);
                    Flow::Go
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => self.after_run(),
                Some(_) = self.rpcs.join_next(), if !self.rpcs.is_empty() => Flow::Go,
            };
            if matches!(flow, Flow::Stop) {
                break;
            }
        }
        self.stop().await;
    }

    fn after_run(&self) -> Flow {
        self.vitals();
        if self.draining && self.tasks.is_empty() { Flow::Stop } else { Flow::Go }
    }

    fn vitals(&self) {
        self.link.vitals().set_inflight(u32::try_from(self.tasks.len()).unwrap_or(u32::MAX));
    }

    async fn on_event(&mut self, event: Option<LinkEvent>) -> Flow {
        match event {
            Some(LinkEvent::Message { code, corr, payload, .. }) => {
                self.on_message(code, corr, &payload).await
            }
            Some(LinkEvent::Closed { why }) => {
                tracing::info!(%why, "link closed");
                Flow::Stop
            }
            None => Flow::Stop,
            Some(_) => Flow::Go,
        }
    }

    async fn on_message(&mut self, code: u16, corr: u64, payload: &Bytes) -> Flow {
        let message = match SupToAgent::decode(code, payload) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, "message not understood");
                if corr != 0 {
                    drop(self.link.reply_error(corr, WireError::new("UNSUPPORTED", error.to_string())));
                }
                return Flow::Go;
            }
        };
        match message {
            SupToAgent::StartRun(spec) => self.start_run(spec),
            SupToAgent::Steer(steer) => {
                let taken = self.with(steer.run_id, |known| known.reins.steer(steer.input)).unwrap_or(false);
                self.reply(corr, Steered { taken }.into());
            }
            SupToAgent::AbortRun(abort) => {
                if self.with(abort.run_id, |known| known.reins.stop(&abort.why)).is_none() {
                    tracing::debug!(run = %abort.run_id, "nothing to abort");
                }
            }
            SupToAgent::FinalAck(FinalAck { run_id }) => {
                if let Some(known) = locked(&self.runs).remove(&run_id) {
                    known.acked.notify_one();
                }
            }
            SupToAgent::Rpc(call) => self.rpc(corr, call),
            SupToAgent::ConfigDelta(delta) => {
                proto::runtime::telemetry::set_level_of(&delta.config.config_json);
                let active = activate(&self.agent_id, &delta.config, &delta.secrets).await;
                self.agent.configure(active);
                if corr != 0 {
                    drop(self.link.reply(corr, &proto::wire::control::LinkControl::Done(Default::default())));
                }
            }
            SupToAgent::Drain(_) => {
                self.draining = true;
                self.resting.cancel();
                return self.after_run();
            }
            // Answers reach who asked, not here.
            SupToAgent::Asked(_) => {}
            SupToAgent::Shutdown(_) => return Flow::Stop,
        }
        Flow::Go
    }

    fn with<T>(&self, run_id: Id, act: impl FnOnce(&Known) -> T) -> Option<T> {
        locked(&self.runs).get(&run_id).map(act)
    }

    fn reply(&self, corr: u64, message: AgentToSup) {
        if corr != 0
            && let Err(refusal) = self.link.reply(corr, &message)
        {
            tracing::warn!(%refusal, "reply not taken");
        }
    }

    fn start_run(&mut self, spec: RunSpec) {
        let run_id = spec.run_id;
        let (reins, control) = control::pair();
        let acked = Arc::new(Notify::new());
        {
            let mut runs = locked(&self.runs);
            if runs.contains_key(&run_id) {
                tracing::warn!(run = %run_id, "a run that is already known was started again; ignored");
                return;
            }
            runs.insert(run_id, Known { reins, acked: acked.clone() });
        }
        let (agent, link, runs) = (self.agent.clone(), self.link.clone(), self.runs.clone());
        let (stopping, resting) = (self.stopping.clone(), self.resting.clone());
        let key = spec.session_key.clone();
        let shown = dump::Task::begin(format!("run {run_id}"));
        self.tasks.spawn(async move {
            let _shown = shown;
            match driver::execute(agent.clone(), spec, control).await {
                Some(done) => {
                    let told = done.clone();
                    tell_until_acked(&link, done, &acked, &stopping).await;
                    upkeep::after_turn(&agent, &told, &key, resting).await;
                }
                None => drop(locked(&runs).remove(&run_id)),
            }
        });
        self.vitals();
    }

    fn rpc(&mut self, corr: u64, call: RpcCall) {
        if self.rpcs.len() >= RPC_AT_ONCE_MAX {
            drop(
                self.link.reply_error(corr, WireError::unavailable("the agent is busy with other requests")),
            );
            return;
        }
        let (agent, link) = (self.agent.clone(), self.link.clone());
        self.rpcs.spawn(async move {
            let result = match crate::rpc::answer(&agent, &call).await {
                Ok(value) => RpcResult { ok_json: Some(value.to_string()), error: None },
                Err(error) => RpcResult { ok_json: None, error: Some(error) },
            };
            if corr != 0
                && let Err(refusal) = link.reply_when_room(corr, &AgentToSup::RpcResult(result)).await
            {
                tracing::warn!(%refusal, method = call.method, "result not taken");
            }
        });
    }

    /// Runs stop where they are and go on in the next process; what they wrote stays.
    async fn stop(mut self) {
        for known in locked(&self.runs).values() {
            known.reins.stop(SHUTDOWN);
        }
        self.stopping.cancel();
        self.resting.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
            tracing::warn!("runs did not stop in time; they go on from their transcripts");
        }
        self.tasks.abort_all();
        self.rpcs.abort_all();
        let stored = tokio::time::timeout(FLUSH_GRACE, self.agent.sessions.flush()).await;
        if !matches!(stored, Ok(Ok(()))) {
            tracing::error!(?stored, "the session store is behind");
        }
        // Ends commands in the background with a SIGTERM first; what is left dies with this process.
        let _killed_later = tokio::time::timeout(COMMANDS_GRACE, self.agent.commands.kill_all()).await;
        let flushed = tokio::time::timeout(Duration::from_millis(500), self.link.flush());
        if flushed.await.is_err() {
            tracing::debug!("the supervisor no longer reads");
        }
        self.link.close();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the end of a run until the journal has it, or the link is gone: then the transcript tells it again.
async fn tell_until_acked(link: &LinkHandle, done: RunFinal, acked: &Notify, stopping: &CancellationToken) {
    let message = AgentToSup::RunFinal(done);
    while !link.is_closed() {
        if let Err(refusal) = link.send(&message).await {
            tracing::warn!(%refusal, "the end of a run was not taken");
        }
        failpoint::hit("ag.final.sent");
        tokio::select! {
            () = acked.notified() => return,
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(FINAL_AGAIN) => {}
        }
    }
}
