//! The task that owns the deliveries of one account.
//!
//! ```text
//! due row ─C9 lease─> Send ──SendStarted──C10──> go-ahead ──> network ──SendResult──C12──> next row
//!                          ──Placed───────────────> journal knows the placeholder
//! ```

mod carry;
pub mod owed;

use super::answers::Answers;
use super::carry::CarriedAccount;
use super::{classes, worker_of};
use crate::config::ConfigHandle;
use crate::journal::{
    Draft, DraftStart, Journal, JournalError, JournalHandle, OutboxRow, SendOutcome as Outcome, Settled,
    WireKind,
};
use crate::scheduler::shared::{now_ms, now_us};
use crate::worker::Workers;
use owed::Owed;
use proto::wire::channel::{
    ChannelToSup, DraftDiscard, DraftOpen, OutboundItem, Placed, Reconcile, SendOutcome, SendResult,
    SendStarted, SupToChannel,
};
use proto::wire::control::{Done, LinkControl};
use proto::wire::{Id, WireError, decode_payload};
use std::collections::{HashMap, HashSet};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// Rows handed to one worker at a time, over all its chats: networks allow about this many sends a second.
const IN_FLIGHT_MAX: usize = 16;
/// Pause before the journal is asked again after a refusal, and the longest pause without a look.
const LOOK_MS: u64 = 5_000;
/// A reconcile is one request to the network.
const RECONCILE_MS: u64 = 15_000;

pub enum AccountCommand {
    Wake,
    Up {
        epoch: u64,
    },
    Gone,
    Worker {
        epoch: u64,
        corr: u64,
        message: Box<ChannelToSup>,
    },
    OpenDraft {
        draft: Draft,
        thread: Option<String>,
        answers: Answers,
    },
    Discard(Draft),
    /// Ends the task: the next program image goes on.
    Freeze(oneshot::Sender<CarriedAccount>),
}

pub struct AccountTask {
    account: String,
    config: ConfigHandle,
    journal: JournalHandle,
    workers: Workers,
    /// Epoch of the worker that can send, if there is one.
    epoch: Option<u64>,
    in_flight: HashMap<Id, Facts>,
    drafts: HashSet<Id>,
    owed: Owed,
}

/// What a go-ahead depends on.
struct Facts {
    /// The next bytes are a placeholder, not the text.
    placeholder: bool,
    /// The first go-ahead is for a text that is put by an edit.
    text_first: bool,
    /// It was asked for once: whatever is asked for next is a message of its own.
    asked: bool,
    /// The row has files.
    files: bool,
}

impl Facts {
    fn of(item: &OutboundItem) -> Self {
        Self {
            placeholder: item.two_phase && item.prior.is_none(),
            text_first: item.two_phase && !item.text.trim().is_empty(),
            asked: false,
            files: !item.media.is_empty(),
        }
    }

    /// What the go-ahead that is asked for now allows to leave.
    fn kind(&self) -> WireKind {
        match (self.text_first && !(self.asked && self.files), self.placeholder) {
            (false, _) => WireKind::Plain,
            (true, true) => WireKind::Placeholder,
            (true, false) => WireKind::Content,
        }
    }
}

impl AccountTask {
    pub fn new(account: &str, config: ConfigHandle, journal: JournalHandle, workers: Workers) -> Self {
        Self {
            account: account.to_owned(),
            config,
            journal,
            workers,
            epoch: None,
            in_flight: HashMap::new(),
            drafts: HashSet::new(),
            owed: Owed::default(),
        }
    }

