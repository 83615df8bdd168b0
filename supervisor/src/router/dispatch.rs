//! Intake of the chat networks: who is let in, which agent and session it concerns, C1, the acknowledgement.
//!
//! ```text
//! Inbound ─ access ─┬─ allowed ──── route ─ C1 queued ──── ack ─> scheduler
//!                   ├─ stranger ─── C1 suppressed + code ─ ack
//!                   ├─ not addressed: kept as context, C1 suppressed, ack
//!                   └─ blocked ──── C1 suppressed ──────── ack
//! ```
//!
//! One task per account keeps the order. Nothing is acknowledged before its C1.

mod answer;
mod context;

use super::access::{self, Access, CommandFacts, Mention};
use super::group_history::GroupHistory;
use super::pairing::{self, PairingError, PairingStore};
use super::route::{self, Arrival, Sub};
use crate::config::{ConfigHandle, ConfigSnapshot};
use crate::delivery::worker_of;
use crate::journal::{
    AcceptInbound, Accepted, CursorUpdate, Disposition, Journal, JournalError, JournalHandle, NewInbound,
    NewOutbox,
};
use crate::scheduler::core::Core;
use crate::scheduler::shared::now_us;
use crate::scheduler::stop_words::is_stop_request;
use crate::scheduler::stored::StoredTurn;
use crate::worker::Workers;
use context::context;
use proto::view::{AccountView, PeerKind};
use proto::wire::agent::{Origin, OriginKind, RunInput, Target};
use proto::wire::channel::{ChatKind, Cursor, InboundAck, InboundMsg, InboundNack, SupToChannel, Unreadable};
use proto::wire::handshake::WorkerId;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};

/// Messages waiting for one account's intake; the link's credit holds the rest back in the worker.
const INTAKE_MAX: usize = 256;
/// When the worker offers a message again that could not be stored.
const NACK_RETRY_MS: u32 = 5_000;

/// Handle of all intakes, for the core's thread.
#[derive(Clone)]
pub struct Intake {
    parts: Rc<Parts>,
    accounts: Rc<RefCell<HashMap<String, mpsc::Sender<Item>>>>,
}

struct Parts {
    config: ConfigHandle,
    journal: JournalHandle,
    workers: Workers,
    core: Core,
    pairing: PairingStore,
}

enum Item {
    Message(Box<InboundMsg>),
    Unreadable(Box<Unreadable>),
    Cursor(Cursor),
    /// Answered when everything before it is worked off.
    Fence(oneshot::Sender<()>),
}

impl Intake {
    pub fn new(core: Core, pairing: PairingStore) -> Self {
        let shared = core.shared();
        let (config, journal, workers) =
            (shared.config.clone(), shared.journal.clone(), shared.workers.clone());
        Self { parts: Rc::new(Parts { config, journal, workers, core, pairing }), accounts: Rc::default() }
    }

    pub async fn message(&self, worker: &WorkerId, message: InboundMsg) {
        self.tell(worker, Item::Message(Box::new(message))).await;
    }

    pub async fn unreadable(&self, worker: &WorkerId, message: Unreadable) {
        self.tell(worker, Item::Unreadable(Box::new(message))).await;
    }

    pub async fn cursor(&self, worker: &WorkerId, cursor: Cursor) {
        self.tell(worker, Item::Cursor(cursor)).await;
    }

    /// Waits until everything that was told so far is stored and acknowledged, or refused.
    pub async fn fence(&self) {
        let accounts: Vec<_> = self.accounts.borrow().values().cloned().collect();
        let mut passing = Vec::new();
        for items in accounts {
            let (reached, passed) = oneshot::channel();
            if items.send(Item::Fence(reached)).await.is_ok() {
                passing.push(passed);
            }
        }
        for passed in passing {
            let _gone = passed.await;
        }
    }

    async fn tell(&self, worker: &WorkerId, item: Item) {
        let Some((channel, account)) = worker.account() else { return };
        let items = self.account(channel, account);
        if items.send(item).await.is_err() {
            tracing::error!(%worker, "intake task is gone");
        }
    }

