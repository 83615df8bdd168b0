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
/// Least credit that a durable or lossy frame costs, so that a window of tiny frames is at most 8192 of them.
pub const FRAME_CHARGE_BYTES_MIN: usize = 256;
/// Control frames that wait for the consumer of one link; a peer that sends more is flooding.
pub const CONTROL_INBOX_MAX: usize = 64;
/// Bytes of those frames: one `Welcome` with a large configuration, and room.
pub const CONTROL_INBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Results under reassembly, and results on their way out, on one link: two of the largest.
pub const RESULTS_BYTES_MAX: usize = 2 * RESULT_BYTES_MAX;
/// Merged slots that wait on one link: one per run that streams and kind of text, with room for drafts.
pub const LOSSY_SLOTS_MAX: usize = 256;
/// A merged slot above this starts another one, so that a slot always fits a frame.
pub const LOSSY_SLOT_BYTES_MAX: usize = 256 * 1024;
/// Lossy bytes that wait on one link; above it new ones are dropped and counted.
pub const LOSSY_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Finished requests whose corr is remembered, to tell a late answer from a second one.
pub const DONE_CORRS_MAX: usize = 512;
/// Frame headers kept for a crash report.
pub const HEADERS_KEPT_MAX: usize = 32;
