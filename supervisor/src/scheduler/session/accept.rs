//! Intake of one session: C1 for requests, the queue for everything.

use super::Session;
use crate::journal::{
    AcceptInbound, Accepted, DedupeClaim, DedupeRow, Disposition, InboundRow, InboundState, Journal,
    JournalError, NewInbound, NewRun, RunRow,
};
use crate::scheduler::outcome::{self, stored_outcome};
use crate::scheduler::pending::{Grouping, Pending};
use crate::scheduler::publish::Publisher;
use crate::scheduler::queue::settings::{Overrides, resolve};
use crate::scheduler::queue::{Action, Activity, Arrival, Kind, Settings};
use crate::scheduler::stored::StoredTurn;
use crate::scheduler::{Refusal, RunOutcome, SubmitStatus, Submitted, TurnRequest, shared};
use proto::wire::Id;
use proto::wire::agent::{Origin, OriginKind, RunInput, RunOverrides};
use std::sync::Arc;

impl Session {
    /// C1, then the queue. `Ok` means durable.
    pub(super) async fn submit(&mut self, request: TurnRequest) -> Result<Submitted, Refusal> {
        if self.shared.draining() {
            return Err(Refusal::Draining);
        }
        let turn = StoredTurn::of(&request);
        let now_us = self.shared.now_us();
        let accept = AcceptInbound {
            inbound: NewInbound {
                account: "rpc".to_owned(),
                ext_id: Id::now().to_string(),
                chat: self.key.to_string(),
                session_key: self.key.to_string(),
                agent: self.agent_id.to_string(),
                client_run_id: Some(request.idempotency_key.clone()),
                recv_us: now_us,
                net_ts_us: None,
                body: turn.encode(),
                raw_hash: None,
                disposition: Disposition::Queue,
            },
            cursor: None,
            dedupe: Some(DedupeClaim {
                method: request.method.to_owned(),
                key: request.idempotency_key.clone(),
                req_hash: None,
                now_us,
            }),
            notes: Vec::new(),
        };
        let accepted = match self.at_once(&turn) {
            Some(ready) => {
                let (run, spec) = (self.new_run(ready.run_id, &ready.spec, Vec::new()), ready.spec.clone());
                let run = move |seq| {
                    let spec = spec.clone().of_message(seq).encode();
                    NewRun { spec, inbound: vec![seq], ..run.clone() }
                };
                let accepted = self.shared.journal.accept_and_begin(accept.clone(), run, ready.epoch).await;
                match accepted {
                    Ok((Accepted::New { seq }, Some(start))) => {
                        let answer = self.answer(&request.idempotency_key, SubmitStatus::Started);
                        self.begun(ready, seq, start).await;
                        return Ok(answer);
                    }
                    // Its last run is not closed yet: this one waits for it.
                    Err(JournalError::SessionBusy { .. }) => self.shared.journal.accept_inbound(accept).await,
                    other => other.map(|(accepted, _)| accepted),
                }
            }
            None => self.shared.journal.accept_inbound(accept).await,
        };
        match accepted {
            Ok(Accepted::New { seq }) => Ok(self.accepted(seq, turn, &request).await),
            Ok(Accepted::Replayed(row)) => self.replayed(&request.idempotency_key, row).await,
            Ok(Accepted::Duplicate(row)) => Ok(self.known(&row.client_run_id.unwrap_or_default())),
            Err(error) => Err(Refusal::Journal(error.to_string())),
        }
    }

    async fn accepted(&mut self, seq: i64, turn: StoredTurn, request: &TurnRequest) -> Submitted {
        let progress = self.shared.runs.borrow_mut().open(&request.idempotency_key, &self.key);
        let grouping = Grouping::of(&turn);
        let busy = !self.is_idle();
        let waited = busy && grouping == Grouping::ByMode;
        let status = if busy { SubmitStatus::Queued } else { SubmitStatus::Started };
        let answer = self.answer(&request.idempotency_key, status);
        self.push(Pending { seq, turn, waited, progress: Some(progress) }, grouping).await;
        answer
    }

    fn answer(&self, run_id: &str, status: SubmitStatus) -> Submitted {
        let progress = self.shared.runs.borrow_mut().open(run_id, &self.key).subscribe();
        Submitted { run_id: run_id.to_owned(), status, accepted_ms: self.shared.now_ms(), progress }
    }

    pub(super) fn publisher(&self, run_id: &str) -> Publisher {
        Publisher::new(self.shared.fanout.clone(), run_id, &self.key, &self.agent_id, shared::now_ms)
    }

    /// The key is known: answer from memory, else from the journal.
    async fn replayed(&mut self, key: &str, row: DedupeRow) -> Result<Submitted, Refusal> {
        if self.shared.runs.borrow().follow(key).is_none()
            && let Some(outcome) = self.outcome_from_journal(key, &row).await?
        {
            let outcome = Arc::new(outcome);
            let mut runs = self.shared.runs.borrow_mut();
            runs.open(key, &self.key);
            runs.end(key, &outcome);
        }
        Ok(self.known(key))
    }

    async fn outcome_from_journal(&self, key: &str, row: &DedupeRow) -> Result<Option<RunOutcome>, Refusal> {
        let refused = |error: crate::journal::JournalError| Refusal::Journal(error.to_string());
        if let Some(stored) = &row.res {
            return Ok(stored_outcome(stored));
        }
        let journal = &self.shared.journal;
        let mut run = journal.run_by_client_id(key.to_owned()).await.map_err(refused)?;
        if run.is_none()
            && let Some(seq) = row.inbound_seq
            && let Some(inbound) = journal.inbound(seq).await.map_err(refused)?
        {
            if inbound.state == InboundState::Suppressed {
                // It was dropped while it waited: no run will ever tell its end.
                return Ok(Some(outcome::outcome_of(&outcome::dropped(self.shared.now_ms()))));
            }
            if let Some(run_id) = inbound.run_id {
                run = journal.run(run_id).await.map_err(refused)?;
            }
        }
        Ok(run.filter(|run| run.state.ended()).and_then(|run| stored_outcome(&run.outcome?)))
    }

