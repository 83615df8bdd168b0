//! From the queue to the worker: lanes, C2, start, restart after a death, abort, end.

mod parts;

use super::{Session, TYPING_MS, Taken};
use crate::journal::run::state::{Verdict, verdict};
use crate::journal::{InterruptCause, Journal, JournalError, NewRun, RunRow, RunStart};
use crate::scheduler::active::{Active, Phase};
use crate::scheduler::lane_gate::Permit;
use crate::scheduler::outcome;
use crate::scheduler::pending::Pending;
use crate::scheduler::stored::{Attempt, StoredRun};
use crate::worker::{EnsureError, Refusal};
use parts::{GIVEN_UP, POISONED_TEXT, event_line, inputs, run_origin, text_of};
use proto::wire::Id;
use proto::wire::agent::{OriginKind, RunStatus, SupToAgent};
use proto::wire::handshake::WorkerId;
use proto::wire::state::SendRefusal;
use tokio::time::{Duration, Instant};

/// The worker ends a run at its time-out by itself; this much later the supervisor does it.
const TIMEOUT_GRACE_MS: u64 = 30_000;
/// Pause before a step that the journal or the worker refused is tried again.
const STEP_RETRY_MS: u64 = 1_000;

/// Of a run whose row another build wrote.
const UNREADABLE: &str = "the gateway cannot read what it stored of this run";

/// Bytes that one run's messages may have together: what a run adds to them fits in besides, and a merged turn is never refused
/// for its size.
const MESSAGES_BYTES_MAX: usize = crate::journal::BODY_BYTES_MAX - (64 << 10);

