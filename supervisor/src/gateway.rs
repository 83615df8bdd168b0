//! Composition root of the gateway: builds every part once and owns the order of start and stop.

use crate::front::shared::Shared;
use crate::scheduler::Scheduler;
use std::sync::Arc;

/// What a method handler may use. Cheap to clone; every handle is bounded and never blocks its caller's thread.
#[derive(Clone)]
pub struct Handles {
    pub scheduler: Scheduler,
    /// Config view, devices, event fan-out, health: what the public side shares with methods.
    pub front: Shared,
    pub about: Arc<About>,
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
