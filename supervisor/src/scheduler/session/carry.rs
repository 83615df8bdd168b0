//! A session's run on its way from one program image to the next.

use super::{Session, TYPING_MS};
use crate::scheduler::active::{Abort, Active, Phase};
use crate::scheduler::carry::{CarriedAbort, CarriedRun};
use crate::scheduler::stored::StoredRun;
use proto::wire::agent::RunFinal;
use proto::wire::{decode_payload, encode_payload};
use tokio::time::{Duration, Instant};

/// Reasons of an abort that a run can have; any other was a client's wish.
const ABORT_REASONS: [&str; 4] = ["rpc", "stop", "timeout", "session-reset"];

impl Session {
    /// What the next image needs of this session. A run that is not in the journal yet is made anew from its messages.
    pub(super) fn freeze(&self) -> Option<CarriedRun> {
        let active = self.active.as_ref()?;
        let now = Instant::now();
        let left_ms = |at: Instant| u64::try_from((at - now).as_millis()).unwrap_or(u64::MAX);
        let (epoch, ended) = match &active.phase {
            // Neither is in the journal as the next image would have to know it; that finds them there as they are.
            Phase::Claiming | Phase::Interrupting(_) => return None,
            Phase::Starting => (None, None),
            Phase::Running { epoch } => (Some(*epoch), None),
            Phase::Ending(run) => (None, Some(encode_payload(&**run).into())),
        };
        Some(CarriedRun {
            session_key: self.key.to_string(),
            agent_id: self.agent_id.to_string(),
            run_id: active.run_id,
            spec: active.spec.encode(),
            epoch,
            ended,
            attempt: active.attempt,
            seqs: active.seqs.clone(),
            unclaimed: active.unclaimed.clone(),
            client_ids: active.client_ids.clone(),
            started_ms: active.started_ms,
            told_started_ms: active.progress.first().and_then(|progress| progress.borrow().started_ms),
            deadline_ms: active.deadline.map(left_ms),
            abort: active
                .abort
                .as_ref()
                .map(|abort| CarriedAbort { why: abort.why.to_owned(), left_ms: left_ms(abort.deadline) }),
            draft: active.draft,
            voice: active.publisher.carry(),
        })
    }

    /// Goes on with the run of the image before.
    pub(super) async fn adopt(&mut self, carried: CarriedRun) {
        let Some(spec) = StoredRun::decode(&carried.spec) else {
            tracing::error!(run = %carried.run_id, "a carried run cannot be read; it is resumed by the next start");
            return;
        };
        let now = Instant::now();
        let lane = if spec.lane.is_empty() { "main" } else { &spec.lane };
        // It runs already: a lane that has become narrower does not stop it.
        let permit = self.shared.lanes.clone().try_acquire(&self.key, lane);
        let mut active = self.activate(carried.run_id, spec, None);
        active.permit = permit;
        active.attempt = carried.attempt;
        (active.seqs, active.unclaimed) = (carried.seqs, carried.unclaimed);
        active.started_ms = carried.started_ms;
        active.deadline = carried.deadline_ms.map(|ms| now + Duration::from_millis(ms));
        active.draft = carried.draft;
        active.publisher.restore(carried.voice);
        active.abort = carried.abort.map(|abort| Abort {
            why: ABORT_REASONS.into_iter().find(|why| *why == abort.why).unwrap_or("rpc"),
            deadline: now + Duration::from_millis(abort.left_ms),
            waiters: Vec::new(),
        });
        let progress =
            carried.client_ids.iter().map(|id| self.shared.runs.borrow_mut().open(id, &self.key)).collect();
        (active.client_ids, active.progress) = (carried.client_ids, progress);
        let text = active.publisher.text();
        active.update(|progress| {
            progress.text = text.clone();
            progress.started_ms = carried.told_started_ms;
        });
        let ended = carried.ended.and_then(|bytes| decode_payload::<RunFinal>(0, &bytes).ok());
        self.shared.owners.borrow_mut().insert(carried.run_id, self.key.to_string());
        self.go_on(active, carried.epoch, ended).await;
    }

    async fn go_on(&mut self, mut active: Active, epoch: Option<u64>, ended: Option<RunFinal>) {
        active.phase = match epoch {
            Some(epoch) => Phase::Running { epoch },
            None => Phase::Starting,
        };
        let typing = epoch.is_some() && active.spec.deliver_to.is_some();
        self.typing_at = typing.then(|| Instant::now() + Duration::from_millis(TYPING_MS));
        if let Some(epoch) = epoch {
            self.shared.blame.begins(&self.agent_id, active.run_id, epoch);
        }
        self.active = Some(active);
        match (epoch, ended) {
            (_, Some(run)) => self.end(run).await,
            (None, None) => self.start_worker(),
            (Some(_), None) => {}
        }
    }
}
