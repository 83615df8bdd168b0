//! Composition root of the gateway: builds every part once and owns the order of start and stop.
//!
//! Start: instance lock → read, validate, mode guard → host lock → journal, recover → bind → control socket → workers →
//! ready. Stop is the reverse.

pub mod channel_board;
mod decide;
mod fd_store;
#[cfg(test)]
pub mod fixture;
mod housekeeping;
mod journald;
mod last_words;
mod log_event;
pub mod logging;
pub mod port_owner;
mod provision;
mod pump;
mod reload;
pub mod restart;
pub mod sd_notify;
pub mod sentinel;
pub mod start;
mod status_line;
pub mod stop;
mod watchdog;

use crate::config::ConfigHandle;
use crate::front::shared::Shared;
use crate::journal::JournalHandle;
use crate::router::pairing::PairingStore;
use crate::scheduler::Scheduler;
use crate::worker::Workers;
use channel_board::ChannelBoard;
use restart::Restarts;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
pub use stop::RESTARTED_AT_MS;

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
    /// The public port; see [`About::port`].
    pub port_now: AtomicU16,
    pub service: bool,
}

impl About {
    /// The public port. It changes when the configuration moves it.
    pub fn port(&self) -> u16 {
        self.port_now.load(Ordering::Relaxed)
    }

    pub fn set_port(&self, port: u16) {
        self.port_now.store(port, Ordering::Relaxed);
    }
}
