//! Outgoing messages: hands each outbox row to the worker of its account, in order per chat, and settles it.
//!
//! * `classes`: what a network promises about repeated sends.
//! * `account`: the task that owns one account's deliveries.
//!
//! Only this part hands out leases; a channel worker never drains a queue by itself.

pub mod account;
pub mod answers;
pub mod carry;
pub mod classes;

use crate::config::{ConfigHandle, ConfigSnapshot};
use crate::journal::{Draft, Journal, JournalHandle};
use crate::worker::Workers;
use account::{AccountCommand, AccountTask};
use answers::Answers;
use proto::wire::Id;
use proto::wire::agent::Target;
use proto::wire::channel::{ChannelToSup, DraftUpdate, SupToChannel, Typing};
use proto::wire::handshake::WorkerId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::mpsc;

/// Commands waiting for one account. Its task only waits for the journal.
const ACCOUNT_COMMANDS_MAX: usize = 256;

/// Handle of all deliveries, for the core's thread.
#[derive(Clone)]
pub struct Delivery {
    config: ConfigHandle,
    journal: JournalHandle,
    workers: Workers,
    accounts: Rc<RefCell<HashMap<String, mpsc::Sender<AccountCommand>>>>,
}

/// `channel:<channel>:<account>` of `<channel>:<account>`.
pub fn worker_of(account: &str) -> WorkerId {
    WorkerId(format!("channel:{account}"))
}

fn account_of(to: &Target) -> String {
    format!("{}:{}", to.channel, to.account)
}

impl Delivery {
    pub fn new(config: ConfigHandle, journal: JournalHandle, workers: Workers) -> Self {
        Self { config, journal, workers, accounts: Rc::default() }
    }

    /// Does a reply to this place stream into a placeholder? `channels.<channel>[.accounts.<account>].streaming`; on by
    /// default where the network lets a message be edited.
    pub fn streams(&self, config: &ConfigSnapshot, to: Option<&Target>) -> bool {
        let Some(to) = to else { return false };
        let channel = &config.config["channels"][&to.channel];
        let own = channel["accounts"][&to.account].get("streaming");
        let written = own.or_else(|| channel.get("streaming"));
        // The later release writes `{mode: …}`.
        let off = match written.map(|value| value.get("mode").unwrap_or(value)) {
            Some(serde_json::Value::String(mode)) => mode == "off",
            Some(value) => value == false,
            None => false,
        };
        classes::two_phase(&to.channel) && !off
    }

    fn task(&self, account: &str) -> mpsc::Sender<AccountCommand> {
        let mut accounts = self.accounts.borrow_mut();
        if let Some(commands) = accounts.get(account) {
            return commands.clone();
        }
        let (commands, inbox) = mpsc::channel(ACCOUNT_COMMANDS_MAX);
        accounts.insert(account.to_owned(), commands.clone());
        let task = AccountTask::new(account, self.config.clone(), self.journal.clone(), self.workers.clone());
        tokio::task::spawn_local(task.run(inbox));
        commands
    }

    async fn tell(&self, account: &str, command: AccountCommand) {
        if self.task(account).send(command).await.is_err() {
            tracing::error!(account, "delivery task is gone");
        }
    }

    /// There may be something to send.
    pub fn wake(&self, account: &str) {
        // A full queue means that the task is about to look anyway.
        let _busy = self.task(account).try_send(AccountCommand::Wake);
    }

    /// The run has ended: its rows are in the journal, placeholders that no row uses go away.
    pub fn finished(&self, to: Option<&Target>, drafts_left: Vec<Draft>) {
        for draft in drafts_left {
            let commands = self.task(&draft.account);
            tokio::task::spawn_local(async move {
                let _gone = commands.send(AccountCommand::Discard(draft)).await;
            });
        }
        if let Some(to) = to {
            self.wake(&account_of(to));
        }
    }

    /// Streams the reply of a run into a placeholder of its chat.
    pub async fn draft_open(&self, to: &Target, out_id: Id, run_id: Id, answers: Answers) {
        let account = account_of(to);
        let draft = Draft { out_id, run_id, account: account.clone(), chat: to.chat.clone(), ext_id: None };
        self.tell(&account, AccountCommand::OpenDraft { draft, thread: to.thread.clone(), answers }).await;
    }

    /// Lossy: only the newest text of a draft counts.
    pub fn draft_update(&self, to: &Target, out_id: Id, text: &str) {
        let update = DraftUpdate { out_id, text: text.to_owned() };
        self.lossy(to, SupToChannel::DraftUpdate(update));
    }

    pub fn typing(&self, to: &Target, on: bool) {
        let typing = Typing { chat: to.chat.clone(), thread: to.thread.clone(), on };
        self.lossy(to, SupToChannel::Typing(typing));
    }

    fn lossy(&self, to: &Target, message: SupToChannel) {
        if let Err(refusal) = self.workers.try_send(&worker_of(&account_of(to)), message) {
            tracing::trace!(%refusal, "lossy message not sent");
        }
    }

    /// What a channel worker says about deliveries. `corr` names the request to answer.
    pub async fn on_channel(&self, worker: &WorkerId, epoch: u64, corr: u64, message: ChannelToSup) {
        let Some(account) = worker.0.strip_prefix("channel:") else { return };
        self.tell(account, AccountCommand::Worker { epoch, corr, message: Box::new(message) }).await;
    }

    /// The worker is receiving: send what waits.
    pub async fn on_up(&self, worker: &WorkerId, epoch: u64) {
        let Some(account) = worker.0.strip_prefix("channel:") else { return };
        self.tell(account, AccountCommand::Up { epoch }).await;
    }

    pub async fn on_gone(&self, worker: &WorkerId) {
        let Some(account) = worker.0.strip_prefix("channel:") else { return };
        self.tell(account, AccountCommand::Gone).await;
    }

    /// After a start: each account with open rows gets its task, which waits for the worker.
    pub async fn resume(&self) -> Result<(), crate::journal::JournalError> {
        for row in self.journal.open_outbox(None).await? {
            self.wake(&row.item.account);
        }
        Ok(())
    }
}
