//! Frames that keep a link alive. Both sides send them; the link driver answers them itself.

use super::WireError;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ping {
    pub seq: u64,
    /// Sender's CLOCK_MONOTONIC, milliseconds.
    pub mono_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    pub seq: u64,
    #[serde(default)]
    pub inflight: u32,
    #[serde(default)]
    pub queue: u32,
    #[serde(default)]
    pub rss_kb: u64,
    /// Milliseconds since the worker last made progress.
    #[serde(default)]
    pub last_progress_ms: u64,
    /// How late the worker's own one-second timer was.
    #[serde(default)]
    pub lag_ms: u64,
}

/// Bytes of durable and lossy frames that the receiver has taken over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    pub bytes: u64,
}

/// Ends the request under the frame's corr. Idempotent: the peer answers with its one terminal frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cancel {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pause {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paused {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resume {}

/// A piece of a result that is larger than one part; the terminal frame of the corr follows the last piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Empty success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {}

wire_enum! {
    /// Either side → the other.
    pub enum LinkControl {
        0x0021 Control Ping(Ping),
        0x0022 Control Pong(Pong),
        0x0023 Control Credit(Credit),
        0x0024 Control Cancel(Cancel),
        0x0025 Control Pause(Pause),
        0x0026 Control Paused(Paused),
        0x0027 Control Resume(Resume),
        0x0028 Durable Part(Part),
        /// Terminal frame of a failed request (flag ERROR).
        0x0029 Durable Error(WireError),
        /// Terminal frame of a request whose success carries nothing.
        0x002A Durable Done(Done),
    }
}