    fn known(&self, key: &str) -> Submitted {
        let mut answer = self.answer(key, SubmitStatus::InFlight);
        if answer.progress.borrow().outcome.is_some() {
            answer.status = SubmitStatus::Done;
        }
        answer
    }

    /// A message of a network, whose C1 is committed.
    pub(super) async fn enqueue_row(&mut self, row: InboundRow) {
        let waited = !self.is_idle();
        if let Some((pending, grouping)) = self.pending_of(row, waited) {
            self.push(pending, grouping).await;
        }
    }

    /// A message that waited when the gateway ended.
    pub(super) fn restore_row(&mut self, row: InboundRow) {
        if self.active.as_ref().is_some_and(|active| active.unclaimed.contains(&row.seq)) {
            // The run of the image before has it already.
            return;
        }
        match self.pending_of(row, false) {
            Some((pending, Grouping::Alone)) => self.solo.push_back(pending),
            Some((pending, Grouping::ByMode)) => {
                let settings = self.queue_settings(&pending.turn.origin.channel);
                self.queue.restore(pending.into_item(), settings);
            }
            None => {}
        }
    }

    fn pending_of(&self, row: InboundRow, waited: bool) -> Option<(Pending, Grouping)> {
        let Some(turn) = StoredTurn::decode(&row.body) else {
            tracing::error!(seq = row.seq, session = %self.key, "stored message cannot be read; it stays in the journal");
            return None;
        };
        let own_id = Some(turn.client_run_id.as_str()).filter(|id| !id.is_empty());
        let progress = own_id.map(|id| self.shared.runs.borrow_mut().open(id, &self.key));
        let grouping = Grouping::of(&turn);
        // One that was put back by hand had its end told under its own id already: its next run has another.
        let waited = waited || row.attempts > 0;
        Some((Pending { seq: row.seq, turn, waited, progress }, grouping))
    }

    pub(super) async fn resume(&mut self, row: RunRow) {
        self.shared.runs.borrow_mut().open(&row.client_run_id, &self.key);
        // Whoever waits for one of its messages asks by that message's id.
        match self.shared.journal.inbound_of_run(row.run_id).await {
            Ok(messages) => {
                for id in messages.into_iter().filter_map(|message| message.client_run_id) {
                    self.shared.runs.borrow_mut().open(&id, &self.key);
                }
            }
            Err(error) => {
                tracing::warn!(session = %self.key, %error, "messages of a resumed run cannot be waited for yet");
            }
        }
        self.resuming.push_back(row);
    }

    fn queue_settings(&self, channel: &str) -> Settings {
        let config = self.shared.config.current();
        resolve(Overrides::default(), Overrides::default(), channel, None, &config.view.messages.queue)
    }

    /// Puts a message where it waits for its turn.
    async fn push(&mut self, pending: Pending, grouping: Grouping) {
        if grouping == Grouping::Alone {
            self.solo.push_back(pending);
            return;
        }
        let activity = match &self.active {
            Some(active) if active.epoch().is_some() => Activity::Streaming,
            Some(_) => Activity::Busy,
            None if self.taken.is_some() || !self.solo.is_empty() => Activity::Busy,
            None => Activity::Idle,
        };
        let settings = self.queue_settings(&pending.turn.origin.channel);
        let item = pending.into_item();
        let arrival = self.queue.arrive(item, Kind::Message, activity, settings, self.shared.now());
        self.arrived(arrival).await;
    }

    async fn arrived(&mut self, arrival: Arrival<Pending>) {
        let mut dropped = arrival.dropped;
        match arrival.action {
            Action::Run(item) => self.solo.push_back(item.payload),
            Action::Queued => {}
            Action::Steer { item, also_queued } => self.steer(item, also_queued).await,
            Action::Interrupt => self.stop_active("interrupt").await,
            Action::Duplicate(item) | Action::Rejected(item) | Action::DroppedHeartbeat(item) => {
                dropped.push(item)
            }
        }
        self.close_waiting();
        self.drop_items(dropped).await;
    }

    /// Messages that wait are closed under their own ids: their turn will run under another.
    fn close_waiting(&self) {
        if let Some(item) = self.queue.items().last()
            && item.payload.waited
            && item.payload.turn.origin.kind == OriginKind::Chat
        {
            self.publisher(&item.payload.turn.client_run_id).queued();
        }
    }

    /// A turn without a message: the waiting system events are its prompt.
    pub(super) async fn wake_turn(&mut self) {
        let key = format!("wake-{}", Id::now());
        let request = TurnRequest {
            method: "wake",
            idempotency_key: key,
            agent_id: self.agent_id.to_string(),
            session_key: self.key.to_string(),
            input: RunInput {
                text: "Look at the system events above and act on them.".to_owned(),
                ts_ms: self.shared.now_ms(),
                ..RunInput::default()
            },
            overrides: RunOverrides::default(),
            origin: Origin { kind: OriginKind::System, channel: "webchat".to_owned(), ..Origin::default() },
            deliver_to: None,
            timeout_ms: None,
            lane: "main".to_owned(),
        };
        if let Err(error) = self.submit(request).await {
            tracing::warn!(session = %self.key, %error, "wake-up not accepted");
        }
    }
}
