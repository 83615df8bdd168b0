//! From the queue to the worker: lanes, C2, start, restart after a death, abort, end.

mod parts;

use super::{Session, TYPING_MS, Taken};
use crate::journal::run::state::{Verdict, verdict};
use crate::journal::{InterruptCause, Journal, NewRun, RunRow, RunStart};
use crate::scheduler::active::{Abort, Active, Phase};
use crate::scheduler::lane_gate::Permit;
use crate::scheduler::outcome;
use crate::scheduler::pending::Pending;
use crate::scheduler::queue;
use crate::scheduler::stored::{Attempt, StoredRun};
use crate::scheduler::{Aborted, Refusal};
use crate::worker::EnsureError;
use parts::{GIVEN_UP, POISONED_TEXT, event_line, inputs, run_origin, text_of};
use proto::wire::agent::AgentToSup;
use proto::wire::agent::{AbortRun, OriginKind, RunStatus, Steer, Steered, SupToAgent};
use proto::wire::handshake::WorkerId;
use proto::wire::{Id, Wire};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

/// The worker ends a run at its time-out by itself; this much later the supervisor does it.
const TIMEOUT_GRACE_MS: u64 = 30_000;
/// An aborted run's worker has this long to write the partial answer and say so.
const ABORT_GRACE_MS: u64 = 10_000;
/// A worker answers at the next tool border or at once.
const STEER_MS: u64 = 5_000;
/// Pause before a step that the journal or the worker refused is tried again.
const STEP_RETRY_MS: u64 = 1_000;

impl Session {
    /// The lanes are free: makes the next run, or goes on with one of an earlier life.
    pub(super) async fn begin(&mut self, permit: Permit) {
        let taken = match self.taken.take() {
            Some(Taken::Resumed(row)) => return self.begin_resumed(*row, permit).await,
            Some(taken) => taken,
            None => return,
        };
        let from_queue = matches!(taken, Taken::Turn(_));
        let (pending, summary): (Vec<Pending>, _) = match taken {
            Taken::Turn(turn) => (turn.items.into_iter().map(|item| item.payload).collect(), turn.summary),
            Taken::Solo(pending) => (vec![*pending], None),
            Taken::Resumed(_) => return,
        };
        // A message that had to wait was closed under its own id when it was queued.
        let client_run_id = match pending.as_slice() {
            [only] if !only.turn.client_run_id.is_empty() && !only.waited => only.turn.client_run_id.clone(),
            _ => Id::now().to_string(),
        };
        let spec = self.spec(&client_run_id, &pending, summary);
        let mut active = self.activate(Id::now(), spec, Some(permit));
        active.from_queue = from_queue;
        active.seqs = pending.iter().map(|pending| pending.seq).collect();
        for pending in pending {
            if let Some(progress) = pending.progress
                && pending.turn.client_run_id != client_run_id
            {
                active.client_ids.push(pending.turn.client_run_id);
                active.progress.push(progress);
            }
        }
        self.active = Some(active);
        self.claim().await;
    }

    pub(super) fn spec(
        &self,
        client_run_id: &str,
        pending: &[Pending],
        summary: Option<String>,
    ) -> StoredRun {
        let config = self.shared.config.current();
        let last = pending.last().map(|pending| &pending.turn);
        let routed = pending.iter().map(|pending| &pending.turn).find(|turn| turn.deliver_to.is_some());
        let default_ms = config.view.agents.timeout_seconds.saturating_mul(1000);
        let origin = last.map(|turn| turn.origin.clone()).unwrap_or_default();
        let streams = routed.is_some_and(|turn| {
            turn.origin.kind == OriginKind::Channel
                && self.shared.delivery.streams(&config, turn.deliver_to.as_ref())
        });
        StoredRun {
            client_run_id: client_run_id.to_owned(),
            inputs: inputs(pending, summary),
            overrides: last.map(|turn| turn.overrides.clone()).unwrap_or_default(),
            origin,
            deliver_to: routed.and_then(|turn| turn.deliver_to.clone()),
            timeout_ms: last.and_then(|turn| turn.timeout_ms).unwrap_or(default_ms),
            lane: last.map(|turn| turn.lane.clone()).unwrap_or_default(),
            reply_to: routed.and_then(|turn| turn.reply_to.clone()),
            blocks: false,
            draft: streams,
        }
    }

