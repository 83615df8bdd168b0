//! The journal's vocabulary: what goes in, what comes out. Plain data, no SQL and no clock.
//!
//! Every `*_us` is microseconds since the Unix epoch, given by the caller: the journal itself never reads a clock for a
//! rule. Bodies are opaque bytes (MessagePack of the caller's own types): the journal never looks inside.

mod deliveries;
mod inbound;

use proto::wire::agent::SessionRow;
use proto::wire::id::Id;

use super::sql::int_enum;

pub use deliveries::{ExpiredChat, OutboxFilter, SendOutcome, Settled};
pub use inbound::{AcceptInbound, Accepted, CursorUpdate, Disposition, InboundRow, NewInbound};

pub use super::inbound::state::InboundState;
pub use super::outbox::state::{OnUnknown, OutState, SendClass, WireKind};
pub use super::run::state::{InterruptCause, RunState};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeClaim {
    pub method: String,
    pub key: String,
    /// SHA-256 of the parameters, so that a reused key with other parameters can be told.
    pub req_hash: Option<[u8; 32]>,
    pub now_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeRow {
    pub method: String,
    pub key: String,
    pub req_hash: Option<[u8; 32]>,
    /// The stored answer; `None` while the first request is still running.
    pub res: Option<Vec<u8>>,
    /// The inbound that the first request created, if it created one.
    pub inbound_seq: Option<i64>,
    pub expires_us: i64,
}

int_enum! {
    /// Why a run exists.
    pub enum RunOrigin {
        Channel = 0 "channel",
        Rpc = 1 "rpc",
        Cron = 2 "cron",
        Heartbeat = 3 "heartbeat",
        Hook = 4 "hook",
        Http = 5 "http",
        Subagent = 6 "subagent",
        System = 7 "system",
    }
}

/// C2: a run and the inbounds that it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    pub run_id: Id,
    /// The run id that clients see.
    pub client_run_id: String,
    pub session_key: String,
    pub agent: String,
    /// Global lane: `main`, `cron`, `subagent`, `nested`, …
    pub lane: String,
    pub origin: RunOrigin,
    pub created_us: i64,
    /// Wall-clock end; `None` = none.
    pub deadline_us: Option<i64>,
    /// What is needed to build the same `StartRun` again after a restart.
    pub spec: Vec<u8>,
    /// Inbounds claimed, in order (several when queued messages were merged).
    pub inbound: Vec<i64>,
}

/// An attempt of a run that has begun: what its worker has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// From 1.
    pub attempt: u32,
    /// Interruptions of the attempts before this one.
    pub interruptions: u32,
    /// Active time of the attempts before this one.
    pub active_us: i64,
    /// System events that waited for the session's next turn. The same run gets the same ones again; they go at its end.
    pub events: Vec<SystemEvent>,
    /// What earlier attempts have already given out.
    pub parts: Vec<OutboxRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub run_id: Id,
    pub client_run_id: String,
    pub session_key: String,
    pub agent: String,
    pub lane: String,
    pub origin: RunOrigin,
    pub state: RunState,
    pub times: RunTimes,
    pub counts: RunCounts,
    /// Epoch of the worker that runs or ran it; 0 before the first start.
    pub epoch: u64,
    pub spec: Vec<u8>,
    pub outcome: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTimes {
    pub created_us: i64,
    /// Start of the latest attempt.
    pub started_us: Option<i64>,
    pub ended_us: Option<i64>,
    pub deadline_us: Option<i64>,
    /// Active time of the attempts before this one, for `timeoutSeconds`.
    pub active_us: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Number of starts so far.
    pub attempt: u32,
    /// Deaths of the worker that were its own doing while this run was in flight.
    pub crashes: u32,
    /// All interruptions, whoever caused them.
    pub interruptions: u32,
}

/// A placeholder that is sent while the run goes on, to be edited into the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The outbox row that will become its text; that row does not exist yet.
    pub out_id: Id,
    pub run_id: Id,
    pub account: String,
    pub chat: String,
    /// `None` until the network has said what it is called.
    pub ext_id: Option<String>,
}

/// What becomes of a placeholder that a run wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftStart {
    /// It is on record: send it.
    Send,
    /// This one stands there from an earlier attempt: use it and send none.
    Stands(Draft),
    /// Something of its chat has no place yet. The reply goes without a placeholder, in its turn.
    TooEarly,
}

/// C8: everything that the end of a run commits in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishRun {
    pub run_id: Id,
    /// A terminal state: `Final`, `Cancelled`, `TimedOut`, `Failed`, `Poisoned` or `Abandoned`.
    pub state: RunState,
    pub ended_us: i64,
    pub outcome: Vec<u8>,
    pub outbox: Vec<NewOutbox>,
    pub inbound: InboundEnd,
    pub session: Option<SessionRow>,
    pub usage: Option<UsageDelta>,
}

/// What becomes of the claimed inbounds when their run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboundEnd {
    Done,
    /// Cancelled before the turn began: back into the queue, same place.
    Requeue,
    /// Poison: kept as dead letters.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Rows that this call created; empty when everything was there already.
    pub inserted: Vec<Id>,
    /// The run had ended before: a repeated final, absorbed.
    pub already: bool,
    /// `Closed` when nothing is left to deliver.
    pub state: RunState,
    /// Placeholders of the run that no row uses: have them taken away, then [`super::Journal::draft_gone`].
    pub drafts_left: Vec<Draft>,
}