    pub async fn run(mut self, mut commands: mpsc::Receiver<AccountCommand>) {
        let mut next_look = Instant::now();
        loop {
            let command = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => Some(command),
                    None => return,
                },
                () = tokio::time::sleep_until(next_look) => None,
            };
            if let Some(AccountCommand::Freeze(reply)) = command {
                let _gone = reply.send(self.carry());
                return;
            }
            if let Some(command) = command {
                self.on_command(command).await;
            }
            next_look = Instant::now() + self.dispatch().await;
        }
    }

    async fn on_command(&mut self, command: AccountCommand) {
        match command {
            AccountCommand::Wake => {}
            AccountCommand::Up { epoch } => {
                self.epoch = Some(epoch);
                self.reconcile_open().await;
            }
            AccountCommand::Gone => self.on_gone().await,
            AccountCommand::Worker { epoch, corr, message } => self.on_worker(epoch, corr, *message).await,
            AccountCommand::OpenDraft { draft, thread, answers } => {
                self.open_draft(draft, thread, answers).await
            }
            AccountCommand::Discard(draft) => self.discard(draft).await,
            AccountCommand::Freeze(_) => {}
        }
    }

    /// Leases and sends what is due; gives the time until the next look.
    async fn dispatch(&mut self) -> Duration {
        let look = Duration::from_millis(LOOK_MS);
        if !self.owed.is_empty() && !self.pay().await {
            return Duration::from_millis(owed::AGAIN_MS);
        }
        let (Some(epoch), room) = (self.epoch, IN_FLIGHT_MAX.saturating_sub(self.in_flight.len())) else {
            return look;
        };
        if room == 0 {
            return look;
        }
        let limit = u32::try_from(room).unwrap_or(1);
        match self.journal.due_outbox(self.account.clone(), now_us(), limit).await {
            Ok(rows) => {
                for row in rows {
                    self.send(row, epoch).await;
                    if !self.owed.is_empty() {
                        return Duration::from_millis(owed::AGAIN_MS);
                    }
                }
            }
            Err(error) => tracing::warn!(account = %self.account, %error, "outbox cannot be read"),
        }
        self.until_next_due().await.unwrap_or(look).min(look)
    }

    async fn until_next_due(&self) -> Option<Duration> {
        let due = self.journal.next_due().await.ok()?;
        let (_, due_us) = due.into_iter().find(|(account, _)| *account == self.account)?;
        let wait_us = u64::try_from(due_us - now_us()).unwrap_or(0);
        // Rows that are due already wait for something in flight: the answer to that wakes us.
        (wait_us > 0).then(|| Duration::from_micros(wait_us))
    }

    /// C9, then the worker.
    async fn send(&mut self, row: OutboxRow, epoch: u64) {
        let out_id = row.item.out_id;
        let on_unknown = classes::on_unknown(&self.config.current().config, &self.account);
        let row = match self.journal.lease(out_id, epoch, on_unknown, now_us()).await {
            Ok(row) => row,
            Err(JournalError::OutOfOrder { .. }) => return,
            Err(error) => {
                tracing::warn!(account = %self.account, %out_id, %error, "row not leased");
                return;
            }
        };
        proto::runtime::failpoint::hit("sv.c9.after");
        let Ok(mut item) = decode_payload::<OutboundItem>(0, &row.item.body) else {
            let why = "stored message cannot be read".to_owned();
            self.settle(out_id, epoch, Outcome::Permanent { why }).await;
            return;
        };
        item.prior.clone_from(&row.item.prior_ext);
        item.maybe_dup = row.maybe_dup;
        self.workers.work_begins(&worker_of(&self.account), format!("delivery {out_id}"));
        self.in_flight.insert(out_id, Facts::of(&item));
        self.drafts.remove(&out_id);
        if let Err(refusal) = self.workers.try_send(&worker_of(&self.account), SupToChannel::Send(item)) {
            tracing::info!(account = %self.account, %refusal, "channel worker does not take a delivery now");
            self.no_longer_in_flight(out_id);
            let next_us = now_us() + 1_000_000;
            self.settle(out_id, epoch, Outcome::Retry { next_us, why: refusal.to_string() }).await;
        }
    }

    async fn on_worker(&mut self, epoch: u64, corr: u64, message: ChannelToSup) {
        match message {
            ChannelToSup::SendStarted(SendStarted { out_id }) => self.go_ahead(epoch, corr, out_id).await,
            ChannelToSup::Placed(Placed { out_id, ext_id }) => self.placed(epoch, corr, out_id, ext_id).await,
            ChannelToSup::SendResult(SendResult { out_id, outcome }) => {
                proto::runtime::failpoint::hit("sv.c12.before");
                self.no_longer_in_flight(out_id);
                self.drafts.remove(&out_id);
                let outcome = match outcome {
                    SendOutcome::Delivered { ext_ids } => Outcome::Delivered { ext_ids },
                    SendOutcome::Retry { after_ms, why } => {
                        tracing::warn!(account = %self.account, %out_id, after_ms, why, "a reply is not delivered yet; it is tried again");
                        let after_us = i64::try_from(after_ms.saturating_mul(1000)).unwrap_or(i64::MAX / 2);
                        Outcome::Retry { next_us: now_us().saturating_add(after_us), why }
                    }
                    SendOutcome::Permanent { why } => Outcome::Permanent { why },
                    SendOutcome::Unknown { why } => Outcome::Unknown { why },
                };
                self.settle(out_id, epoch, outcome).await;
            }
            _ => {}
        }
    }

    fn no_longer_in_flight(&mut self, out_id: Id) {
        self.in_flight.remove(&out_id);
        self.workers.work_ends(&worker_of(&self.account), &format!("delivery {out_id}"));
    }

    /// C10. The reply is what lets bytes leave.
    async fn go_ahead(&mut self, epoch: u64, corr: u64, out_id: Id) {
        let committed = if let Some(facts) = self.in_flight.get_mut(&out_id) {
            let kind = facts.kind();
            facts.asked = true;
            match self.journal.wire(out_id, epoch, kind).await {
                // A long text asks once per piece; the first answer stands.
                Err(JournalError::Illegal { from: "on the wire", .. }) => Ok(()),
                other => other.map_err(|error| error.to_string()),
            }
        } else if self.drafts.contains(&out_id) {
            // The draft's own record stands for it; a lost placeholder costs an empty line.
            Ok(())
        } else {
            Err(format!("delivery {out_id} is not leased to this worker"))
        };
        proto::runtime::failpoint::hit("sv.c10.after");
        self.answer(epoch, corr, committed);
    }

    async fn placed(&mut self, epoch: u64, corr: u64, out_id: Id, ext_id: String) {
        let stored = if self.drafts.contains(&out_id) {
            self.journal.draft_placed(out_id, ext_id).await
        } else {
            if let Some(facts) = self.in_flight.get_mut(&out_id) {
                facts.placeholder = false;
            }
            self.journal.placed(out_id, epoch, ext_id).await
        };
        self.answer(epoch, corr, stored.map_err(|error| error.to_string()));
    }

    fn answer(&self, epoch: u64, corr: u64, result: Result<(), String>) {
        let worker = worker_of(&self.account);
        let sent = match result {
            Ok(()) => self.workers.try_reply(&worker, epoch, corr, LinkControl::Done(Done {})),
            Err(why) => {
                self.workers.try_reply(&worker, epoch, corr, LinkControl::Error(WireError::unavailable(why)))
            }
        };
        if let Err(refusal) = sent {
            tracing::info!(account = %self.account, %refusal, "go-ahead not delivered");
        }
    }

    async fn after_settled(&mut self, out_id: Id, settled: Settled) {
        if settled.tell_user {
            let why = settled.row.err.as_deref().unwrap_or("unknown");
            tracing::error!(account = %self.account, %out_id, why, "delivery failed for good");
        }
        if settled.reconcile {
            self.reconcile(&settled.row).await;
        }
    }

    async fn on_gone(&mut self) {
        self.epoch = None;
        self.in_flight.clear();
        self.drafts.clear();
        self.take_back().await;
    }

    async fn reconcile_open(&mut self) {
        let rows = self.journal.open_outbox(Some(self.account.clone())).await.unwrap_or_default();
        for row in rows.iter().filter(|row| row.state == crate::journal::OutState::Unknown) {
            self.reconcile(row).await;
        }
    }

    /// Class B: the network is asked whether it has the message.
    async fn reconcile(&mut self, row: &OutboxRow) {
        let out_id = row.item.out_id;
        let ask = Reconcile { out_id, idem_key: row.item.idem_key.clone(), chat: row.item.chat.clone() };
        let worker = worker_of(&self.account);
        let answer = self.workers.request(&worker, SupToChannel::Reconcile(ask), RECONCILE_MS).await;
        let found = answer.ok().and_then(|(code, payload)| match proto::wire::Wire::decode(code, &payload) {
            Ok(ChannelToSup::Reconciled(reconciled)) => Some(reconciled.found),
            _ => None,
        });
        let outcome = match found {
            Some(Some(ext_id)) => Outcome::Delivered { ext_ids: vec![ext_id] },
            Some(None) => Outcome::NotSent,
            None => return,
        };
        self.owed.note(out_id, row.epoch, outcome);
    }

    async fn open_draft(&mut self, draft: Draft, thread: Option<String>, answers: Answers) {
        if self.epoch.is_none() {
            return;
        }
        let (out_id, chat) = (draft.out_id, draft.chat.clone());
        match self.journal.draft_open(draft).await {
            Ok(DraftStart::Send) => {}
            // The final edit will use the one that stands there; or the reply goes in its turn.
            Ok(DraftStart::Stands(_) | DraftStart::TooEarly) => return,
            Err(error) => {
                tracing::debug!(account = %self.account, %error, "no placeholder");
                return;
            }
        }
        self.drafts.insert(out_id);
        let Answers { reply_to, reply_reason } = answers;
        let open = SupToChannel::DraftOpen(DraftOpen { out_id, chat, thread, reply_to, reply_reason });
        if let Err(refusal) = self.workers.try_send(&worker_of(&self.account), open) {
            tracing::debug!(account = %self.account, %refusal, "no placeholder");
        }
    }

    async fn discard(&mut self, draft: Draft) {
        self.drafts.remove(&draft.out_id);
        let gone = DraftDiscard { out_id: draft.out_id, chat: draft.chat, ext_id: draft.ext_id };
        if let Err(refusal) =
            self.workers.try_send(&worker_of(&self.account), SupToChannel::DraftDiscard(gone))
        {
            tracing::info!(account = %self.account, %refusal, at = now_ms(), "an empty placeholder stays");
        }
        if let Err(error) = self.journal.draft_gone(draft.out_id).await {
            tracing::debug!(account = %self.account, %error, "placeholder record stays");
        }
    }
}
