//! What every handle can see of every worker without asking anybody.

use super::exit::ExitClass;
use super::handle::EnsureError;
use super::lifecycle::{State, Then};
use super::spec::WorkerSpec;
use proto::runtime::link::LinkHandle;
use proto::wire::handshake::{WorkerId, WorkerKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

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
    /// Unix milliseconds of the last change of `state`.
    pub since_ms: i64,
    pub restarts: u32,
    pub rss_kb: u64,
    pub inflight: u32,
    pub queue: u32,
    /// How late the worker's own timer was.
    pub lag_ms: u64,
    pub last_crash: Option<LastCrash>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCrash {
    pub at_ms: i64,
    pub class: ExitClass,
    /// `SIGSEGV`, `exit code 1`, …
    pub ended: String,
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
    Update(Box<WorkerSpec>),
    Remove,
}

/// The shared face of one worker's task.
pub(super) struct Slot {
    pub commands: mpsc::Sender<Command>,
    shown: Mutex<Shown>,
    /// Milliseconds since the start of the gateway of the last message to it.
    pub sent_ms: AtomicU64,
}

struct Shown {
    status: WorkerStatus,
    link: Option<(u64, LinkHandle)>,
}

impl Slot {
    pub fn new(status: WorkerStatus, commands: mpsc::Sender<Command>) -> Self {
        Self { commands, shown: Mutex::new(Shown { status, link: None }), sent_ms: AtomicU64::new(0) }
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
