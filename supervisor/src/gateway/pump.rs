//! Hands what workers say to the part that it concerns. One task, in the order of arrival.

use super::Handles;
use super::channel_board::ChannelBoard;
use crate::events::{ChatEventOut, ChatState, GatewayEvent};
use crate::journal::Journal;
use crate::link::FromWorker;
use crate::router::dispatch::Intake;
use crate::rpc::agent_ask;
use crate::scheduler::core::Core;
use crate::scheduler::shared::now_ms;
use crate::worker::{State, WorkerEvent, WorkerEventKind};
use proto::wire::WireError;
use proto::wire::agent::{AgentToSup, AskGateway, MessageAppended, RpcResult, SessionChanged, SupToAgent};
use proto::wire::channel::{ChannelPhase, ChannelToSup};
use proto::wire::handshake::{WorkerId, WorkerKind};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// What the intakes get to store what they hold: the journal answers in milliseconds, and a stuck disk must not hold a
/// restart up for long.
const INTAKE_WITHIN: Duration = Duration::from_secs(2);

/// Calls of agents' tools at once. Each may hold a blocking thread; a gateway has few agents that configure it.
pub const ASKS_MAX: usize = 4;

/// Everything that worker events go to.
pub struct Pump {
    pub core: Core,
    pub intake: Intake,
    pub board: ChannelBoard,
    pub gw: Handles,
    /// Bounds the calls of agents' tools that are under way.
    pub asks: Arc<Semaphore>,
}

impl Pump {
    pub async fn run(self, mut events: mpsc::Receiver<WorkerEvent>) {
        while let Some(event) = events.recv().await {
            self.on_event(event).await;
        }
    }

    async fn on_event(&self, event: WorkerEvent) {
        let WorkerEvent { worker, epoch, kind } = event;
        let delivery = &self.core.shared().delivery;
        match (worker.kind(), kind) {
            (kind, WorkerEventKind::Up { ready }) => {
                tracing::debug!(%worker, epoch, ready, "up");
                if kind == WorkerKind::Channel {
                    delivery.on_up(&worker, epoch).await;
                }
            }
            (WorkerKind::Channel, WorkerEventKind::Down { .. }) => delivery.on_gone(&worker).await,
            (WorkerKind::Agent, WorkerEventKind::Down { class }) => {
                let agent = worker.agent_id().unwrap_or_default();
                self.core.on_agent_gone(agent, epoch, class.own_fault()).await;
            }
            (_, WorkerEventKind::Message { corr, message }) => match message {
                FromWorker::Agent(AgentToSup::AskGateway(call)) => self.on_ask(worker, epoch, corr, call),
                FromWorker::Agent(message) => self.on_agent(&worker, message).await,
                FromWorker::Channel(message) => self.on_channel(&worker, epoch, corr, message).await,
            },
            // Requests of workers are answered within a commit: there is nothing to cancel.
            (_, WorkerEventKind::Cancel { corr }) => tracing::debug!(%worker, corr, "request cancelled"),
            (_, WorkerEventKind::Fence(reached)) => {
                // An acknowledgement that is decided after the links are frozen would never arrive.
                if timeout(INTAKE_WITHIN, self.intake.fence()).await.is_err() {
                    tracing::warn!(
                        "messages are still being stored; their networks' workers offer them again"
                    );
                }
                let _gone = reached.send(());
            }
            (_, WorkerEventKind::State(state)) => self.log_state(&worker, state),
        }
    }

    /// States that wait for a person are told as they come; the others are for who looks closely.
    fn log_state(&self, worker: &WorkerId, state: State) {
        let why =
            self.core.shared().workers.status_of(worker).and_then(|status| status.why).unwrap_or_default();
        match state {
            State::Quarantined => {
                tracing::error!(event = "worker.quarantine", %worker, why, "worker is quarantined");
            }
            State::NeedsLogin => {
                tracing::error!(event = "worker.needsLogin", %worker, why, "worker has to be logged in again");
            }
            _ => tracing::debug!(%worker, ?state, "worker state"),
        }
    }

