//! Runs.

pub mod state;