    pub(super) fn activate(&self, run_id: Id, spec: StoredRun, permit: Option<Permit>) -> Active {
        let progress = self.shared.runs.borrow_mut().open(&spec.client_run_id, &self.key);
        Active {
            run_id,
            publisher: self.publisher(&spec.client_run_id),
            client_ids: vec![spec.client_run_id.clone()],
            progress: vec![progress],
            seqs: Vec::new(),
            from_queue: false,
            phase: Phase::Claiming,
            attempt: 0,
            abort: None,
            started_ms: self.shared.now_ms(),
            deadline: None,
            draft: None,
            permit,
            spec,
        }
    }

    /// `inbound`: journal sequences of its messages.
    pub(super) fn new_run(&self, run_id: Id, spec: &StoredRun, inbound: Vec<i64>) -> NewRun {
        NewRun {
            run_id,
            client_run_id: spec.client_run_id.clone(),
            session_key: self.key.to_string(),
            agent: self.agent_id.to_string(),
            lane: spec.lane.clone(),
            origin: run_origin(spec.origin.kind),
            created_us: self.shared.now_us(),
            deadline_us: None,
            spec: spec.encode(),
            inbound,
        }
    }

    /// C2.
    async fn claim(&mut self) {
        let Some(active) = &self.active else { return };
        let new = self.new_run(active.run_id, &active.spec, active.seqs.clone());
        proto::runtime::failpoint::hit("sv.c2.before");
        // With a worker that is up, claim and start share a commit: one sync less before the model is asked.
        let claimed = match self.free_worker() {
            Some(epoch) => self.shared.journal.begin_run(new, epoch).await.map(Some),
            None => self.shared.journal.create_run(new).await.map(|()| None),
        };
        match claimed {
            Ok(started) => {
                if let Some(active) = &mut self.active {
                    active.phase = Phase::Starting;
                }
                proto::runtime::failpoint::hit("sv.c2.after");
                match started {
                    Some(start) => self.send_start(start).await,
                    None => self.start_worker(),
                }
            }
            Err(error) => self.step_failed("claim a run", &error),
        }
    }

    async fn begin_resumed(&mut self, row: RunRow, permit: Permit) {
        let Some(spec) = StoredRun::decode(&row.spec) else {
            tracing::error!(run = %row.run_id, "stored run cannot be read; it stays in the journal");
            return;
        };
        let mut active = self.activate(row.run_id, spec, Some(permit));
        active.attempt = row.counts.attempt;
        active.phase = Phase::Starting;
        self.active = Some(active);
        match verdict(row.counts, row.times, self.shared.now_us()) {
            Verdict::Resume => self.start_worker(),
            Verdict::Poisoned => self.end_poisoned().await,
            Verdict::Abandoned => self.end_here(RunStatus::Error, outcome::INTERRUPTED, GIVEN_UP).await,
        }
    }

    /// The message is to blame, not the worker: the one becomes a dead letter, the other is not held to its crashes.
    async fn end_poisoned(&mut self) {
        tracing::error!(event = "message.poison", session = %self.key, "a message ended its agent's worker each time; it is set aside");
        self.shared.workers.blame_message(&self.worker());
        self.end_here(RunStatus::Error, outcome::POISONED, POISONED_TEXT).await;
    }

    pub(super) fn start_worker(&mut self) {
        if self.shared.stopping() {
            return;
        }
        let Some(run_id) = self.active.as_ref().map(|active| active.run_id) else { return };
        let (shared, worker, agent_id) = (self.shared.clone(), self.worker(), self.agent_id.clone());
        self.starting = Some(Box::pin(async move {
            shared.blame.turn(&agent_id, run_id).await;
            shared.workers.ensure_started(worker).await
        }));
    }

    /// Epoch of the worker, when it is up and may be given another run.
    pub(super) fn free_worker(&self) -> Option<u64> {
        self.shared.workers.ready_epoch(&self.worker()).filter(|_| self.shared.blame.is_calm(&self.agent_id))
    }