    fn account(&self, channel: &str, account: &str) -> mpsc::Sender<Item> {
        let key = format!("{channel}:{account}");
        let mut accounts = self.accounts.borrow_mut();
        if let Some(items) = accounts.get(&key) {
            return items.clone();
        }
        let (items, mut inbox) = mpsc::channel(INTAKE_MAX);
        accounts.insert(key.clone(), items.clone());
        let mut task = AccountIntake {
            parts: self.parts.clone(),
            channel: channel.to_owned(),
            account: account.to_owned(),
            key,
            history: GroupHistory::default(),
        };
        tokio::task::spawn_local(async move {
            while let Some(item) = inbox.recv().await {
                task.on_item(item).await;
            }
        });
        items
    }
}

/// One account's intake.
struct AccountIntake {
    parts: Rc<Parts>,
    channel: String,
    account: String,
    /// `<channel>:<account>`
    key: String,
    history: GroupHistory,
}

/// A message that was let in, on its way to C1.
struct Admitted {
    agent: String,
    session_key: String,
    turn: StoredTurn,
    disposition: Disposition,
}

impl AccountIntake {
    async fn on_item(&mut self, item: Item) {
        match item {
            Item::Message(message) => self.on_message(*message).await,
            Item::Unreadable(message) => self.on_unreadable(*message).await,
            Item::Fence(reached) => {
                let _gone = reached.send(());
            }
            Item::Cursor(cursor) => {
                let update =
                    CursorUpdate { account: self.key.clone(), scope: cursor.scope, value: cursor.value };
                if let Err(error) = self.parts.journal.cursor_put(update).await {
                    tracing::warn!(account = %self.key, %error, "position not stored; the network will repeat");
                }
            }
        }
    }

    /// Kept as it came, for a person to look at; nobody here looks into it.
    async fn on_unreadable(&self, message: Unreadable) {
        let Unreadable { ext_id, raw, cursor } = message;
        let inbound = NewInbound {
            account: self.key.clone(),
            ext_id: ext_id.clone(),
            chat: String::new(),
            session_key: String::new(),
            agent: String::new(),
            client_run_id: None,
            recv_us: now_us(),
            net_ts_us: None,
            body: raw.into_bytes(),
            raw_hash: None,
            disposition: Disposition::Suppress,
        };
        let account = self.key.clone();
        let cursor = cursor.map(|Cursor { scope, value }| CursorUpdate { account, scope, value });
        match self
            .parts
            .journal
            .bury(AcceptInbound { inbound, cursor, dedupe: None, notes: Vec::new() })
            .await
        {
            Ok(_) => self.acknowledge(&ext_id),
            Err(error) => self.refuse(&ext_id, &error),
        }
    }

    async fn on_message(&mut self, message: InboundMsg) {
        let config = self.parts.config.current();
        let channel = config.view.channels.get(&self.channel);
        let view = channel.and_then(|channel| channel.accounts.get(&self.account)).cloned();
        let allowed = match self.access(&config, view.as_ref(), &message).await {
            Ok(allowed) => allowed,
            Err(error) => return self.refuse(&message.ext_id, &error),
        };
        tracing::debug!(account = %self.key, ext_id = message.ext_id, ?allowed, "message at the door");
        let admitted = self.admit(&config, view.as_ref(), &message, allowed);
        let stop = admitted.disposition == Disposition::Queue
            && admitted.turn.input.authorised
            && is_stop_request(&message.text);
        let disposition = if stop { Disposition::Suppress } else { admitted.disposition };
        // Before C1: a crash in between offers the message again, one after it would forget what it asked for.
        let note = match allowed {
            Access::Allow(_) if stop => self.stopped(&message, &admitted.session_key).await,
            Access::Challenge => self.challenge(&message).await,
            _ => None,
        };
        let told = note.is_some();
        let inbound = self.inbound(&message, &admitted, disposition);
        match self.commit(&message, inbound.clone(), note).await {
            Ok(Accepted::New { seq }) => {
                proto::runtime::failpoint::hit("sv.c1.after");
                self.acknowledge(&message.ext_id);
                if told {
                    self.parts.core.shared().delivery.wake(&self.key);
                }
                match allowed {
                    Access::Allow(_) if !stop => self.parts.core.queued(inbound.queued_as(seq)).await,
                    Access::NotAddressed => self.history.keep(&message.chat.id, &message),
                    Access::Block(reason) => tracing::debug!(reason = reason.code(), "not let in"),
                    Access::Allow(_) | Access::Challenge => {}
                }
            }
            Ok(Accepted::Duplicate(_) | Accepted::Replayed(_)) => self.acknowledge(&message.ext_id),
            Err(error) => self.refuse(&message.ext_id, &error),
        }
    }

