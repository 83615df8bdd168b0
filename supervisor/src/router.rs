//! Where a message goes: who may talk, which agent answers, in which session.
//!
//! `access`, `route` and `session_key` are pure rules; `pairing` keeps the files of approved senders.

pub mod access;
pub mod dispatch;
pub mod group_history;
pub mod pairing;
pub mod route;
pub mod session_key;

/// The agent of a canonical session key; the implicit agent for reserved keys.
pub fn agent_of_key(session_key: &str) -> String {
    session_key::parse(session_key).map_or(proto::view::IMPLICIT_AGENT_ID, |parts| parts.agent).to_owned()
}