    fn step_failed(&mut self, what: &str, error: &dyn std::fmt::Display) {
        tracing::warn!(session = %self.key, %error, "cannot {what} yet");
        self.retry_at = Some(Instant::now() + Duration::from_millis(STEP_RETRY_MS));
    }

    /// The pause after a refused step is over.
    pub(super) async fn retry_step(&mut self) {
        if self.shared.stopping() {
            return;
        }
        let Some(active) = &mut self.active else { return };
        match &active.phase {
            Phase::Claiming => self.claim().await,
            Phase::Starting if self.starting.is_none() => self.start_worker(),
            Phase::Ending(_) => {
                if let Phase::Ending(run) = std::mem::replace(&mut active.phase, Phase::Starting) {
                    self.end(*run).await;
                }
            }
            Phase::Starting | Phase::Running { .. } => {}
        }
    }

    pub(super) async fn on_worker(&mut self, result: Result<u64, EnsureError>) {
        if self.shared.stopping() {
            // That the worker does not come is our own doing.
            return;
        }
        if self.active.as_ref().is_some_and(|active| active.abort.is_some()) {
            self.end_here(RunStatus::Aborted, "rpc", "").await;
            return;
        }
        match result {
            Ok(epoch) => self.start_attempt(epoch).await,
            Err(error) if error.is_final() => {
                let text = format!("The agent \"{}\" cannot be started: {error}", self.agent_id);
                self.end_here(RunStatus::Error, "agent-unavailable", &text).await;
            }
            Err(error) => self.step_failed("start the agent", &error),
        }
    }

    async fn start_attempt(&mut self, epoch: u64) {
        let Some(active) = &self.active else { return };
        let run_id = active.run_id;
        if (active.attempt > 0 || active.seqs.is_empty())
            && let Err(error) = self.recall_messages().await
        {
            return self.step_failed("read the messages of a run", &error);
        }
        match self.shared.journal.mark_started(run_id, epoch, self.shared.now_us()).await {
            Ok(start) => self.send_start(start).await,
            Err(error) => self.step_failed("start a run", &error),
        }
    }

    /// The attempt is in the journal: to the worker with it.
    pub(super) async fn send_start(&mut self, start: RunStart) {
        let Some(active) = &mut self.active else { return };
        let (run_id, attempt) = (active.run_id, start.attempt);
        let used_ms = u64::try_from(start.active_us / 1000).unwrap_or(0);
        let spec = active.spec.start(Attempt {
            run_id,
            session_key: &self.key,
            agent_id: &self.agent_id,
            attempt,
            resumes: start.interruptions,
            active_ms_used: used_ms,
            texts_done: start.parts.iter().filter_map(|part| text_of(&part.item.body)).collect(),
            system_events: start.events.iter().map(event_line).collect(),
        });
        let left_ms = active.spec.active_ms_left(used_ms);
        active.deadline = (left_ms > 0)
            .then(|| Instant::now() + Duration::from_millis(left_ms.saturating_add(TIMEOUT_GRACE_MS)));
        if attempt > 1 {
            active.publisher.restart(attempt);
        }
        active.attempt = attempt;
        self.shared.owners.borrow_mut().insert(run_id, self.key.to_string());
        let worker = WorkerId::agent(&self.agent_id);
        match self.shared.workers.try_send(&worker, SupToAgent::StartRun(spec)) {
            Ok(epoch) => {
                self.shared.workers.work_begins(&worker, format!("run {run_id}"));
                self.shared.blame.begins(&self.agent_id, run_id, epoch);
                active.phase = Phase::Running { epoch };
                self.typing_at = active.spec.deliver_to.is_some().then(Instant::now);
                proto::runtime::failpoint::hit("sv.startrun.sent");
            }
            Err(refusal) => {
                // It died between the two: the same as a death during the run.
                tracing::info!(session = %self.key, %refusal, "agent worker left before it got the run");
                self.on_worker_gone_now(false).await;
            }
        }
    }

    pub(super) async fn on_worker_gone(&mut self, epoch: u64, own_fault: bool) {
        if self.active.as_ref().and_then(Active::epoch) == Some(epoch) {
            self.on_worker_gone_now(own_fault).await;
        }
    }