    async fn access(
        &self,
        config: &ConfigSnapshot,
        view: Option<&AccountView>,
        message: &InboundMsg,
    ) -> Result<Access, PairingError> {
        let Some(view) = view else { return Ok(Access::Block(access::Reason::DmDisabled)) };
        if message.chat.kind == ChatKind::Direct {
            let paired = self.paired().await?;
            return Ok(access::direct(view, &self.channel, &message.sender.id, &paired));
        }
        let (chat, topic) = (message.chat.id.as_str(), message.chat.thread.as_deref());
        let access = access::group(Some(view), &self.channel, chat, topic, &message.sender.id);
        let is_command = message.text.trim_start().starts_with('/');
        let mention = Mention {
            required: view.require_mention(chat, topic),
            detectable: true,
            mentioned: message.mentioned,
            reply_to_bot: message.reply_to_bot,
            authorised_command: is_command && self.may_command(config, view, message, true),
            always: false,
        };
        Ok(access::group_message(access, mention))
    }

    /// Who was approved. A file that cannot be read just now (no descriptors left, a failing disk) makes nobody a stranger: the
    /// message stays with the network. One that holds no JSON does not mend itself.
    async fn paired(&self) -> Result<Vec<String>, PairingError> {
        let (store, channel, account) =
            (self.parts.pairing.clone(), self.channel.clone(), self.account.clone());
        let read = tokio::task::spawn_blocking(move || store.allowed(&channel, &account)).await;
        match read.unwrap_or_else(|_| Ok(Vec::new())) {
            Err(error @ PairingError::Broken { .. }) => {
                tracing::error!(account = %self.key, %error, "approved senders cannot be read; treating everybody as a stranger");
                Ok(Vec::new())
            }
            read => read,
        }
    }

    fn may_command(
        &self,
        config: &ConfigSnapshot,
        view: &AccountView,
        message: &InboundMsg,
        allowed: bool,
    ) -> bool {
        access::may_command(&config.view.commands, self.facts(view, message, allowed))
    }