/// The messages that fit into one run; the others get turns of their own, after it.
fn fitting(mut pending: Vec<Pending>) -> (Vec<Pending>, Vec<Pending>) {
    let mut bytes: usize = 0;
    let fits = |pending: &Pending| {
        bytes = bytes.saturating_add(pending.turn.encode().len());
        bytes <= MESSAGES_BYTES_MAX
    };
    let count = pending.iter().map(fits).take_while(|fits| *fits).count().max(1);
    let rest = pending.split_off(count.min(pending.len()));
    (pending, rest)
}

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
        let (pending, rest) = fitting(pending);
        for later in rest.into_iter().rev() {
            self.solo.push_front(later);
        }
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
            unclaimed: Vec::new(),
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
            Err(error) if error.retryable() => self.step_failed("claim a run", &error),
            Err(error) => self.give_up("the run cannot be stored", &error).await,
        }
    }

    async fn begin_resumed(&mut self, row: RunRow, permit: Permit) {
        if !self.take_over(&row, Some(permit)) {
            return self.end_here(RunStatus::Error, "internal", UNREADABLE).await;
        }
        match verdict(row.counts, row.times, self.shared.now_us()) {
            Verdict::Resume => self.start_worker(),
            Verdict::Poisoned => self.end_poisoned().await,
            Verdict::Abandoned => self.end_here(RunStatus::Error, outcome::INTERRUPTED, GIVEN_UP).await,
        }
    }

    /// Makes a run of an earlier life the active one. `false`: no start could read what is stored of it, so that it has to
    /// end here, or its messages were held for ever.
    pub(super) fn take_over(&mut self, row: &RunRow, permit: Option<Permit>) -> bool {
        let stored = StoredRun::decode(&row.spec);
        let readable = stored.is_some();
        if !readable {
            tracing::error!(run = %row.run_id, "stored run cannot be read; it is ended");
        }
        let unread = || StoredRun { client_run_id: row.client_run_id.clone(), ..StoredRun::default() };
        let mut active = self.activate(row.run_id, stored.unwrap_or_else(unread), permit);
        active.attempt = row.counts.attempt;
        active.phase = Phase::Starting;
        self.active = Some(active);
        readable
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

    pub(super) fn set_phase(&mut self, phase: Phase) {
        if let Some(active) = &mut self.active {
            active.phase = phase;
        }
    }

    /// The journal will never take the next step of this run (a row that is not there, a fault of ours): the session goes on
    /// without it and its followers learn. A row that it has is ended (an open one would keep every later run of the session
    /// out); without one, the next start tries its messages again.
    async fn give_up(&mut self, what: &str, error: &JournalError) {
        if matches!(error, JournalError::Closed) {
            // The gateway is stopping: the next start goes on.
            return;
        }
        if self.active.as_ref().is_some_and(|active| !matches!(active.phase, Phase::Claiming)) {
            tracing::error!(session = %self.key, %error, "{what}; the run is ended");
            let text = format!("internal error in the gateway: {what} ({error})");
            return self.end_here(RunStatus::Error, "internal", &text).await;
        }
        let Some(mut active) = self.active.take() else { return };
        tracing::error!(session = %self.key, run = %active.run_id, %error, "{what}; the run is given up");
        if active.from_queue {
            self.queue.settle(true, self.shared.now());
        }
        (self.starting, self.typing_at, self.retry_at) = (None, None, None);
        self.shared.owners.borrow_mut().remove(&active.run_id);
        self.shared.blame.ends(&self.agent_id, active.run_id);
        self.shared.workers.work_ends(&self.worker(), &format!("run {}", active.run_id));
        let text = format!("internal error in the gateway: {what} ({error})");
        let now_ms = self.shared.now_ms();
        let run =
            outcome::ended_here(active.run_id, active.attempt, RunStatus::Error, "internal", &text, now_ms);
        active.publisher.end(&run);
        self.tell_followers(&active, &run);
        active.answer_abort_waiters();
    }

    pub(super) fn step_failed(&mut self, what: &str, error: &dyn std::fmt::Display) {
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
            Phase::Interrupting(cause) => {
                let cause = *cause;
                self.interrupt(cause).await;
            }
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
        if active.attempt > 0 || active.seqs.is_empty() {
            // What joined the attempt before has to be in this one.
            if let Err(error) = self.claim_owed(run_id).await
                && error.retryable()
            {
                return self.step_failed("note what joined a run", &error);
            }
            if let Err(error) = self.recall_messages().await {
                return self.step_failed("read the messages of a run", &error);
            }
        }
        match self.shared.journal.mark_started(run_id, epoch, self.shared.now_us()).await {
            Ok(start) => self.send_start(start).await,
            Err(error) if error.retryable() => self.step_failed("start a run", &error),
            Err(error) => self.give_up("the attempt cannot be stored", &error).await,
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
            Err(refusal) => self.start_refused(&refusal).await,
        }
    }

    /// The worker does not have the run, although the journal says so.
    async fn start_refused(&mut self, refusal: &Refusal) {
        if let Refusal::Link { source: SendRefusal::TooLarge { .. }, .. } = refusal {
            // No attempt would fit: messages, what was said already and the system events that waited are too much together.
            let text = format!("This is too much for one turn: {refusal}");
            return self.end_here(RunStatus::Error, "internal", &text).await;
        }
        // Else it died between the two: the same as a death during the run.
        tracing::info!(session = %self.key, %refusal, "agent worker left before it got the run");
        self.on_worker_gone_now(false).await;
        let lives = matches!(refusal, Refusal::Link { source: SendRefusal::Full, .. } | Refusal::Busy(_));
        if lives && self.starting.take().is_some() {
            // It is up: without a pause the next attempt would come at once, and the one after it.
            self.step_failed("hand a run to its agent", refusal);
        }
    }

    pub(super) async fn on_worker_gone(&mut self, epoch: u64, own_fault: bool) {
        if self.active.as_ref().and_then(Active::epoch) == Some(epoch) {
            self.on_worker_gone_now(own_fault).await;
        }
    }

    async fn on_worker_gone_now(&mut self, own_fault: bool) {
        let Some(active) = &mut self.active else { return };
        active.deadline = None;
        self.typing_at = None;
        let cause = if own_fault { InterruptCause::SelfInflicted } else { InterruptCause::Outside };
        self.interrupt(cause).await;
    }

    /// Notes that the attempt is over, and what follows from it.
    async fn interrupt(&mut self, cause: InterruptCause) {
        let Some(active) = &mut self.active else { return };
        let run_id = active.run_id;
        active.phase = Phase::Interrupting(cause);
        match self.shared.journal.interrupt(run_id, cause, self.shared.now_us()).await {
            Ok(row) => {
                self.set_phase(Phase::Starting);
                match verdict(row.counts, row.times, self.shared.now_us()) {
                    Verdict::Resume => self.start_worker(),
                    Verdict::Poisoned => self.end_poisoned().await,
                    Verdict::Abandoned => {
                        self.end_here(RunStatus::Error, outcome::INTERRUPTED, GIVEN_UP).await;
                    }
                }
            }
            Err(error) if error.retryable() => self.step_failed("note an interruption", &error),
            Err(error) => self.give_up("the end of an attempt cannot be stored", &error).await,
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
        let Some(active) = self.active.as_ref().filter(|active| !active.is_ending()) else { return };
        if active.abort.as_ref().is_some_and(|abort| abort.deadline <= now) {
            let why = active.abort.as_ref().map_or("rpc", |abort| abort.why);
            self.end_here(RunStatus::Aborted, why, "").await;
        } else if active.deadline.is_some_and(|at| at <= now) {
            self.tell_abort("timeout");
            self.end_here(RunStatus::Timeout, "timeout", "").await;
        }
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