    async fn on_worker_gone_now(&mut self, own_fault: bool) {
        let Some(active) = &mut self.active else { return };
        active.phase = Phase::Starting;
        active.deadline = None;
        self.typing_at = None;
        let cause = if own_fault { InterruptCause::SelfInflicted } else { InterruptCause::Outside };
        let run_id = active.run_id;
        match self.shared.journal.interrupt(run_id, cause, self.shared.now_us()).await {
            Ok(row) => match verdict(row.counts, row.times, self.shared.now_us()) {
                Verdict::Resume => self.start_worker(),
                Verdict::Poisoned => self.end_poisoned().await,
                Verdict::Abandoned => self.end_here(RunStatus::Error, outcome::INTERRUPTED, GIVEN_UP).await,
            },
            Err(error) => self.step_failed("note an interruption", &error),
        }
    }

    pub(super) async fn on_timer(&mut self) {
        let now = Instant::now();
        if self.typing_at.is_some_and(|at| at <= now) {
            self.typing_at = Some(now + Duration::from_millis(TYPING_MS));
            if let Some(to) = self.active.as_ref().and_then(|active| active.spec.deliver_to.as_ref()) {
                self.shared.delivery.typing(to, true);
            }
        }
        let Some(active) = &self.active else { return };
        if active.abort.as_ref().is_some_and(|abort| abort.deadline <= now) {
            let why = active.abort.as_ref().map_or("rpc", |abort| abort.why);
            self.end_here(RunStatus::Aborted, why, "").await;
        } else if active.deadline.is_some_and(|at| at <= now) {
            self.tell_abort("timeout");
            self.end_here(RunStatus::Timeout, "timeout", "").await;
        }
    }

    fn tell_abort(&self, why: &str) {
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
            Phase::Claiming | Phase::Starting => self.end_here(RunStatus::Aborted, why, "").await,
            Phase::Ending(_) => {}
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

    /// These will never run: the journal forgets them, their followers learn. Gives their run ids.
    pub(super) async fn drop_items(&mut self, dropped: Vec<queue::Item<Pending>>) -> Vec<String> {
        let seqs: Vec<i64> = dropped.iter().map(|item| item.seq).collect();
        if !seqs.is_empty()
            && let Err(error) = self.shared.journal.suppress(seqs).await
        {
            tracing::warn!(session = %self.key, %error, "dropped messages may run after a restart");
        }
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

    /// Hands a message to the live run; when that no longer takes input the message waits like any other.
    pub(super) async fn steer(&mut self, item: queue::Item<Pending>, also_queued: bool) {
        let Some(run_id) = self.active.as_ref().map(|active| active.run_id) else {
            self.solo.push_back(item.payload);
            return;
        };
        let mut input = item.payload.turn.input.clone();
        input.inbound_seq = item.seq;
        let steer = SupToAgent::Steer(Steer { run_id, input });
        // An answer that nobody could wait for would leave the message's fate open.
        let taken = !self.shared.stopping() && {
            let answer = self.shared.workers.request(&self.worker(), steer, STEER_MS).await;
            answer.is_ok_and(|(code, payload)| {
                matches!(Wire::decode(code, &payload), Ok(AgentToSup::Steered(Steered { taken: true })))
            })
        };
        if taken && !also_queued {
            if let Err(error) = self.shared.journal.claim_more(run_id, vec![item.seq]).await {
                tracing::warn!(session = %self.key, %error, "a steered message may run again after a restart");
            }
            if let (Some(active), Some(progress)) = (&mut self.active, item.payload.progress) {
                active.client_ids.push(item.payload.turn.client_run_id);
                active.progress.push(progress);
            }
        } else if !taken && !also_queued {
            let arrival = self.queue.steer_refused(item, self.shared.now());
            self.drop_items(arrival.dropped).await;
        }
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

    /// Ends the active run without its worker.
    pub(super) async fn end_here(&mut self, status: RunStatus, kind: &str, text: &str) {
        let Some(active) = &self.active else { return };
        let run =
            outcome::ended_here(active.run_id, active.attempt, status, kind, text, self.shared.now_ms());
        self.starting = None;
        self.end(run).await;
    }
}
