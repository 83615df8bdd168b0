//! What every handle can see of every worker without asking anybody.

use super::carry::CarriedWorker;
use super::crash_report::PongLine;
use super::exit::ExitClass;
use super::handle::EnsureError;
use super::lifecycle::{State, Then};
use super::output::Ring;
use super::proc_view::ProcView;
use super::sandbox::Sandbox;
use super::spec::WorkerSpec;
use crate::upgrade::fds::Kept;
use proto::runtime::link::LinkHandle;
use proto::wire::handshake::{WorkerId, WorkerKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Pieces of work that are remembered by name for one worker; more run at once on no host.
const IN_FLIGHT_MAX: usize = 256;

/// One worker as `status` shows it. From memory only.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    pub id: WorkerId,
    pub kind: WorkerKind,
    pub pid: Option<u32>,
    /// Of the present start, or of the last one.
    pub epoch: u64,
    pub state: State,
    pub why: Option<String>,
    /// An operator stopped it, until an operator starts it.
    pub held: bool,
    /// Unix milliseconds of the last change of `state`.
    pub since_ms: i64,
    pub restarts: u32,
    pub rss_kb: u64,
    pub inflight: u32,
    pub queue: u32,
    /// How late the worker's own timer was.
    pub lag_ms: u64,
    pub last_crash: Option<LastCrash>,
    /// Its executable was replaced since it started; it is restarted when that disturbs nobody.
    pub outdated: bool,
    /// How far its process is confined; that of the last one while there is none.
    pub sandbox: Option<Sandbox>,
}

impl WorkerStatus {
    /// The state as programs and people read it: `needsLogin`.
    pub fn state_name(&self) -> String {
        if self.held && self.state == State::Disabled {
            return "stopped".to_owned();
        }
        let state = serde_json::to_value(self.state).ok();
        state.as_ref().and_then(|state| state.as_str()).unwrap_or("unknown").to_owned()
    }

    /// A worker without a process. `since_ms`: milliseconds since the epoch.
    pub fn new(id: WorkerId, state: State, since_ms: i64) -> Self {
        Self {
            kind: id.kind(),
            id,
            pid: None,
            epoch: 0,
            state,
            why: None,
            held: false,
            since_ms,
            restarts: 0,
            rss_kb: 0,
            inflight: 0,
            queue: 0,
            lag_ms: 0,
            last_crash: None,
            outdated: false,
            sandbox: None,
        }
    }

    /// An agent's worker, for tests of what is made of a status.
    #[cfg(test)]
    pub fn example(agent: &str, state: State) -> Self {
        Self { epoch: 1, ..Self::new(WorkerId::agent(agent), state, 0) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCrash {
    pub at_ms: i64,
    pub class: ExitClass,
    /// `SIGSEGV`, `exit code 1`, …
    pub ended: String,
    /// Name of its report below `<state>/crash`.
    pub report: String,
}

/// What a handle asks of a worker's task.
pub(super) enum Command {
    Ensure(oneshot::Sender<Result<u64, EnsureError>>),
    Drain {
        deadline_ms: u64,
        then: Then,
    },
    Stop {
        then: Then,
    },
    /// Forget the past: quarantine, back-off, login.
    Retry,
    /// Its last crashes were a message's doing.
    MessageBlamed,
    /// Have it write what it does, and tell what is known of it.
    Dump(oneshot::Sender<Dump>),
    Update(Box<WorkerSpec>),
    Remove,
    /// Fall silent and begin nothing more: the program image is about to be replaced.
    Quiet(oneshot::Sender<()>),
    /// End the task and leave the worker to the next image; with `ends`, as one that was told to end.
    Freeze {
        ends: bool,
        reply: oneshot::Sender<(CarriedWorker, Kept)>,
    },
}

/// The shared face of one worker's task.
pub(super) struct Slot {
    pub commands: mpsc::Sender<Command>,
    shown: Mutex<Shown>,
    /// Milliseconds since the start of the gateway of the last message to it.
    pub sent_ms: AtomicU64,
}

/// What is known of a worker beside its status.
pub(super) struct Dump {
    pub view: DumpView,
    /// Goes on being filled by what the worker prints.
    pub ring: Ring,
    /// Lines in the ring's life when the worker was asked.
    pub from_line: u64,
}

/// One worker at one moment, as `workers dump` shows it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpView {
    /// `None`: there is no process.
    pub process: Option<ProcView>,
    pub last_pong: Option<PongLine>,
    /// Last frames received, oldest first: code, corr, bytes.
    pub frames: Vec<(u16, u64, usize)>,
    /// Runs, deliveries and messages of the network that it works on.
    pub in_flight: Vec<String>,
    /// What it printed about itself; empty when it did not within a second.
    pub said: Vec<String>,
    /// The last lines before.
    pub log: Vec<String>,
}

struct Shown {
    status: WorkerStatus,
    /// Runs, deliveries and messages that it has been given and has not finished.
    in_flight: BTreeSet<String>,
    link: Option<(u64, LinkHandle)>,
}

impl Slot {
    pub fn new(status: WorkerStatus, commands: mpsc::Sender<Command>) -> Self {
        Self {
            commands,
            shown: Mutex::new(Shown { status, in_flight: BTreeSet::new(), link: None }),
            sent_ms: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> WorkerStatus {
        self.lock().status.clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut WorkerStatus)) {
        change(&mut self.lock().status);
    }

    pub fn begin(&self, what: String) {
        let mut shown = self.lock();
        if shown.in_flight.len() < IN_FLIGHT_MAX {
            shown.in_flight.insert(what);
        }
    }

    pub fn finish(&self, what: &str) {
        self.lock().in_flight.remove(what);
    }

    pub fn in_flight(&self) -> Vec<String> {
        self.lock().in_flight.iter().cloned().collect()
    }

    /// The process is gone, and its work with it.
    pub fn clear_in_flight(&self) {
        self.lock().in_flight.clear();
    }

    /// The link of a worker that takes work, with its epoch.
    pub fn link(&self) -> Option<(u64, LinkHandle)> {
        self.lock().link.clone()
    }

    pub fn set_link(&self, link: Option<(u64, LinkHandle)>) {
        self.lock().link = link;
    }
}

#[derive(Default)]
pub(super) struct Registry(Mutex<BTreeMap<WorkerId, Arc<Slot>>>);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, worker: &WorkerId) -> Option<Arc<Slot>> {
        self.lock().get(worker).cloned()
    }

    pub fn all(&self) -> Vec<(WorkerId, Arc<Slot>)> {
        self.lock().iter().map(|(id, slot)| (id.clone(), slot.clone())).collect()
    }

    pub fn insert(&self, worker: WorkerId, slot: Arc<Slot>) {
        self.lock().insert(worker, slot);
    }

    pub fn remove(&self, worker: &WorkerId) {
        self.lock().remove(worker);
    }
}
