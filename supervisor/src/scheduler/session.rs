//! The task that owns one session: its queue and its one active run.
//!
//! ```text
//! Submit ─C1─> queue ──(mode, debounce)──> lanes ──C2──> StartRun ──> events … RunFinal ─C8─> FinalAck, next
//!                                                          ^  worker died: interrupt, attempt + 1
//! ```
//!
//! It ends when it has nothing to do; the journal holds everything that it would have to remember.

mod abort;
mod accept;
mod at_once;
mod carry;
mod events;
mod recall;
mod run;
mod steer;

use super::active::Active;
use super::carry::CarriedRun;
use super::lane_gate::Permit;
use super::pending::Pending;
use super::queue::{Next as Due, Queue, Turn};
use super::shared::Shared;
use super::{Aborted, ActiveRun, Refusal, Submitted, TurnRequest};
use crate::journal::{InboundRow, RunRow};
use crate::worker::EnsureError;
use proto::wire::agent::AgentToSup;
use proto::wire::handshake::WorkerId;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// Commands waiting for one session. Senders wait; the session only ever waits for the journal.
pub const SESSION_COMMANDS_MAX: usize = 256;
/// How often a run's network typing indicator is renewed: networks show it for 5 s.
const TYPING_MS: u64 = 4_000;
/// Pause between looks whether the gateway still drains (1 s): what waits begins that much later at most.
const DRAIN_LOOK_MS: u64 = 1_000;
/// Idle pause between looks at what is due when nothing has a nearer time.
const IDLE_MS: u64 = 60_000;

/// What one session is told.
pub enum SessionCommand {
    Submit(Box<TurnRequest>, oneshot::Sender<Result<Submitted, Refusal>>),
    /// A message of a network: C1 is committed.
    Queued(Box<InboundRow>),
    /// A message that waited when the gateway ended: no cap, no quiet time.
    Restored(Box<InboundRow>),
    /// After a restart: a run that was claimed or under way.
    Resume(Box<RunRow>),
    Abort {
        run_id: Option<String>,
        why: &'static str,
        reply: oneshot::Sender<Result<Aborted, Refusal>>,
    },
    Agent(Box<AgentToSup>),
    /// The agent's worker is gone, with the epoch that it had.
    WorkerGone {
        epoch: u64,
        own_fault: bool,
    },
    Wake,
    Clear(oneshot::Sender<()>),
    /// Answered between two steps.
    Settle(oneshot::Sender<()>),
    /// Ends the task: the next program image goes on.
    Freeze(oneshot::Sender<Option<CarriedRun>>),
    /// The first command of a session whose run the image before had.
    Adopt(Box<CarriedRun>),
}

type Starting = Pin<Box<dyn Future<Output = Result<u64, EnsureError>>>>;
type Waiting = Pin<Box<dyn Future<Output = Option<Permit>>>>;

pub struct Session {
    key: Rc<str>,
    agent_id: Rc<str>,
    shared: Rc<Shared>,
    /// Messages that wait by the session's queue mode.
    queue: Queue<Pending>,
    /// Messages that run as soon as possible, each in a turn of its own.
    solo: VecDeque<Pending>,
    /// When the queue's quiet time ends.
    due_at: Option<Instant>,
    /// The next turn, taken from the queue, waiting for its lanes.
    taken: Option<Taken>,
    active: Option<Active>,
    /// Runs of an earlier life.
    resuming: VecDeque<RunRow>,
    /// `taken` waits for its lanes.
    lane: Option<Waiting>,
    /// The active run's worker is being started.
    starting: Option<Starting>,
    /// Not before this: the journal or the worker could not take the next step.
    retry_at: Option<Instant>,
    typing_at: Option<Instant>,
    /// Messages that were taken back, and that the journal could not forget yet: a start would run them.
    owed_drops: Vec<i64>,
}

enum Next {
    Command(Option<SessionCommand>),
    Lane(Option<Permit>),
    Worker(Result<u64, EnsureError>),
    Timer,
}

impl Session {
    pub fn new(key: &str, agent_id: &str, shared: Rc<Shared>) -> Self {
        Self {
            key: key.into(),
            agent_id: agent_id.into(),
            shared,
            queue: Queue::default(),
            solo: VecDeque::new(),
            due_at: None,
            taken: None,
            active: None,
            resuming: VecDeque::new(),
            lane: None,
            starting: None,
            retry_at: None,
            typing_at: None,
            owed_drops: Vec::new(),
        }
    }

    /// Runs until the session has nothing to do. `retire` is asked, without a pause in between, whether it may end.
    pub async fn run(mut self, mut commands: mpsc::Receiver<SessionCommand>, retire: impl Fn() -> bool) {
        loop {
            self.advance().await;
            self.post();
            if self.is_idle() && commands.is_empty() && retire() {
                return;
            }
            match self.next(&mut commands).await {
                Next::Command(Some(SessionCommand::Freeze(reply))) => {
                    let _gone = reply.send(self.freeze());
                    return;
                }
                Next::Command(Some(command)) => self.on_command(command).await,
                Next::Command(None) => return,
                Next::Lane(Some(permit)) => self.begin(permit).await,
                Next::Lane(None) => {}
                Next::Worker(result) => self.on_worker(result).await,
                Next::Timer => self.on_timer().await,
            }
        }
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<SessionCommand>) -> Next {
        let wake_at = self.wake_at();
        tokio::select! {
            biased;
            command = commands.recv() => Next::Command(command),
            permit = optional(&mut self.lane) => {
                self.lane = None;
                Next::Lane(permit)
            }
            result = optional(&mut self.starting) => {
                self.starting = None;
                Next::Worker(result)
            }
            () = tokio::time::sleep_until(wake_at) => Next::Timer,
        }
    }

