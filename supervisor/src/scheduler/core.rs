//! The task behind [`Scheduler`](super::Scheduler): hands each command to the task of its session, starting that on demand.

mod carry;

use super::session::{SESSION_COMMANDS_MAX, Session, SessionCommand};
use super::shared::Shared;
use super::{Aborted, Command, Refusal, RunProgress, outcome};
use crate::journal::{InboundRow, Journal, JournalError, Recovered, RunRow};
use proto::wire::agent::{AgentToSup, RunFinal};
use proto::wire::handshake::WorkerId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Looks for a message that was put back, and the pause between them: as long as a disk is worth waiting for (2 min).
const REVIVE_TRIES: u32 = 120;
const REVIVE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

type Tasks = Rc<RefCell<HashMap<String, Task>>>;

struct Task {
    commands: mpsc::Sender<SessionCommand>,
    agent_id: Rc<str>,
}

/// Clonable within the core's thread.
#[derive(Clone)]
pub struct Core {
    shared: Rc<Shared>,
    tasks: Tasks,
}

impl Core {
    pub fn new(shared: Rc<Shared>) -> Self {
        Self { shared, tasks: Tasks::default() }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Serves commands until every handle is gone.
    pub async fn serve(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            self.on_command(command).await;
        }
    }

    /// Of a run that ended in an earlier life, or so long ago that memory has forgotten it, the journal knows the end.
    fn follow(&self, run_id: String, reply: oneshot::Sender<Option<watch::Receiver<RunProgress>>>) {
        let known = self.shared.runs.borrow().follow(&run_id);
        if known.is_some() {
            let _gone = reply.send(known);
            return;
        }
        let journal = self.shared.journal.clone();
        tokio::task::spawn_local(async move {
            let row = match journal.run_by_client_id(run_id).await {
                Ok(row) => row.filter(|row| row.state.ended()),
                Err(error) => {
                    tracing::warn!(%error, "the end of an earlier run cannot be read");
                    None
                }
            };
            let outcome = row.and_then(|row| outcome::stored_outcome(&row.outcome?)).map(Arc::new);
            let ended = outcome.map(|outcome| {
                watch::Sender::new(RunProgress { outcome: Some(outcome), ..RunProgress::default() })
                    .subscribe()
            });
            let _gone = reply.send(ended);
        });
    }

    async fn on_command(&self, command: Command) {
        match command {
            Command::Submit(request, reply) => {
                let (key, agent) = (request.session_key.clone(), request.agent_id.clone());
                self.tell(&key, &agent, SessionCommand::Submit(request, reply)).await;
            }
            Command::Follow(run_id, reply) => self.follow(run_id, reply),
            Command::Abort { session_key, run_id, why, reply } => {
                let owner = run_id
                    .as_deref()
                    .and_then(|id| self.shared.runs.borrow().session_of(id).map(str::to_owned));
                if let (Some(run_id), Some(owner)) = (&run_id, &owner)
                    && *owner != session_key
                {
                    let refusal = Refusal::ForeignRun { run_id: run_id.clone(), session_key };
                    let _gone = reply.send(Err(refusal));
                    return;
                }
                let agent = self.tasks.borrow().get(&session_key).map(|task| task.agent_id.clone());
                match agent {
                    Some(agent) => {
                        self.tell(&session_key, &agent, SessionCommand::Abort { run_id, why, reply }).await;
                    }
                    None => {
                        let _gone = reply.send(Ok(Aborted::default()));
                    }
                }
            }
            Command::Status(reply) => {
                let mut status = self.shared.board.borrow().status(self.shared.draining());
                status.waits = self.shared.blame.waits();
                let _gone = reply.send(status);
            }
            Command::SystemEvent { session_key, text, wake, reply } => {
                let _gone = reply.send(self.system_event(&session_key, text, wake).await);
            }
            Command::ClearSession { session_key, reply } => {
                let agent = self.tasks.borrow().get(&session_key).map(|task| task.agent_id.clone());
                match agent {
                    Some(agent) => self.tell(&session_key, &agent, SessionCommand::Clear(reply)).await,
                    None => {
                        let _gone = reply.send(());
                    }
                }
            }
            Command::Revive(seq) => self.revive(seq).await,
            Command::Deliver(account) => self.shared.delivery.wake(&account),
            Command::Pace(pace, reply) => {
                self.shared.pace.set(pace);
                let _gone = reply.send(());
            }
        }
    }

    async fn system_event(&self, session_key: &str, text: String, wake: bool) -> Result<(), Refusal> {
        let pushed = self
            .shared
            .journal
            .system_event_push(session_key.to_owned(), text, None, self.shared.now_us())
            .await;
        pushed.map_err(|error| Refusal::Journal(error.to_string()))?;
        if wake {
            let agent = crate::router::agent_of_key(session_key);
            self.tell(session_key, &agent, SessionCommand::Wake).await;
        }
        Ok(())
    }

    /// Hands a command to a session's task; starts the task when there is none.
    async fn tell(&self, session_key: &str, agent_id: &str, command: SessionCommand) {
        let mut command = command;
        loop {
            let commands = self.task(session_key, agent_id);
            match commands.send(command).await {
                Ok(()) => return,
                // The task retired between the two; a new one takes it.
                Err(mpsc::error::SendError(back)) => {
                    self.tasks.borrow_mut().remove(session_key);
                    command = back;
                }
            }
        }
    }

