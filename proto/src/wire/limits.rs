//! Every limit of the link, with its unit in the name and its reason beside it.

/// Largest frame after the length word. Larger inputs go by file, larger results as parts.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Header after the length word: type u16, class u8, flags u8, corr u64.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Credit that each side of a link starts with. Two full frames, so that one in flight never blocks the next.
pub const LINK_WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Blob that may travel inside a message; larger ones are files below the state directory.
pub const INLINE_BLOB_BYTES_MAX: usize = 64 * 1024;
/// A result above this is sent as parts under one correlation id.
pub const RESULT_PART_BYTES: usize = 256 * 1024;
/// Largest reassembled result: a history answer is at most 6 MiB, a file read 16 MiB.
pub const RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Control frames waiting on one link. More means that the peer no longer reads.
pub const CONTROL_QUEUE_MAX: usize = 16;
/// Durable frames waiting on one link beside the byte window, so that tiny frames are bounded too.
pub const DURABLE_QUEUE_MAX: usize = 1024;
/// Requests without an answer on one link.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Heartbeat period.
pub const PING_MS: u64 = 5_000;
/// A worker that missed this many pongs is shown as suspect.
pub const PINGS_MISSED_SUSPECT: u32 = 3;
/// A worker silent for this long is hung.
pub const HUNG_MS: u64 = 30_000;
/// From spawn to `Hello`: exec and hardening take 2 ms, the rest is room for a loaded host.
pub const HELLO_MS: u64 = 5_000;
/// From `Welcome` to `Ready`.
pub const READY_MS: u64 = 30_000;
/// After a cancel the caller waits this long for the terminal frame before it forgets the request.
pub const CANCEL_GRACE_MS: u64 = 2_000;