    fn facts<'a>(
        &'a self,
        view: &'a AccountView,
        message: &'a InboundMsg,
        allowed: bool,
    ) -> CommandFacts<'a> {
        CommandFacts {
            channel: &self.channel,
            sender: &message.sender.id,
            allowed,
            owner_only: false,
            allow_from: &view.allow_from,
        }
    }

    /// Routes the message and builds what the journal keeps of it.
    fn admit(
        &mut self,
        config: &ConfigSnapshot,
        view: Option<&AccountView>,
        message: &InboundMsg,
        allowed: Access,
    ) -> Admitted {
        let default =
            config.view.channels.get(&self.channel).map_or("default", |channel| &channel.default_account);
        let direct = message.chat.kind == ChatKind::Direct;
        let kind = match message.chat.kind {
            ChatKind::Direct => PeerKind::Direct,
            ChatKind::Group => PeerKind::Group,
            ChatKind::Channel => PeerKind::Channel,
        };
        let arrival = Arrival {
            channel: &self.channel,
            account: &self.account,
            default_account: default,
            kind,
            peer: if direct { &message.sender.id } else { &message.chat.id },
            sub: match (direct, message.chat.thread.as_deref()) {
                (false, Some(topic)) => Sub::Topic(topic),
                _ => Sub::None,
            },
            parent: None,
            guild: None,
            team: None,
            roles: &[],
        };
        let routed = route::route(&arrival, &config.view.agents, &config.view.bindings, &config.view.session);
        tracing::debug!(session = routed.session_key, by = routed.matched_by.name(), "routed");
        if let Some(unknown) = &routed.unknown_agent {
            tracing::warn!(
                agent = unknown,
                "a binding names an agent that does not exist; the default agent answers"
            );
        }
        let in_ = matches!(allowed, Access::Allow(_));
        let authorised = in_ && view.is_some_and(|view| self.may_command(config, view, message, true));
        let owner =
            view.is_some_and(|view| access::is_owner(&config.view.commands, self.facts(view, message, in_)));
        let history = if in_ && !direct { self.history.take(&message.chat.id) } else { Vec::new() };
        let turn = self.turn(message, authorised, owner, history);
        let disposition = if in_ { Disposition::Queue } else { Disposition::Suppress };
        Admitted { agent: routed.agent, session_key: routed.session_key, turn, disposition }
    }

    fn turn(&self, message: &InboundMsg, authorised: bool, owner: bool, history: Vec<Value>) -> StoredTurn {
        let target = self.target(message);
        let direct = message.chat.kind == ChatKind::Direct;
        StoredTurn {
            input: RunInput {
                text: message.text.clone(),
                raw: message.text.clone(),
                attachments: message.media.clone(),
                ts_ms: message.ts_ms,
                sender: Some(message.sender.clone()),
                context_json: Some(context(message, history).to_string()),
                authorised,
                ..RunInput::default()
            },
            origin: Origin {
                kind: OriginKind::Channel,
                channel: self.channel.clone(),
                account: Some(self.account.clone()),
                chat: Some(message.chat.id.clone()),
                thread: message.chat.thread.clone(),
                chat_type: Some(if direct { "direct" } else { "group" }.to_owned()),
                subject: message.chat.title.clone(),
                owner,
                was_mentioned: message.mentioned || message.reply_to_bot,
                client: None,
            },
            deliver_to: Some(target),
            lane: "main".to_owned(),
            reply_to: Some(message.message_id.clone()),
            ..StoredTurn::default()
        }
    }

    fn target(&self, message: &InboundMsg) -> Target {
        Target {
            channel: self.channel.clone(),
            account: self.account.clone(),
            chat: message.chat.id.clone(),
            thread: message.chat.thread.clone(),
        }
    }

    fn inbound(&self, message: &InboundMsg, admitted: &Admitted, disposition: Disposition) -> NewInbound {
        NewInbound {
            account: self.key.clone(),
            ext_id: message.ext_id.clone(),
            chat: message.chat.id.clone(),
            session_key: admitted.session_key.clone(),
            agent: admitted.agent.clone(),
            client_run_id: None,
            recv_us: now_us(),
            net_ts_us: message.ts_ms.checked_mul(1000),
            body: if disposition == Disposition::Queue { admitted.turn.encode() } else { Vec::new() },
            raw_hash: None,
            disposition,
        }
    }

    /// C1.
    async fn commit(
        &self,
        message: &InboundMsg,
        inbound: NewInbound,
        note: Option<NewOutbox>,
    ) -> Result<Accepted, JournalError> {
        let cursor = message.cursor.as_ref().map(|cursor| CursorUpdate {
            account: self.key.clone(),
            scope: cursor.scope.clone(),
            value: cursor.value.clone(),
        });
        proto::runtime::failpoint::hit("sv.in.before_c1");
        let notes = note.into_iter().collect();
        self.parts.journal.accept_inbound(AcceptInbound { inbound, cursor, dedupe: None, notes }).await
    }

    fn acknowledge(&self, ext_id: &str) {
        let ack = SupToChannel::InboundAck(InboundAck { ext_ids: vec![ext_id.to_owned()] });
        if let Err(refusal) = self.parts.workers.try_send(&worker_of(&self.key), ack) {
            tracing::info!(account = %self.key, %refusal, "acknowledgement not delivered; the network will repeat");
        }
    }

    fn refuse(&self, ext_id: &str, error: &dyn std::fmt::Display) {
        tracing::error!(account = %self.key, %error, "message not stored; it stays with the network");
        let nack = InboundNack { ext_id: ext_id.to_owned(), why: error.to_string(), retry_ms: NACK_RETRY_MS };
        if let Err(refusal) =
            self.parts.workers.try_send(&worker_of(&self.key), SupToChannel::InboundNack(nack))
        {
            tracing::info!(account = %self.key, %refusal, "refusal not delivered");
        }
    }
}
