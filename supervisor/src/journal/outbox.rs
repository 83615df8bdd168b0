//! Deliveries.

pub mod state;

use proto::wire::id::Id;

/// The namespace of ids derived from a message that made no run (pairing replies, dead-letter notes).
pub fn origin_of(account: &str, ext_id: &str) -> Id {
    Id::derived(&Id::NIL, &format!("{account}|{ext_id}"), 0)
}
