//! What is asked and said about deliveries.

use super::OutboxRow;
use proto::wire::id::Id;
use serde::{Deserialize, Serialize};

/// Which deliveries a person looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxFilter {
    /// `<channel>:<account>`
    pub account: Option<String>,
    /// Those that are done, too.
    pub delivered: bool,
    pub limit: Option<u32>,
}

/// What a channel worker says about a send. Carried over a restart in place: fields are only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendOutcome {
    Delivered {
        ext_ids: Vec<String>,
    },
    /// The network did not take it.
    Retry {
        next_us: i64,
        why: String,
    },
    /// The network will never take it.
    Permanent {
        why: String,
    },
    Unknown {
        why: String,
    },
    /// The network was asked and does not have it (answer of a reconcile).
    NotSent,
}

/// What a settlement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub row: OutboxRow,
    /// The row ended in `Failed` by this call: tell the user once.
    pub tell_user: bool,
    /// The row waits for a reconcile by the channel worker.
    pub reconcile: bool,
}

/// Rows of one chat that went out of date together: one note, never a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredChat {
    pub account: String,
    pub chat: String,
    pub count: u32,
    /// The oldest of them.
    pub first: Id,
    /// Their part numbers, which tell notes from replies.
    pub parts: Vec<u32>,
    pub oldest_us: i64,
}