    /// The agent's tool `gateway`: it may wait for a disk or for an update, so that it is a task of its own.
    fn on_ask(&self, worker: WorkerId, epoch: u64, corr: u64, call: AskGateway) {
        let (gw, place) = (self.gw.clone(), self.asks.clone().try_acquire_owned());
        tokio::task::spawn_local(async move {
            let result = match place {
                Ok(_held) => agent_ask::answer(&gw, worker.agent_id().unwrap_or_default(), call).await,
                Err(_full) => {
                    let busy =
                        WireError::unavailable("the gateway is busy with calls of this tool; try again");
                    RpcResult { ok_json: None, error: Some(busy) }
                }
            };
            if let Err(refusal) = gw.workers.try_reply(&worker, epoch, corr, SupToAgent::Asked(result)) {
                tracing::warn!(%worker, %refusal, "the answer to a gateway tool was not taken");
            }
        });
    }

    async fn on_agent(&self, worker: &WorkerId, message: AgentToSup) {
        match message {
            AgentToSup::SessionChanged(changed) => self.session_changed(changed).await,
            AgentToSup::MessageAppended(appended) => self.message_appended(worker, appended),
            message => self.core.on_agent(worker, message).await,
        }
    }

    async fn session_changed(&self, changed: SessionChanged) {
        let SessionChanged { row, reason } = changed;
        let shared = self.core.shared();
        if let Err(error) = shared.journal.session_changed(vec![row.clone()]).await {
            tracing::warn!(session = row.key, %error, "session index not updated; it is rebuilt at the next start");
        }
        shared.fanout.emit(GatewayEvent::SessionChanged {
            session_key: row.key,
            agent_id: row.agent_id,
            reason,
            run_id: None,
            row: serde_json::from_str(&row.entry_json).unwrap_or_default(),
        });
    }

    fn message_appended(&self, worker: &WorkerId, appended: MessageAppended) {
        let fanout = &self.core.shared().fanout;
        let agent_id = worker.agent_id().unwrap_or_default();
        let message: Value = serde_json::from_str(&appended.message_json).unwrap_or_default();
        if appended.reason == "inject" {
            let text = message.pointer("/content/0/text").or(message.get("content")).and_then(Value::as_str);
            fanout.emit(GatewayEvent::Chat(ChatEventOut {
                run_id: format!("inject-{}", appended.message_id).into(),
                session_key: appended.session_key.as_str().into(),
                agent_id: agent_id.into(),
                seq: 0,
                ts_ms: now_ms(),
                state: ChatState::Final { text: text.map(Arc::from), stop_reason: Some("stop".to_owned()) },
            }));
        }
        fanout.emit(GatewayEvent::SessionMessage {
            session_key: appended.session_key,
            agent_id: agent_id.to_owned(),
            message,
            message_id: appended.message_id,
        });
    }

    async fn on_channel(&self, worker: &WorkerId, epoch: u64, corr: u64, message: ChannelToSup) {
        let Some(account) = worker.0.strip_prefix("channel:") else { return };
        match message {
            ChannelToSup::State(state) => self.board.change(account, |facts| {
                if state.state == ChannelPhase::Up {
                    facts.connected_ms = Some(now_ms());
                }
                facts.state = Some(state);
            }),
            ChannelToSup::Inbound(message) => {
                self.board.change(account, |facts| facts.last_inbound_ms = Some(now_ms()));
                self.intake.message(worker, message).await;
            }
            ChannelToSup::Unreadable(message) => self.intake.unreadable(worker, message).await,
            ChannelToSup::CursorMoved(moved) => self.intake.cursor(worker, moved.cursor).await,
            message => {
                if matches!(message, ChannelToSup::SendResult(_)) {
                    self.board.change(account, |facts| facts.last_outbound_ms = Some(now_ms()));
                }
                self.core.shared().delivery.on_channel(worker, epoch, corr, message).await;
            }
        }
    }
}