    fn is_idle(&self) -> bool {
        self.active.is_none() && self.taken.is_none() && self.waiting() == 0 && self.owed_drops.is_empty()
    }

    fn worker(&self) -> WorkerId {
        WorkerId::agent(&self.agent_id)
    }

    /// The next time at which something is due by itself.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_millis(IDLE_MS);
        // A run whose end waits for the journal is not ended once more by the clock.
        let active = self.active.as_ref().filter(|active| !active.is_ending());
        let abort = active.and_then(|active| active.abort.as_ref()).map(|abort| abort.deadline);
        let due = self.due_at.filter(|_| self.active.is_none() && self.taken.is_none());
        let due = due.map(|due| look_at(due, now, self.shared.draining()));
        let times = [active.and_then(|active| active.deadline), abort, due, self.retry_at, self.typing_at];
        times.into_iter().flatten().fold(idle, Instant::min)
    }

    async fn on_command(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Submit(request, reply) => {
                let answer = self.submit(*request).await;
                // The client may have gone; its message is accepted all the same.
                let _gone = reply.send(answer);
            }
            SessionCommand::Queued(row) => self.enqueue_row(*row).await,
            SessionCommand::Restored(row) => self.restore_row(*row),
            SessionCommand::Resume(row) => self.resume(*row).await,
            SessionCommand::Abort { run_id, why, reply } => self.abort(run_id.as_deref(), why, reply).await,
            SessionCommand::Agent(message) => self.on_agent(*message).await,
            SessionCommand::WorkerGone { epoch, own_fault } => self.on_worker_gone(epoch, own_fault).await,
            SessionCommand::Wake => self.wake_turn().await,
            SessionCommand::Clear(reply) => self.clear("session-reset", reply).await,
            SessionCommand::Settle(reply) => {
                let _gone = reply.send(());
            }
            SessionCommand::Freeze(_) => {}
            SessionCommand::Adopt(run) => self.adopt(*run).await,
        }
    }

    /// Shows on the board what this session does, for `status`.
    fn post(&self) {
        let active = self.active.as_ref().map(|active| ActiveRun {
            run_id: active.spec.client_run_id.clone(),
            session_key: self.key.to_string(),
            agent_id: self.agent_id.to_string(),
            started_ms: active.started_ms,
            attempt: active.attempt,
        });
        self.shared.board.borrow_mut().post(&self.key, active, self.queue.len() + self.solo.len());
    }

    /// Moves on without being told: takes the next turn when one is due and asks for its lanes.
    async fn advance(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        if !self.owed_drops.is_empty() {
            let owed = std::mem::take(&mut self.owed_drops);
            self.forget(owed).await;
        }
        if self.active.is_some() {
            self.retry_step().await;
            return;
        }
        if self.taken.is_none() && !self.shared.draining() {
            self.taken = self.take();
        }
        if let (Some(taken), None) = (&self.taken, &self.lane) {
            let lane = taken.lane().filter(|lane| !lane.is_empty()).unwrap_or("main").to_owned();
            self.lane = Some(Box::pin(self.shared.lanes.clone().acquire(self.key.to_string(), lane)));
        }
    }

    /// The next turn in the order of acceptance, if one is due.
    fn take(&mut self) -> Option<Taken> {
        self.due_at = None;
        if let Some(row) = self.resuming.pop_front() {
            return Some(Taken::Resumed(Box::new(row)));
        }
        let waiting = self.queue.items().next().map(|item| item.seq);
        if let Some(solo) = self.solo.front()
            && waiting.is_none_or(|seq| solo.seq < seq)
        {
            return self.solo.pop_front().map(|pending| Taken::Solo(Box::new(pending)));
        }
        match self.queue.take(self.shared.now()) {
            Due::Turn(turn) => Some(Taken::Turn(Box::new(turn))),
            Due::Wait { until_ms } => {
                let wait = Duration::from_millis(until_ms.saturating_sub(self.shared.now()));
                self.due_at = Some(Instant::now() + wait);
                // What runs by itself need not wait for others to finish talking.
                self.solo.pop_front().map(|pending| Taken::Solo(Box::new(pending)))
            }
            Due::Empty | Due::Unsettled => None,
        }
    }

    /// Messages and runs that wait.
    fn waiting(&self) -> usize {
        self.queue.len() + self.solo.len() + self.resuming.len() + usize::from(!self.queue.is_empty())
    }
}

/// What the next run is made of.
enum Taken {
    Resumed(Box<RunRow>),
    Solo(Box<Pending>),
    Turn(Box<Turn<Pending>>),
}

impl Taken {
    fn lane(&self) -> Option<&str> {
        match self {
            Self::Resumed(row) => Some(&row.lane),
            Self::Solo(pending) => Some(&pending.turn.lane),
            Self::Turn(turn) => turn.items.last().map(|item| item.payload.turn.lane.as_str()),
        }
    }
}

/// When to look for the next turn. Nothing is begun while the gateway drains: what became due is then looked at now and then,
/// not without a pause.
fn look_at(due: Instant, now: Instant, draining: bool) -> Instant {
    if draining { due.max(now + Duration::from_millis(DRAIN_LOOK_MS)) } else { due }
}

/// Waits for a future that may not be there (then: for ever).
async fn optional<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T>>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_not_looked_for_without_a_pause_while_nothing_begins() {
        let now = Instant::now();
        let (past, pause) = (now - Duration::from_millis(5), Duration::from_millis(DRAIN_LOOK_MS));
        assert_eq!(look_at(past, now, false), past);
        assert_eq!(look_at(past, now, true), now + pause);
        assert_eq!(look_at(now + 2 * pause, now, true), now + 2 * pause, "its quiet time is not cut short");
    }
}
