//! Accepted messages: what comes in, what C1 commits, what is read.

use super::{DedupeClaim, DedupeRow, InboundState, NewOutbox};
use proto::wire::id::Id;

/// One message as it was accepted from a network, an RPC caller or the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInbound {
    /// `<channel>:<account>`, or `rpc`, `cron`, `heartbeat` for messages from inside.
    pub account: String,
    /// The adapter's full identity of the message, unique within `account`. RPC messages get a generated one.
    pub ext_id: String,
    /// Conversation on the network; order is kept within one chat.
    pub chat: String,
    pub session_key: String,
    pub agent: String,
    /// The caller's idempotency key, which is the run id on the public wire.
    pub client_run_id: Option<String>,
    pub recv_us: i64,
    /// The network's own time stamp.
    pub net_ts_us: Option<i64>,
    pub body: Vec<u8>,
    /// SHA-256 of the raw update, to tell an edited redelivery from the same one.
    pub raw_hash: Option<[u8; 32]>,
    pub disposition: Disposition,
}

impl NewInbound {
    /// The row of a message that was just stored for its session under this number: what the journal would give, without
    /// asking it. It may be unable to answer by now, and the message is accepted.
    #[must_use]
    pub fn queued_as(self, seq: i64) -> InboundRow {
        InboundRow {
            seq,
            account: self.account,
            ext_id: self.ext_id,
            chat: self.chat,
            session_key: self.session_key,
            agent: self.agent,
            client_run_id: self.client_run_id,
            recv_us: self.recv_us,
            net_ts_us: self.net_ts_us,
            state: InboundState::Queued,
            run_id: None,
            attempts: 0,
            body: self.body,
        }
    }
}

/// What access and routing decided before the message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    #[expect(dead_code, reason = "for messages that wait for a decision, in the next step")]
    /// Stored, not yet decided: [`super::Journal::enqueue`] or [`super::Journal::suppress`] follows.
    Receive,
    /// Stored as the next item of its session's queue (saves the second commit).
    Queue,
    /// Stored so that a redelivery is recognised, but never run (not addressed, blocked, a command answered directly).
    Suppress,
}

/// Everything that C1 commits in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptInbound {
    pub inbound: NewInbound,
    /// The network's position that may be acknowledged once this is durable.
    pub cursor: Option<CursorUpdate>,
    /// Claims `(method, key)` for 24 h: the only judge of whether an RPC key is new.
    pub dedupe: Option<DedupeClaim>,
    /// Lines of ours that answer it; not stored with a duplicate, whose notes are stored already.
    pub notes: Vec<NewOutbox>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    New {
        seq: i64,
    },
    /// The same `(account, ext_id)` is known: acknowledge the network again, run nothing.
    Duplicate(InboundRow),
    /// The same `(method, key)` was claimed before: answer with what is stored.
    Replayed(DedupeRow),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundRow {
    /// Acceptance order over all accounts.
    pub seq: i64,
    pub account: String,
    pub ext_id: String,
    pub chat: String,
    pub session_key: String,
    pub agent: String,
    pub client_run_id: Option<String>,
    pub recv_us: i64,
    pub net_ts_us: Option<i64>,
    pub state: InboundState,
    pub run_id: Option<Id>,
    pub attempts: u32,
    /// Empty once retention has dropped it.
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorUpdate {
    pub account: String,
    /// `""` for the whole account, else a chat.
    pub scope: String,
    pub value: String,
}
