//! Runs: who may start one, when it starts, what becomes of it. The queue belongs here, the turn to the agent worker.
//!
//! * `queue` and `lanes` are pure rules.
//! * `session` is the task that owns one session's queue and active run.
//! * [`Scheduler`] is the handle that everyone else holds.

mod active;
mod blame;
pub mod carry;
pub mod core;
mod lane_gate;
pub mod lanes;
pub mod outcome;
mod pending;
mod publish;
pub mod queue;
mod runs;
mod session;
pub mod shared;
pub mod stop_words;
pub mod stored;

pub use blame::AloneWait;
pub use lane_gate::LaneGate;

use proto::wire::agent::{Origin, RunError, RunInput, RunOverrides, RunStatus, Target, Usage};
use serde_json::Value;
use shared::Pace;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands waiting for the core. One per client request in flight; a full queue is answered `UNAVAILABLE`.
pub const COMMANDS_MAX: usize = 1024;

/// A message that a client wants answered. Durable before it is acknowledged.
#[derive(Clone, Debug)]
pub struct TurnRequest {
    /// Namespace of the idempotency key: `agent`, `chat.send`, `http`.
    pub method: &'static str,
    /// Becomes the `runId` on the wire.
    pub idempotency_key: String,
    pub agent_id: String,
    pub session_key: String,
    pub input: RunInput,
    pub overrides: RunOverrides,
    pub origin: Origin,
    /// Where the final reply is sent besides the clients.
    pub deliver_to: Option<Target>,
    /// Active time of the run; `None` = `agents.defaults.timeoutSeconds`, 0 = no limit.
    pub timeout_ms: Option<u64>,
    /// Global lane; `main` unless the client says otherwise.
    pub lane: String,
}

/// What became of a [`TurnRequest`].
#[derive(Clone, Debug)]
pub struct Submitted {
    pub run_id: String,
    pub status: SubmitStatus,
    pub accepted_ms: i64,
    /// Follows the run: whole text so far, and the outcome at its end.
    pub progress: watch::Receiver<RunProgress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitStatus {
    /// New: it runs now, or as soon as a lane is free.
    Started,
    /// New, but the session is busy: it waits in the session's queue.
    Queued,
    /// The key is known and its run has not ended.
    InFlight,
    /// The key is known and its run has ended; `progress` holds the outcome.
    Done,
}

#[derive(Clone, Debug, Default)]
pub struct RunProgress {
    pub started_ms: Option<i64>,
    /// All visible text of the run so far, messages joined by a blank line.
    pub text: Arc<str>,
    pub outcome: Option<Arc<RunOutcome>>,
}

/// How a run ended, as clients are told.
#[derive(Clone, Debug, Default)]
pub struct RunOutcome {
    pub status: RunStatus,
    pub text: String,
    pub payloads: Vec<String>,
    pub error: Option<RunError>,
    pub stop_reason: Option<String>,
    pub usage: Usage,
    /// `result.meta` of method `agent`.
    pub meta: Value,
    pub started_ms: i64,
    pub ended_ms: i64,
}

/// Answer of [`Scheduler::wait`] (method `agent.wait`).
#[derive(Clone, Debug)]
pub enum WaitOutcome {
    Ended(Arc<RunOutcome>),
    /// The wait expired; the run goes on or is not known.
    Expired,
}

#[derive(Clone, Debug, Default)]
pub struct Aborted {
    pub aborted: bool,
    pub run_ids: Vec<String>,
}

/// What `status` shows of runs, from memory.
#[derive(Clone, Debug, Default)]
pub struct SchedulerStatus {
    pub active: Vec<ActiveRun>,
    pub queued: usize,
    pub draining: bool,
    /// Runs that wait for another one's time alone with their agent's worker.
    pub waits: Vec<blame::AloneWait>,
}

#[derive(Clone, Debug)]
pub struct ActiveRun {
    pub run_id: String,
    pub session_key: String,
    pub agent_id: String,
    pub started_ms: i64,
    pub attempt: u32,
}

/// Why the scheduler did not take a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("gateway is busy: too many requests are waiting; retry shortly")]
    Busy,
    #[error("gateway draining for restart")]
    Draining,
    #[error("agent \"{0}\" is not configured; add it to agents.list or use one of: {1}")]
    UnknownAgent(String, String),
    #[error("run {run_id} does not belong to session {session_key}")]
    ForeignRun { run_id: String, session_key: String },
    #[error("journal cannot store messages now ({0}); nothing was accepted")]
    Journal(String),
    #[error("idempotency key \"{0}\" was used with other parameters")]
    KeyReused(String),
}

