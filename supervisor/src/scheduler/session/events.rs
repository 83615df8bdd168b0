//! What the agent worker says about the active run, and the run's end (C8).

use super::Session;
use crate::delivery::answers::Answers;
use crate::events::GatewayEvent;
use crate::journal::{Finished, Journal, JournalError, RunState};
use crate::scheduler::active::{Active, Phase};
use crate::scheduler::{RunOutcome, outcome, shared};
use crate::trace::Step;
use proto::wire::Id;
use proto::wire::agent::{AgentToSup, Block, Delta, FinalAck, RunFinal, RunStatus, SessionRow, SupToAgent};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Duration, Instant};

/// Pause before the end of a run is offered to a journal that could not take it.
const END_RETRY_MS: u64 = 1_000;

impl Session {
    pub(super) async fn on_agent(&mut self, message: AgentToSup) {
        match message {
            AgentToSup::RunStarted(started) => {
                self.note(started.run_id, "begun", json!({"attempt": started.attempt}));
                if let Some(active) = self.active_run(started.run_id) {
                    active.publisher.set_session_id(&started.session_id);
                    active.update(|progress| progress.started_ms = Some(started.started_ms));
                }
            }
            AgentToSup::Delta(delta) => self.on_delta(&delta).await,
            AgentToSup::RunEvent(event) => {
                if let Some(active) = self.active_run(event.run_id) {
                    active.publisher.run_event(&event);
                }
            }
            AgentToSup::Block(block) => self.on_block(block).await,
            AgentToSup::RunFinal(run) => self.on_final(run).await,
            AgentToSup::RunStep(step) => self.note(step.run_id, &step.kind, facts(&step.detail)),
            AgentToSup::SessionChanged(_)
            | AgentToSup::MessageAppended(_)
            | AgentToSup::Steered(_)
            | AgentToSup::AskGateway(_)
            | AgentToSup::RpcResult(_) => {}
        }
    }

    /// For the trace of the run.
    fn note(&self, run_id: Id, what: &str, facts: Value) {
        self.shared.journal.book().note(Step::new(run_id, &self.worker().0, what, facts));
    }

    fn active_run(&mut self, run_id: Id) -> Option<&mut Active> {
        self.active.as_mut().filter(|active| active.run_id == run_id)
    }

    async fn on_delta(&mut self, delta: &Delta) {
        let Some(active) = self.active_run(delta.run_id) else { return };
        if !active.publisher.delta(delta) {
            return;
        }
        let text = active.publisher.text();
        active.update(|progress| progress.text = text.clone());
        if !active.spec.draft || delta.message > 0 {
            return;
        }
        let run_id = active.run_id;
        let Some(to) = active.spec.deliver_to.clone() else { return };
        let answers = Answers::of(None, active.spec.reply_to.as_deref(), 0);
        let out_id = match active.draft {
            Some(out_id) => out_id,
            None => {
                let out_id = Id::derived(&run_id, "part", 0);
                active.draft = Some(out_id);
                self.shared.delivery.draft_open(&to, out_id, run_id, answers).await;
                out_id
            }
        };
        self.shared.delivery.draft_update(&to, out_id, &text);
    }

    async fn on_block(&mut self, block: Block) {
        let now_us = self.shared.now_us();
        let Some(active) = self.active_run(block.run_id) else { return };
        let Some(row) = outcome::outbox_row(&active.run_id, &active.spec, &block.out, now_us) else { return };
        let account = row.account.clone();
        // A block that the journal cannot take now comes again with the run's end.
        match self.shared.journal.add_outbox(vec![row]).await {
            Ok(_new) => self.shared.delivery.wake(&account),
            Err(error) => tracing::warn!(session = %self.key, %error, "block not stored"),
        }
    }

    async fn on_final(&mut self, run: RunFinal) {
        let Some(active) = self.active_run(run.run_id) else {
            // It was ended before (a repeated final, or one that came after the time-out).
            self.acknowledge(run.run_id);
            return;
        };
        if !matches!(active.phase, Phase::Ending(_)) {
            self.end(run).await;
        }
    }

    fn acknowledge(&self, run_id: Id) {
        proto::runtime::failpoint::hit("sv.finalack.before");
        let ack = SupToAgent::FinalAck(FinalAck { run_id });
        if let Err(refusal) = self.shared.workers.try_send(&self.worker(), ack) {
            tracing::debug!(session = %self.key, %refusal, "final not acknowledged; it will be offered again");
        }
    }

