//! Where a message goes: who may talk, which agent answers, in which session.
//!
//! `access`, `route` and `session_key` are pure rules; `pairing` keeps the files of approved senders.

pub mod access;
pub mod pairing;
pub mod route;
pub mod session_key;