/// Commands to the core's scheduler.
#[derive(Debug)]
pub enum Command {
    Submit(Box<TurnRequest>, oneshot::Sender<Result<Submitted, Refusal>>),
    Follow(String, oneshot::Sender<Option<watch::Receiver<RunProgress>>>),
    Abort {
        session_key: String,
        run_id: Option<String>,
        why: &'static str,
        reply: oneshot::Sender<Result<Aborted, Refusal>>,
    },
    Status(oneshot::Sender<SchedulerStatus>),
    SystemEvent {
        session_key: String,
        text: String,
        wake: bool,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Forget what waits for this session (reset, delete); an active run is aborted, and has ended at the answer.
    ClearSession {
        session_key: String,
        reply: oneshot::Sender<()>,
    },
    /// A dead letter waits in its session's queue again.
    Revive(i64),
    /// The outbox of this account (`<channel>:<account>`) has new rows.
    Deliver(String),
    Pace(Pace, oneshot::Sender<()>),
}

/// Handle of the scheduler. Cheap to clone; every verb is bounded.
#[derive(Clone, Debug)]
pub struct Scheduler {
    commands: mpsc::Sender<Command>,
}

impl Scheduler {
    pub fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(make(reply)).map_err(|_| Refusal::Busy)?;
        answer.await.map_err(|_| Refusal::Draining)
    }

    /// Accepts a message. When this returns `Ok`, the journal holds it.
    pub async fn submit(&self, request: TurnRequest) -> Result<Submitted, Refusal> {
        self.ask(|reply| Command::Submit(Box::new(request), reply)).await?
    }

    /// Follows a run by the id that clients know; `None` when it is not known (any more).
    pub async fn follow(&self, run_id: &str) -> Option<watch::Receiver<RunProgress>> {
        self.ask(|reply| Command::Follow(run_id.to_owned(), reply)).await.ok().flatten()
    }

    /// Waits for the end of a run, at most `timeout_ms`; an unknown run waits the whole time. Never stops the run.
    pub async fn wait(&self, run_id: &str, timeout_ms: u64) -> WaitOutcome {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(timeout_ms);
        let Some(mut progress) = self.follow(run_id).await else {
            tokio::time::sleep_until(deadline).await;
            return WaitOutcome::Expired;
        };
        let ended = progress.wait_for(|progress| progress.outcome.is_some());
        match tokio::time::timeout_at(deadline, ended).await {
            Ok(Ok(progress)) => match &progress.outcome {
                Some(outcome) => WaitOutcome::Ended(outcome.clone()),
                None => WaitOutcome::Expired,
            },
            _ => WaitOutcome::Expired,
        }
    }

    /// Aborts the active run of a session (and, without `run_id`, what waits behind it).
    pub async fn abort(
        &self,
        session_key: &str,
        run_id: Option<&str>,
        why: &'static str,
    ) -> Result<Aborted, Refusal> {
        let (session_key, run_id) = (session_key.to_owned(), run_id.map(str::to_owned));
        self.ask(|reply| Command::Abort { session_key, run_id, why, reply }).await?
    }

    pub async fn status(&self) -> SchedulerStatus {
        self.ask(Command::Status).await.unwrap_or_default()
    }

    /// Queues a line for the session's next prompt; `wake` also starts a turn now.
    pub async fn system_event(&self, session_key: &str, text: &str, wake: bool) -> Result<(), Refusal> {
        let (session_key, text) = (session_key.to_owned(), text.to_owned());
        self.ask(|reply| Command::SystemEvent { session_key, text, wake, reply }).await?
    }

    pub async fn clear_session(&self, session_key: &str) -> Result<(), Refusal> {
        let session_key = session_key.to_owned();
        self.ask(|reply| Command::ClearSession { session_key, reply }).await
    }

    /// Has new outbox rows of an account (`<channel>:<account>`) sent without delay.
    pub fn deliver(&self, account: &str) {
        // The rows are in the journal: a core that is busy now finds them at its next look.
        let _busy = self.commands.try_send(Command::Deliver(account.to_owned()));
    }

    /// Has a message answered after all that a person put back (journal sequence).
    pub fn revive(&self, seq: i64) {
        // It waits in the journal: a core that is busy now finds it at the next start.
        if self.commands.try_send(Command::Revive(seq)).is_err() {
            tracing::warn!(
                seq,
                "the scheduler is busy: a message that was put back waits for the next start"
            );
        }
    }

    /// Begins nothing new; what is under way goes on.
    pub async fn drain(&self) {
        self.slow_down(Pace::Draining).await;
    }

    /// Begins nothing at all: the workers are about to be stopped. At the return the core knows.
    pub async fn stop(&self) {
        self.slow_down(Pace::Stopping).await;
    }

    async fn slow_down(&self, pace: Pace) {
        let (reply, told) = oneshot::channel();
        // A core that is gone takes no new work either.
        if self.commands.send(Command::Pace(pace, reply)).await.is_ok() {
            let _gone = told.await;
        }
    }
}