    /// C8, then everyone is told: the worker, the clients, the chat.
    pub(super) async fn end(&mut self, run: RunFinal) {
        let now_us = self.shared.now_us();
        let Some(run_id) = self.active.as_ref().map(|active| active.run_id) else { return };
        proto::runtime::failpoint::hit("sv.c8.before");
        let (run, finished) = match self.store_end(run, now_us).await {
            Ok(stored) => stored,
            Err((run, error)) => {
                tracing::warn!(run = %run_id, %error, "the end of a run waits for the journal");
                self.set_phase(Phase::Ending(run));
                self.retry_at = Some(Instant::now() + Duration::from_millis(END_RETRY_MS));
                return;
            }
        };
        proto::runtime::failpoint::hit("sv.c8.after");
        let Some(mut active) = self.active.take() else { return };
        // The final of an attempt that was written off may come while the next one waits for its worker.
        (self.typing_at, self.starting) = (None, None);
        if active.from_queue {
            self.queue.settle(true, self.shared.now());
        }
        self.shared.owners.borrow_mut().remove(&run_id);
        self.shared.blame.ends(&self.agent_id, run_id);
        self.shared.workers.work_ends(&self.worker(), &format!("run {run_id}"));
        if active.epoch().is_some() {
            self.acknowledge(run_id);
        }
        if run.command {
            active.publisher.command_reply(&run);
        } else {
            active.publisher.end(&run);
        }
        self.tell_followers(&active, &run);
        active.answer_abort_waiters();
        if let Some(row) = &run.session {
            self.tell_session(row, &active.spec.client_run_id);
        }
        self.shared.delivery.finished(active.spec.deliver_to.as_ref(), finished.drafts_left);
    }

    /// C8 itself. An end that the journal will never take as it is (a fault of ours) becomes an error that it can take: a person
    /// is told, and the session goes on. On `Err` it has to be tried again with the same end.
    async fn store_end(
        &mut self,
        run: RunFinal,
        now_us: i64,
    ) -> Result<(RunFinal, Finished), (Box<RunFinal>, JournalError)> {
        let none = Finished {
            already: true,
            state: RunState::Failed,
            inserted: Vec::new(),
            drafts_left: Vec::new(),
        };
        if let Some(active) = &self.active
            && matches!(active.phase, Phase::Claiming)
        {
            // It has no row yet, only its messages have.
            let seqs = active.seqs.clone();
            self.forget(seqs).await;
            return Ok((run, none));
        }
        if let Err(error) = self.claim_owed(run.run_id).await
            && error.retryable()
        {
            return Err((Box::new(run), error));
        }
        let (spec, agent_id) = match &self.active {
            Some(active) => (active.spec.clone(), self.agent_id.clone()),
            None => return Err((Box::new(run), JournalError::Closed)),
        };
        let finish =
            |run: &RunFinal| outcome::finish(run.run_id, &agent_id, &spec, run, shared::today(), now_us);
        let error = match self.shared.journal.finish_run(finish(&run)).await {
            Ok(finished) => return Ok((run, finished)),
            Err(error) if error.retryable() || matches!(error, JournalError::Closed) => {
                return Err((Box::new(run), error));
            }
            Err(error) => error,
        };
        tracing::error!(run = %run.run_id, %error, "the end of a run was refused");
        let text = format!("The reply could not be stored: {error}");
        let now_ms = self.shared.now_ms();
        let failed =
            outcome::ended_here(run.run_id, run.attempt, RunStatus::Error, "internal", &text, now_ms);
        match self.shared.journal.finish_run(finish(&failed)).await {
            Ok(finished) => Ok((failed, finished)),
            Err(error) if error.retryable() => Err((Box::new(run), error)),
            // There is no such run any more: nothing is left to be stored.
            Err(error) => {
                tracing::error!(run = %run.run_id, %error, "a run without a row is over");
                Ok((failed, none))
            }
        }
    }

    pub(super) fn tell_followers(&self, active: &Active, run: &RunFinal) {
        let mut runs = self.shared.runs.borrow_mut();
        for id in &active.client_ids {
            let outcome: Arc<RunOutcome> = outcome::outcome_of(run).into();
            runs.end(id, &outcome);
        }
    }

    fn tell_session(&self, row: &SessionRow, run_id: &str) {
        self.shared.fanout.emit(GatewayEvent::SessionChanged {
            session_key: row.key.clone(),
            agent_id: row.agent_id.clone(),
            reason: "turn".to_owned(),
            run_id: Some(run_id.to_owned()),
            row: serde_json::from_str(&row.entry_json).unwrap_or_default(),
        });
    }
}

/// A step's detail: an object, or words.
fn facts(detail: &str) -> Value {
    match serde_json::from_str(detail) {
        Ok(Value::Object(facts)) => Value::Object(facts),
        _ => json!({"detail": detail}),
    }
}
