//! A message that nothing stands in the way of: it is accepted, claimed and started in one commit.

use super::Session;
use crate::journal::RunStart;
use crate::scheduler::active::Phase;
use crate::scheduler::lane_gate::Permit;
use crate::scheduler::pending::Pending;
use crate::scheduler::stored::{StoredRun, StoredTurn};
use proto::wire::Id;

/// What such a run has before the commit. Nobody knows of it yet: its message may turn out to be a known one.
pub struct AtOnce {
    pub run_id: Id,
    pub spec: StoredRun,
    /// The worker's.
    pub epoch: u64,
    permit: Permit,
}

impl Session {
    /// Whether the session is idle, a place in the message's lane free and the worker up.
    pub(super) fn at_once(&self, turn: &StoredTurn) -> Option<AtOnce> {
        let quiet =
            self.is_idle() && self.lane.is_none() && self.retry_at.is_none() && !self.shared.draining();
        if !quiet || turn.client_run_id.is_empty() {
            return None;
        }
        let epoch = self.free_worker()?;
        let lane = if turn.lane.is_empty() { "main" } else { &turn.lane };
        let permit = self.shared.lanes.clone().try_acquire(&self.key, lane)?;
        // Its number is known with the commit.
        let pending = Pending { seq: 0, turn: turn.clone(), waited: false, progress: None };
        let spec = self.spec(&turn.client_run_id, &[pending], None);
        Some(AtOnce { run_id: Id::now(), spec, epoch, permit })
    }

    /// The commit is done.
    pub(super) async fn begun(&mut self, ready: AtOnce, seq: i64, start: RunStart) {
        let mut active = self.activate(ready.run_id, ready.spec.of_message(seq), Some(ready.permit));
        active.seqs = vec![seq];
        active.phase = Phase::Starting;
        self.active = Some(active);
        proto::runtime::failpoint::hit("sv.c2.after");
        self.send_start(start).await;
    }
}
