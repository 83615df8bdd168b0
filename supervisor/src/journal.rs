//! The journal: the one durable record of what was accepted, claimed, finished and delivered.
//!
//! It owns acceptance (C1), claims (C2), run ends (C8) and the outbox (C9, C10, C12); besides, the session *index*, RPC
//! dedupe, cursors, system events, usage per day and dead letters. It does not own transcripts (the agent worker does), it
//! does not decide who may talk or what runs next, and it never looks inside a body.
//!
//! ```text
//! async callers ──[Job, bounded 1024]──> journal thread: BEGIN IMMEDIATE, ≤128 jobs, COMMIT (fsync) ──> oneshot replies
//! ```
//!
//! A reply means durable. A refusal of one job rolls back that job alone; a failed commit refuses the whole batch.

pub mod dead_letter;
pub mod dedupe;
pub mod disk;
mod error;
mod handle;
pub mod inbound;
pub mod inspect;
mod ledger;
mod lookup;
mod noted;
mod open;
pub mod outbox;
mod rebase;
mod recover;
mod retention;
pub mod run;
mod schema;
mod session_index;
mod sql;
pub mod types;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::future::Future;

use proto::wire::id::Id;

pub use error::JournalError;
pub use handle::JournalHandle;
pub use lookup::Found;
pub use proto::wire::agent::SessionRow;
pub use schema::SCHEMA_VERSION;
pub use types::*;
pub use writer::OpenOptions;

/// A body larger than this is refused; it is also the largest frame of a link, so nothing legal is.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Rows of one `sessions.list` without a limit of its own.
pub const SESSION_LIST_ROWS_MAX: u32 = 10_000;
/// System events kept per session; older ones fall out, as the model would not read more.
pub const SYSTEM_EVENTS_PER_SESSION_MAX: u32 = 20;
/// How long an RPC key is remembered (24 h): longer than any client retries.
pub const DEDUPE_TTL_US: i64 = 24 * 3600 * 1_000_000;

