//! Accepted messages.

pub mod state;