/// One message to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutbox {
    /// [`Id::derived`] of its origin (the run, or [`super::outbox::origin_of`] a message), so that a repeated step makes the same row.
    pub out_id: Id,
    pub run_id: Option<Id>,
    /// One counter per run over blocks, message tool and final.
    pub part: u32,
    pub account: String,
    pub chat: String,
    pub body: Vec<u8>,
    /// Key that the network dedupes by, where it does.
    pub idem_key: String,
    pub class: SendClass,
    pub on_unknown: OnUnknown,
    /// Id of a message to edit instead of sending a new one.
    pub prior_ext: Option<String>,
    pub created_us: i64,
    pub expires_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Order of creation; the order of delivery within a chat.
    pub seq: i64,
    pub item: NewOutbox,
    pub state: OutState,
    pub wire: WireKind,
    pub attempts: u32,
    /// Epoch that holds the lease.
    pub epoch: u64,
    pub next_us: i64,
    /// It was sent again after an unknown outcome: the reader may see it twice.
    pub maybe_dup: bool,
    pub ext_ids: Vec<String>,
    pub err: Option<String>,
}

/// `sessions.list` parameters; all given ones must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    pub agent: Option<String>,
    pub updated_since_ms: Option<i64>,
    pub label: Option<String>,
    pub spawned_by: Option<String>,
    /// Case-insensitive part of key, label, display name or session id.
    pub search: Option<String>,
    /// `None` = [`super::SESSION_LIST_ROWS_MAX`].
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageDelta {
    /// `YYYY-MM-DD` in the host's time zone.
    pub day: String,
    pub agent: String,
    pub provider: String,
    pub model: String,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// Millionths of a US dollar; 0 where no price is known.
    pub cost_micros: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageDay {
    pub sum: UsageDelta,
    pub turns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemEvent {
    pub seq: i64,
    pub session_key: String,
    pub at_us: i64,
    pub text: String,
    /// Replaces an earlier waiting event of the same key.
    pub context_key: Option<String>,
}

int_enum! {
    pub enum DeadKind {
        Inbound = 0 "inbound",
        Outbox = 1 "outbox",
        /// A file left in the directory of the gateway that was here before.
        Imported = 2 "imported",
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    pub kind: DeadKind,
    /// `seq` of the inbound as text, `out_id` of the outbox row, or a file name: unique per kind.
    pub reference: String,
    pub account: String,
    pub chat: String,
    pub why: String,
    pub at_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: i64,
    pub item: NewDeadLetter,
}

/// What a dead letter became when a person put it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revived {
    /// It waits in its session's queue again.
    Message { seq: i64 },
    /// It may be sent again, for an hour.
    Delivery { account: String },
    /// It belongs to the gateway that was here before, or its channel worker could not read it: it can only be looked at.
    Nothing,
}

/// What a start found and what is to be done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last stop was orderly.
    pub clean: bool,
    /// Number of this start, growing for ever.
    pub boot: u64,
    /// Runs that were in progress: resume each (oldest first).
    pub interrupted: Vec<RunRow>,
    /// Runs claimed but never started.
    pub pending: Vec<RunRow>,
    /// Runs that may not be resumed: end each with [`super::Journal::finish_run`] as `Abandoned` (or `Poisoned`), with
    /// its note to the user in the same step.
    pub abandoned: Vec<RunRow>,
    /// Sessions with waiting messages.
    pub queued_sessions: Vec<String>,
    /// Rows whose outcome only the network knows.
    pub reconcile: Vec<OutboxRow>,
    /// Leases that were taken back: nothing had left the host.
    pub released: u32,
    /// Class C rows that are sent again and may show twice.
    pub maybe_dup: u32,
}

/// What workers hold while the program image is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CarriedOver {
    /// Runs that a session of the next image goes on with.
    pub runs: std::collections::HashSet<Id>,
    /// Accounts whose worker still has what was leased to it.
    pub accounts: std::collections::HashSet<String>,
}

/// What was in flight with a channel worker that died.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    pub released: u32,
    pub maybe_dup: u32,
    pub reconcile: Vec<OutboxRow>,
    /// Rows that ended as `Failed` because their outcome is unknown and may not be guessed.
    pub failed: Vec<OutboxRow>,
}

/// State of the store, for `status`, `health` and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// `Some(why)` while nothing can be written.
    pub readonly: Option<String>,
    /// The reserve for a full disk was given up, or there never was room for it.
    pub reserve_lack: Option<super::disk::Lack>,
    pub integrity: Integrity,
    pub inbound_waiting: u64,
    pub inbound_claimed: u64,
    pub runs_open: u64,
    pub outbox_open: u64,
    pub outbox_unknown: u64,
    pub outbox_failed: u64,
    pub maybe_dup: u64,
    /// Placeholders whose fate is unknown (at most one per death of a worker).
    pub orphan_placeholders: u64,
    pub dead_letters: u64,
    pub db_bytes: u64,
    pub wal_bytes: u64,
}

/// Result of the background check after an unclean stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Integrity {
    #[default]
    NotNeeded,
    Running,
    Good,
    Bad(String),
}

/// What one retention pass removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub bodies: u64,
    pub inbound: u64,
    pub runs: u64,
    pub outbox: u64,
    pub dedupe: u64,
    pub dead_letters: u64,
    /// A bound was hit: call again.
    pub more: bool,
}
