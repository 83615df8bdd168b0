//! The one run of a session that is under way.

use crate::journal::InterruptCause;

use super::{RunProgress, lane_gate::Permit, publish::Publisher, stored::StoredRun};
use proto::wire::Id;
use proto::wire::agent::RunFinal;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Where the run stands.
pub enum Phase {
    /// C2 is not committed yet.
    Claiming,
    /// Its lane is free and its row exists; its agent worker is being started.
    Starting,
    /// The worker has it.
    Running { epoch: u64 },
    /// The worker that had it is gone, and the journal could not note that yet: without the note there is no next attempt.
    Interrupting(InterruptCause),
    /// The worker has ended it, and the journal could not store that yet.
    Ending(Box<RunFinal>),
}

/// Who asked to stop it.
#[derive(Debug)]
pub struct Abort {
    pub why: &'static str,
    /// When the worker must have ended it; after that it is ended without the worker.
    pub deadline: Instant,
    pub waiters: Vec<oneshot::Sender<()>>,
}

pub struct Active {
    pub run_id: Id,
    pub spec: StoredRun,
    /// Journal sequences of its messages, for C2.
    pub seqs: Vec<i64>,
    /// It came from the queue, which wants to know its end.
    pub from_queue: bool,
    /// Followers: the run's own id first, then those of merged messages.
    pub progress: Vec<watch::Sender<RunProgress>>,
    /// Ids under which the outcome is remembered.
    pub client_ids: Vec<String>,
    pub phase: Phase,
    pub attempt: u32,
    pub publisher: Publisher,
    pub abort: Option<Abort>,
    /// Started, by the supervisor's clock; for status.
    pub started_ms: i64,
    /// The worker must have ended the run by itself before this.
    pub deadline: Option<Instant>,
    /// The chat has (or gets) a placeholder that streams the reply.
    pub draft: Option<Id>,
    /// Frees the lanes when dropped. `None` for a run that another image of this program began and that found no place.
    pub permit: Option<Permit>,
    /// Messages that the worker took under way, and whose claim the journal could not note yet.
    pub unclaimed: Vec<i64>,
}

impl Active {
    pub fn epoch(&self) -> Option<u64> {
        match self.phase {
            Phase::Running { epoch } => Some(epoch),
            _ => None,
        }
    }

    /// Its end is known, or only the journal stands in the way of its next step: no time-out ends it any more.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// Tells every follower.
    pub fn update(&self, change: impl Fn(&mut RunProgress)) {
        for progress in &self.progress {
            progress.send_modify(&change);
        }
    }

    pub fn answer_abort_waiters(&mut self) {
        for waiter in self.abort.iter_mut().flat_map(|abort| abort.waiters.drain(..)) {
            // The client that asked may be gone.
            let _gone = waiter.send(());
        }
    }
}
