//! What people take back: a run under way, messages that wait, all of a session.

use super::{Session, Taken};
use crate::journal::{Journal, RunRow};
use crate::scheduler::active::{Abort, Phase};
use crate::scheduler::outcome;
use crate::scheduler::pending::Pending;
use crate::scheduler::queue;
use crate::scheduler::{Aborted, Refusal};
use proto::wire::agent::{AbortRun, RunStatus, SupToAgent};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

/// An aborted run's worker has this long to write the partial answer and say so.
const ABORT_GRACE_MS: u64 = 10_000;

impl Session {
    pub(super) fn tell_abort(&self, why: &str) {
        let Some(active) = &self.active else { return };
        let abort = AbortRun { run_id: active.run_id, why: why.to_owned() };
        if let Err(refusal) = self.shared.workers.try_send(&self.worker(), SupToAgent::AbortRun(abort)) {
            tracing::info!(session = %self.key, %refusal, "abort not delivered; the run ends without its worker");
        }
    }

    pub(super) async fn abort(
        &mut self,
        run_id: Option<&str>,
        why: &'static str,
        reply: oneshot::Sender<Result<Aborted, Refusal>>,
    ) {
        let mut run_ids = self.drop_waiting(run_id).await;
        self.unresume(run_id).await;
        let hit = self.active.as_ref().is_some_and(|active| {
            run_id.is_none_or(|wanted| active.client_ids.iter().any(|id| id == wanted))
        });
        let mut waiter = None;
        if hit && let Some(active) = &mut self.active {
            run_ids.extend(active.client_ids.first().cloned());
            let (tell, told) = oneshot::channel();
            waiter = Some(told);
            let deadline = Instant::now() + Duration::from_millis(ABORT_GRACE_MS);
            active
                .abort
                .get_or_insert_with(|| Abort { why, deadline, waiters: Vec::new() })
                .waiters
                .push(tell);
            self.stop_active(why).await;
        }
        let answer = Aborted { aborted: !run_ids.is_empty(), run_ids };
        tokio::task::spawn_local(async move {
            if let Some(told) = waiter {
                // Clients see the `chat` event before the answer; the grace above bounds the wait.
                let _ended = told.await;
            }
            let _gone = reply.send(Ok(answer));
        });
    }

    /// Asks the worker to end the active run, or ends it when no worker has it.
    pub(super) async fn stop_active(&mut self, why: &'static str) {
        let Some(active) = &mut self.active else { return };
        let deadline = Instant::now() + Duration::from_millis(ABORT_GRACE_MS);
        active.abort.get_or_insert_with(|| Abort { why, deadline, waiters: Vec::new() });
        match active.phase {
            Phase::Running { .. } => self.tell_abort(why),
            Phase::Claiming | Phase::Starting | Phase::Interrupting(_) => {
                self.end_here(RunStatus::Aborted, why, "").await
            }
            Phase::Ending(_) => {}
        }
    }

    /// A run of an earlier life that waits for its turn is made the active one, so that it can be stopped like any other.
    async fn unresume(&mut self, run_id: Option<&str>) {
        let wanted = |row: &RunRow| run_id.is_none_or(|wanted| row.client_run_id == wanted);
        if self.active.is_some() {
            return;
        }
        let row = match self.taken.take() {
            Some(Taken::Resumed(row)) if wanted(&row) => {
                self.lane = None;
                *row
            }
            taken => {
                self.taken = taken;
                let at = self.resuming.iter().position(wanted);
                let Some(row) = at.and_then(|at| self.resuming.remove(at)) else { return };
                row
            }
        };
        self.take_over(&row, None);
        if let Err(error) = self.recall_messages().await {
            tracing::warn!(session = %self.key, %error, "who follows a run that is stopped is not known");
        }
    }

    /// Takes waiting messages out: one, or all.
    async fn drop_waiting(&mut self, run_id: Option<&str>) -> Vec<String> {
        let wanted = |pending: &Pending| run_id.is_none_or(|wanted| pending.turn.client_run_id == wanted);
        let mut dropped = match run_id {
            None => self.queue.clear(),
            Some(_) => self.queue.remove(|item| wanted(&item.payload)),
        };
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.solo).into_iter().partition(wanted);
        self.solo = kept.into();
        dropped.extend(gone.into_iter().map(Pending::into_item));
        match self.taken.take() {
            Some(Taken::Solo(pending)) if wanted(&pending) => {
                self.lane = None;
                dropped.push(pending.into_item());
            }
            Some(Taken::Turn(turn)) if run_id.is_none() => {
                self.lane = None;
                self.queue.settle(true, self.shared.now());
                dropped.extend(turn.items);
            }
            taken => self.taken = taken,
        }
        self.drop_items(dropped).await
    }

    /// The journal forgets these messages, now or as soon as it can.
    pub(super) async fn forget(&mut self, seqs: Vec<i64>) {
        if seqs.is_empty() {
            return;
        }
        match self.shared.journal.suppress(seqs.clone()).await {
            Ok(()) => {}
            Err(error) if error.retryable() => {
                self.owed_drops.extend(seqs);
                self.step_failed("forget what was taken back", &error);
            }
            Err(_) if seqs.len() > 1 => {
                // One of them is in the way of all.
                for seq in seqs {
                    Box::pin(self.forget(vec![seq])).await;
                }
            }
            Err(error) => {
                tracing::error!(session = %self.key, ?seqs, %error, "a message that was taken back may run after a restart");
            }
        }
    }

    /// These will never run: the journal forgets them, their followers learn. Gives their run ids.
    pub(super) async fn drop_items(&mut self, dropped: Vec<queue::Item<Pending>>) -> Vec<String> {
        let seqs: Vec<i64> = dropped.iter().map(|item| item.seq).collect();
        self.forget(seqs).await;
        let mut run_ids = Vec::new();
        for item in dropped {
            let id = item.payload.turn.client_run_id;
            if id.is_empty() {
                continue;
            }
            let run = outcome::dropped(self.shared.now_ms());
            self.publisher(&id).end(&run);
            self.shared.runs.borrow_mut().end(&id, &outcome::outcome_of(&run).into());
            run_ids.push(id);
        }
        run_ids
    }

    /// Drops what waits and aborts the run. `done` is told when the run has ended, so that its last row of the session
    /// index is there before the one of whoever asked.
    pub(super) async fn clear(&mut self, why: &'static str, done: oneshot::Sender<()>) {
        let (reply, answer) = oneshot::channel();
        self.abort(None, why, reply).await;
        tokio::task::spawn_local(async move {
            let _ended = answer.await;
            let _gone = done.send(());
        });
    }
}
