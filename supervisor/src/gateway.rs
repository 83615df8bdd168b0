//! Composition root of the gateway: builds every part once and owns the order of start and stop.
//!
//! Start: instance lock → read, validate, mode guard → host lock → journal, recover → bind → control socket → workers →
//! ready. Stop is the reverse.

pub mod channel_board;
#[cfg(test)]
pub mod fixture;
mod housekeeping;
mod last_words;
pub mod logging;
pub mod port_owner;
mod provision;
mod pump;
pub mod restart;
mod sd_notify;
mod sentinel;
pub mod start;
mod stop;

use crate::config::ConfigHandle;
use crate::front::shared::Shared;
use crate::journal::JournalHandle;
use crate::router::pairing::PairingStore;
use crate::scheduler::Scheduler;
use crate::worker::Workers;
use channel_board::ChannelBoard;
use restart::Restarts;
use std::sync::Arc;

/// What a method handler may use. Cheap to clone; every handle is bounded and never blocks its caller's thread.
#[derive(Clone)]
pub struct Handles {
    pub scheduler: Scheduler,
    /// Config view, devices, event fan-out, health: what the public side shares with methods.
    pub front: Shared,
    pub about: Arc<About>,
    pub config: ConfigHandle,
    pub journal: JournalHandle,
    pub workers: Workers,
    pub channels: ChannelBoard,
    pub pairing: PairingStore,
    pub restarts: Restarts,
}

/// Facts of this start of the gateway.
#[derive(Debug)]
pub struct About {
    pub version: String,
    pub pid: u32,
    /// One per start.
    pub boot_id: String,
    pub started: std::time::Instant,
    pub started_ms: i64,
    /// Public address, once bound.
    pub port: u16,
    pub service: bool,
}