    fn task(&self, session_key: &str, agent_id: &str) -> mpsc::Sender<SessionCommand> {
        if let Some(task) = self.tasks.borrow().get(session_key) {
            return task.commands.clone();
        }
        let (commands, inbox) = mpsc::channel(SESSION_COMMANDS_MAX);
        let task = Task { commands: commands.clone(), agent_id: agent_id.into() };
        self.tasks.borrow_mut().insert(session_key.to_owned(), task);
        let session = Session::new(session_key, agent_id, self.shared.clone());
        let (tasks, key) = (self.tasks.clone(), session_key.to_owned());
        tokio::task::spawn_local(session.run(inbox, move || {
            let mut tasks = tasks.borrow_mut();
            // Somebody holds a sender that it has not used yet: stay.
            let wanted = tasks.get(&key).is_some_and(|task| task.commands.strong_count() > 1);
            if !wanted {
                tasks.remove(&key);
            }
            !wanted
        }));
        commands
    }

    /// Aborts what a session does and forgets what waits there.
    pub async fn abort_session(&self, session_key: &str, why: &'static str) {
        let (reply, ended) = tokio::sync::oneshot::channel();
        let command = Command::Abort { session_key: session_key.to_owned(), run_id: None, why, reply };
        self.on_command(command).await;
        // Nobody waits for the answer: the run's own end tells.
        drop(ended);
    }

    /// A message of a network whose C1 is committed.
    pub async fn queued(&self, row: InboundRow) {
        let (key, agent) = (row.session_key.clone(), row.agent.clone());
        self.tell(&key, &agent, SessionCommand::Queued(Box::new(row))).await;
    }

    /// The row is read again for a while when the journal cannot: nobody else would tell its session.
    async fn revive(&self, seq: i64) {
        let core = self.clone();
        tokio::task::spawn_local(async move {
            for _ in 0..REVIVE_TRIES {
                match core.shared.journal.inbound(seq).await {
                    Ok(Some(row)) => {
                        let (key, agent) = (row.session_key.clone(), row.agent.clone());
                        core.tell(&key, &agent, SessionCommand::Restored(Box::new(row))).await;
                        return;
                    }
                    Ok(None) => return tracing::error!(seq, "a message that was put back is gone"),
                    Err(error) => {
                        tracing::warn!(seq, %error, "a message that was put back cannot be read yet")
                    }
                }
                tokio::time::sleep(REVIVE_PAUSE).await;
            }
            tracing::error!(seq, "a message that was put back waits for the next start");
        });
    }

    /// After a start: goes on with what the last life left. At the return every run and message of it can be waited for
    /// by the id that its client knows.
    pub async fn resume(&self, recovered: Recovered) -> Result<(), JournalError> {
        let runs = recovered.interrupted.into_iter().chain(recovered.pending).chain(recovered.abandoned);
        for row in runs {
            let messages = self.shared.journal.inbound_of_run(row.run_id).await?;
            let ids = messages.into_iter().filter_map(|message| message.client_run_id);
            for id in ids.chain([row.client_run_id.clone()]) {
                self.shared.runs.borrow_mut().open(&id, &row.session_key);
            }
            self.resume_run(row).await;
        }
        for session_key in recovered.queued_sessions {
            for row in self.shared.journal.open_inbound(Some(session_key)).await? {
                if let Some(id) = &row.client_run_id {
                    self.shared.runs.borrow_mut().open(id, &row.session_key);
                }
                let (key, agent) = (row.session_key.clone(), row.agent.clone());
                self.tell(&key, &agent, SessionCommand::Restored(Box::new(row))).await;
            }
        }
        Ok(())
    }

    async fn resume_run(&self, row: RunRow) {
        let (key, agent) = (row.session_key.clone(), row.agent.clone());
        self.tell(&key, &agent, SessionCommand::Resume(Box::new(row))).await;
    }

    /// What an agent worker says about a run. A run that no session knows (it ended in an earlier life) is acknowledged.
    pub async fn on_agent(&self, worker: &WorkerId, message: AgentToSup) {
        let run_id = match &message {
            AgentToSup::RunStarted(m) => m.run_id,
            AgentToSup::RunStep(m) => m.run_id,
            AgentToSup::Delta(m) => m.run_id,
            AgentToSup::Block(m) => m.run_id,
            AgentToSup::RunFinal(m) => m.run_id,
            AgentToSup::RunEvent(m) => m.run_id,
            AgentToSup::SessionChanged(_)
            | AgentToSup::MessageAppended(_)
            | AgentToSup::Steered(_)
            | AgentToSup::AskGateway(_)
            | AgentToSup::RpcResult(_) => return,
        };
        let owner = self.shared.owners.borrow().get(&run_id).cloned();
        match (owner, message) {
            (Some(key), message) => {
                let agent = worker.agent_id().unwrap_or_default().to_owned();
                self.tell(&key, &agent, SessionCommand::Agent(Box::new(message))).await;
            }
            (None, AgentToSup::RunFinal(run)) => self.late_final(worker, &run),
            (None, _) => {}
        }
    }

    fn late_final(&self, worker: &WorkerId, run: &RunFinal) {
        let ack = proto::wire::agent::FinalAck { run_id: run.run_id };
        if let Err(refusal) =
            self.shared.workers.try_send(worker, proto::wire::agent::SupToAgent::FinalAck(ack))
        {
            tracing::debug!(%worker, %refusal, "late final not acknowledged");
        }
    }

    /// An agent worker died: every session of it learns.
    pub async fn on_agent_gone(&self, agent_id: &str, epoch: u64, own_fault: bool) {
        let own_fault = self.shared.blame.died(agent_id, epoch, own_fault);
        let concerned: Vec<String> = {
            let tasks = self.tasks.borrow();
            tasks.iter().filter(|(_, task)| &*task.agent_id == agent_id).map(|(key, _)| key.clone()).collect()
        };
        for key in concerned {
            self.tell(&key, agent_id, SessionCommand::WorkerGone { epoch, own_fault }).await;
        }
    }
}