type Res<T> = Result<T, JournalError>;

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "verbs of the next steps; the conformance suite drives all")
)]
/// The verbs. Every method is one atomic step; `Ok` means that it survives a power cut.
pub trait Journal: Clone + Send + Sync + 'static {
    // ---- inbound -------------------------------------------------------------------------------------------------

    /// C1. After `Ok` the network may be acknowledged, whatever the variant says.
    fn accept_inbound(&self, accept: AcceptInbound) -> impl Future<Output = Res<Accepted>> + Send;
    /// C1, C2 and the first start in one commit, for a message whose session is idle and whose worker is up. `run` makes the
    /// run of the message's number. No start when the message is not new.
    fn accept_and_begin(
        &self,
        accept: AcceptInbound,
        run: impl Fn(i64) -> NewRun + Send + 'static,
        epoch: u64,
    ) -> impl Future<Output = Res<(Accepted, Option<RunStart>)>> + Send;
    /// C1 of something that is not read: kept as a dead letter at once.
    fn bury(&self, accept: AcceptInbound) -> impl Future<Output = Res<Accepted>> + Send;
    /// `Received` → `Queued`.
    fn enqueue(&self, seq: i64) -> impl Future<Output = Res<()>> + Send;
    /// `Received` or `Queued` → `Suppressed` (policy, dropped by the queue's cap, answered by a command).
    fn suppress(&self, seqs: Vec<i64>) -> impl Future<Output = Res<()>> + Send;
    /// Waiting messages in acceptance order; of one session, or of all.
    fn open_inbound(&self, session_key: Option<String>) -> impl Future<Output = Res<Vec<InboundRow>>> + Send;
    fn inbound(&self, seq: i64) -> impl Future<Output = Res<Option<InboundRow>>> + Send;
    /// Whether the network's message is stored already.
    fn knows_inbound(&self, account: String, ext_id: String) -> impl Future<Output = Res<bool>> + Send;
    /// The messages that a run claimed, in order.
    fn inbound_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<InboundRow>>> + Send;

    // ---- runs ----------------------------------------------------------------------------------------------------

    /// C2. Repeating it with the same `run_id` changes nothing.
    fn create_run(&self, run: NewRun) -> impl Future<Output = Res<()>> + Send;
    /// C2 and the first start in one commit, for a worker that is up already.
    fn begin_run(&self, run: NewRun, epoch: u64) -> impl Future<Output = Res<RunStart>> + Send;
    /// `Pending` or `Interrupted` → `Started`; the waiting system events of the session are handed to the run.
    /// [`JournalError::SessionBusy`] when another run of the session is started.
    fn mark_started(&self, run_id: Id, epoch: u64, now_us: i64)
    -> impl Future<Output = Res<RunStart>> + Send;
    /// Adds messages to a run in progress (steering); they end with it.
    fn claim_more(&self, run_id: Id, seqs: Vec<i64>) -> impl Future<Output = Res<()>> + Send;
    /// `Started` → `Interrupted`. The row tells by [`run::state::verdict`] whether to resume.
    fn interrupt(
        &self,
        run_id: Id,
        cause: InterruptCause,
        now_us: i64,
    ) -> impl Future<Output = Res<RunRow>> + Send;
    /// C8. Idempotent on the run and on `(run, part)`.
    fn finish_run(&self, finish: FinishRun) -> impl Future<Output = Res<Finished>> + Send;
    fn run(&self, run_id: Id) -> impl Future<Output = Res<Option<RunRow>>> + Send;
    /// The latest run with this public id.
    fn run_by_client_id(&self, client_run_id: String) -> impl Future<Output = Res<Option<RunRow>>> + Send;
    /// Runs that have not ended, oldest first; of one agent, or of all.
    fn open_runs(&self, agent: Option<String>) -> impl Future<Output = Res<Vec<RunRow>>> + Send;
    /// Before a placeholder is sent for a row that does not exist yet. One that was opened before without getting an id is
    /// counted as an orphan.
    fn draft_open(&self, draft: Draft) -> impl Future<Output = Res<DraftStart>> + Send;
    /// The placeholder has this id: the row with this `out_id`, once made, is an edit of it.
    fn draft_placed(&self, out_id: Id, ext_id: String) -> impl Future<Output = Res<()>> + Send;
    fn drafts_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<Draft>>> + Send;
    /// The placeholder was taken away, or is given up.
    fn draft_gone(&self, out_id: Id) -> impl Future<Output = Res<()>> + Send;

    // ---- outbox --------------------------------------------------------------------------------------------------

    /// Rows outside C8: blocks, the message tool, notes. Rows that exist are left as they are; gives the new ones.
    fn add_outbox(&self, rows: Vec<NewOutbox>) -> impl Future<Output = Res<Vec<Id>>> + Send;
    /// Rows that may be leased now: pending, due, and nothing earlier of their chat is open. In creation order.
    fn due_outbox(
        &self,
        account: String,
        now_us: i64,
        limit: u32,
    ) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send;
    /// Per account, when its next row becomes due (`(account, next_us)`).
    fn next_due(&self) -> impl Future<Output = Res<Vec<(String, i64)>>> + Send;
    /// C9.
    fn lease(
        &self,
        out_id: Id,
        epoch: u64,
        on_unknown: OnUnknown,
        now_us: i64,
    ) -> impl Future<Output = Res<OutboxRow>> + Send;
    /// C10. Only after `Ok` may the worker be told to write to the network.
    fn wire(&self, out_id: Id, epoch: u64, kind: WireKind) -> impl Future<Output = Res<()>> + Send;
    /// The placeholder is out and has this id: from here on the send is an edit, which can be repeated.
    fn placed(&self, out_id: Id, epoch: u64, ext_id: String) -> impl Future<Output = Res<()>> + Send;
    /// C12, or the answer of a reconcile. A late truth (`Delivered`) is believed whatever the epoch.
    fn settle(
        &self,
        out_id: Id,
        epoch: u64,
        outcome: SendOutcome,
        now_us: i64,
    ) -> impl Future<Output = Res<Settled>> + Send;
    /// The account's worker is gone: leases come back, sends on the wire are resolved by class.
    fn worker_gone(&self, account: String, now_us: i64) -> impl Future<Output = Res<Released>> + Send;
    fn outbox(&self, out_id: Id) -> impl Future<Output = Res<Option<OutboxRow>>> + Send;
    fn outbox_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send;
    /// Open rows, oldest first; of one account, or of all.
    fn open_outbox(&self, account: Option<String>) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send;
    /// Ends what is older than it may be; one entry per chat. `note` makes the row that tells the chat, added in the same
    /// commit.
    fn expire(
        &self,
        now_us: i64,
        note: impl Fn(&ExpiredChat) -> Option<NewOutbox> + Send + 'static,
    ) -> impl Future<Output = Res<Vec<ExpiredChat>>> + Send;
    /// For a person to look at, in creation order.
    fn outbox_list(&self, filter: OutboxFilter) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send;
    /// Makes a row due now, also one that failed, went out of date or whose outcome is not known.
    fn outbox_retry(&self, out_id: Id, now_us: i64) -> impl Future<Output = Res<OutboxRow>> + Send;
    /// Gives a row up; refused while it is being sent.
    fn outbox_discard(&self, out_id: Id, now_us: i64) -> impl Future<Output = Res<OutboxRow>> + Send;

    // ---- session index -------------------------------------------------------------------------------------------

    /// Newer `updated_ms` wins, an older row changes nothing; `deleted` rows are taken out.
    fn session_changed(&self, rows: Vec<SessionRow>) -> impl Future<Output = Res<()>> + Send;
    /// The same of rows that were read from a file: whatever is newer wins, by however much.
    fn session_put(&self, rows: Vec<SessionRow>) -> impl Future<Output = Res<()>> + Send;
    fn session_get(&self, session_key: String) -> impl Future<Output = Res<Option<SessionRow>>> + Send;
    /// By `updated_ms`, newest first.
    fn session_list(&self, filter: SessionFilter) -> impl Future<Output = Res<Vec<SessionRow>>> + Send;
    fn session_delete(&self, session_key: String) -> impl Future<Output = Res<bool>> + Send;
    /// Sessions per agent, without reading them; by agent.
    fn session_counts(&self) -> impl Future<Output = Res<Vec<(String, u64)>>> + Send;

    // ---- RPC dedupe ----------------------------------------------------------------------------------------------

    /// Claims `(method, key)`; `Some` when it was claimed within 24 h.
    fn dedupe_claim(&self, claim: DedupeClaim) -> impl Future<Output = Res<Option<DedupeRow>>> + Send;
    /// Stores the answer of a claimed key.
    fn dedupe_put(&self, method: String, key: String, res: Vec<u8>) -> impl Future<Output = Res<()>> + Send;
    /// Gives a claim back whose request failed before it had any effect.
    fn dedupe_release(&self, method: String, key: String) -> impl Future<Output = Res<()>> + Send;
    fn dedupe_get(
        &self,
        method: String,
        key: String,
        now_us: i64,
    ) -> impl Future<Output = Res<Option<DedupeRow>>> + Send;

    // ---- small ledgers -------------------------------------------------------------------------------------------

    fn cursor_get(&self, account: String, scope: String) -> impl Future<Output = Res<Option<String>>> + Send;
    fn cursor_put(&self, cursor: CursorUpdate) -> impl Future<Output = Res<()>> + Send;
    fn kv_get(&self, key: String) -> impl Future<Output = Res<Option<Vec<u8>>>> + Send;
    /// Keys that begin so, in order.
    fn kv_keys(&self, prefix: String) -> impl Future<Output = Res<Vec<String>>> + Send;
    /// `None` deletes.
    fn kv_put(&self, key: String, value: Option<Vec<u8>>) -> impl Future<Output = Res<()>> + Send;
    /// The next fencing term of a worker: never given twice, also across restarts.
    fn next_epoch(&self, worker: String) -> impl Future<Output = Res<u64>> + Send;
    fn usage_add(&self, delta: UsageDelta) -> impl Future<Output = Res<()>> + Send;
    /// Days `from..=to` (`YYYY-MM-DD`), oldest first.
    fn usage_list(&self, from: String, to: String) -> impl Future<Output = Res<Vec<UsageDay>>> + Send;
    /// Queues a line for the session's next turn; the same text twice in a row is kept once.
    fn system_event_push(
        &self,
        session_key: String,
        text: String,
        context_key: Option<String>,
        now_us: i64,
    ) -> impl Future<Output = Res<()>> + Send;

    // ---- dead letters --------------------------------------------------------------------------------------------

    /// Lists it once per `(kind, reference)`.
    fn dead_add(&self, letter: NewDeadLetter) -> impl Future<Output = Res<()>> + Send;
    fn dead_list(&self) -> impl Future<Output = Res<Vec<DeadLetter>>> + Send;
    fn dead_get(&self, id: i64) -> impl Future<Output = Res<DeadLetter>> + Send;
    /// Puts the message back (`Queued` or `Pending` with a new hour to live).
    fn dead_retry(&self, id: i64, now_us: i64) -> impl Future<Output = Res<Revived>> + Send;
    fn dead_discard(&self, id: i64) -> impl Future<Output = Res<bool>> + Send;

    // ---- the whole -----------------------------------------------------------------------------------------------

    /// Once per start, before any worker: takes back what the last life left in the air. A second call changes nothing.
    fn recover(&self, now_us: i64) -> impl Future<Output = Res<Recovered>> + Send;
    /// Instead of [`Journal::recover`] when the workers went on.
    fn carry_over(&self, on: CarriedOver, now_us: i64) -> impl Future<Output = Res<Recovered>> + Send;
    /// The host's clock was set by this much: what is open moves along, and `basis` is kept in `kv`. Gives the rows moved.
    fn rebase(&self, by_us: i64, basis: Vec<u8>) -> impl Future<Output = Res<u64>> + Send;
    /// One bounded pass of housekeeping; call again at once while `more`.
    fn trim(&self, now_us: i64) -> impl Future<Output = Res<Trimmed>> + Send;
    fn stats(&self) -> impl Future<Output = Res<JournalStats>> + Send;
    /// Everything accepted before is durable, the stop is noted as clean, and the store is closed.
    fn close(&self) -> impl Future<Output = Res<()>> + Send;
}
