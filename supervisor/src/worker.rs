//! Worker processes: spawn, greet, watch, restart, stop.
//!
//! One task per worker owns it; everybody else holds [`Workers`], whose methods are the operator's verbs. The rules are
//! pure ([`lifecycle`], [`restart`], [`exit`]), the tasks carry them out. All tasks run on the core runtime, whose thread
//! lives as long as the process: a worker dies with the thread that spawned it.
//!
//! Not here: what a worker's messages mean (see [`crate::scheduler`] and the delivery of replies).

pub mod carry;
pub mod cgroup;
mod crash_report;
mod driver;
mod exit;
mod handle;
mod held;
mod leftovers;
mod lifecycle;
mod output;
mod proc_view;
mod process;
mod reaper;
mod registry;
mod restart;
pub mod sandbox;
mod spec;
mod suspects;

pub use exit::ExitClass;
pub use handle::{EnsureError, Refusal, Workers, WorkersConfig};
pub use lifecycle::State;
pub use process::{Binary, BinaryError, Output, run_to_end};
pub use reaper::{Claimed, end_claimed};
pub use registry::WorkerStatus;
pub use spec::{IDLE_STOP_SECONDS, ProvideError, Provision, WorkerSpec, worker_env, worker_proxies};

use crate::link::FromWorker;
use proto::wire::handshake::WorkerId;

/// Events that wait for the core. A full queue stops the reading of links, and credit makes the workers wait.
pub const EVENTS_MAX: usize = 1024;

/// One thing that happened to a worker, in order per worker. Messages may come before `Up` (a channel's state while it
/// connects), never after `Down`.
#[derive(Debug)]
pub struct WorkerEvent {
    pub worker: WorkerId,
    pub epoch: u64,
    pub kind: WorkerEventKind,
}

#[derive(Debug)]
pub enum WorkerEventKind {
    /// It takes work. `ready` is the detail of its `Ready`.
    Up { ready: String },
    /// It is gone; nothing more comes from this epoch. Comes also for a worker that never was up.
    Down { class: ExitClass },
    /// `corr` is not 0 when it waits for a reply under it ([`Workers::try_reply`]).
    Message { corr: u64, message: FromWorker },
    /// It wants its request to end; it still gets its one reply.
    Cancel { corr: u64 },
    /// Its state changed in another way.
    State(State),
    /// Everything before it was worked off ([`Workers::fence`]).
    Fence(tokio::sync::oneshot::Sender<()>),
}

#[cfg(test)]
mod tests;
