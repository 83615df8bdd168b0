//! What one program image leaves to the next.
//!
//! Fields are only ever added, and each has a default: the image that reads may be one release older or newer. A change
//! that an older image must not miss raises [`READABLE_BY`] to the new [`SCHEMA`].

use super::locks::CarriedLocks;
use crate::delivery::carry::CarriedAccount;
use crate::front::carry::CarriedFront;
use crate::scheduler::carry::{CarriedBlame, CarriedRun};
use crate::worker::carry::CarriedWorkers;
use proto::wire::channel::ChannelState;
use proto::wire::handshake::WorkerId;
use serde::{Deserialize, Serialize};

/// Number of the state that this release writes.
pub const SCHEMA: u32 = 1;
/// Oldest state that this release reads: that of the release before.
pub const SCHEMA_MIN: u32 = if SCHEMA > 1 { SCHEMA - 1 } else { 1 };
/// Schema of the oldest release that reads what this one writes.
pub const READABLE_BY: u32 = 1;

/// Everything but the descriptors' contents.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// A state belongs to one process.
    pub pid: u32,
    /// Version of the image that wrote it.
    pub from_build: String,
    /// Unix milliseconds of the gateway's first start, and how long it has been up.
    pub started_ms: i64,
    pub uptime_ms: u64,
    /// Upgrades and restarts in place since then, this one included.
    pub upgrades: u32,
    /// Why it was asked for.
    pub reason: String,
    /// The gateway was told to stop while it gave way to its next image.
    pub stop_asked: bool,
    /// A token that was generated for this gateway and is in no file.
    pub runtime_token: Option<String>,
    pub locks: CarriedLocks,
    /// Numbers of the public listeners.
    pub listeners: Vec<i32>,
    /// Number of the control socket.
    pub control: Option<i32>,
    pub workers: CarriedWorkers,
    pub runs: Vec<CarriedRun>,
    /// Runs that shared the death of a worker.
    pub blame: Vec<CarriedBlame>,
    pub accounts: Vec<CarriedAccount>,
    pub channels: Vec<CarriedChannel>,
    pub front: CarriedFront,
    /// Numbers of the sockets of `front`.
    pub front_fds: Vec<i32>,
    /// Channels that run while nobody knows what was leased to them: they are restarted, which settles it.
    #[serde(skip)]
    pub unsettled: Vec<WorkerId>,
}

/// What a channel account said of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedChannel {
    pub account: String,
    pub state: Option<ChannelState>,
    pub connected_ms: Option<i64>,
    pub last_inbound_ms: Option<i64>,
    pub last_outbound_ms: Option<i64>,
}
