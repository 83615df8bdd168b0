//! Limits of the public side. One place, each with its unit in the name and its reason beside it.
//!
//! Not here: limits of a single surface (one method's page size lives beside the method).

use std::time::Duration;

/// All connections together. An idle WebSocket costs about 10 kB, so this is 10 MiB of bookkeeping.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections that have not yet proved who they are: what a stranger can hold.
pub const CONNECTIONS_UNAUTHENTICATED_MAX: usize = 64;
/// Connections of one remote address (loopback exempt, a tunnel would look like one address).
pub const CONNECTIONS_PER_IP_MAX: usize = 16;
/// How long an accept waits for an unauthenticated place before it gives up on that client: a burst of
/// honest clients passes its handshake in milliseconds.
pub const UNAUTHENTICATED_WAIT: Duration = Duration::from_secs(1);

/// From the open socket to `connect` (wire protocol 4; protocol 3 had 10 s).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// A request head that takes longer is a slow-loris.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A request body that takes longer than this to arrive is answered 408.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP requests that are still open this long after a restart began are answered with an error: the rest of what
/// the restart waits for them is for the answer to leave.
pub const HTTP_CUT_AFTER: Duration = Duration::from_millis(1500);
/// Request head: names and values together.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Request head: number of fields.
pub const HEADER_COUNT_MAX: usize = 64;
/// Body of one HTTP request (images inline in a chat completion).
pub const HTTP_BODY_BYTES_MAX: usize = 20 * 1024 * 1024;

/// One WebSocket message before hello: enough for the largest honest `connect`.
pub const FRAME_BYTES_BEFORE_HELLO_MAX: usize = 64 * 1024;
/// One WebSocket message after hello (`policy.maxPayload`).
pub const FRAME_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Requests of one connection that may be in work at once; more wait in the socket.
pub const REQUESTS_OUTSTANDING_MAX: usize = 64;
/// Nesting of a JSON message; the parser's own limit is 128.
pub const JSON_DEPTH_MAX: usize = 64;
/// Consecutive calls with the wrong role before the socket is closed.
pub const WRONG_ROLE_CALLS_MAX: u32 = 10;

/// Bytes one socket may have waiting (`policy.maxBufferedBytes`): beyond it the consumer is slow.
pub const OUT_QUEUE_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Messages one socket may have waiting.
pub const OUT_QUEUE_ITEMS_MAX: usize = 8192;
/// From this many waiting bytes on, droppable events are skipped for that socket.
pub const OUT_QUEUE_BYTES_SOFT: usize = 1536 * 1024;
/// From this many waiting messages on, droppable events are skipped for that socket.
pub const OUT_QUEUE_ITEMS_SOFT: usize = 256;
/// Bytes waiting in all sockets together; beyond it the largest queue is closed.
pub const OUT_BYTES_GLOBAL_MAX: usize = 128 * 1024 * 1024;
/// Events on their way from core to the sockets.
pub const FANOUT_QUEUE_MAX: usize = 8192;

/// `policy.tickIntervalMs`: clients drop a socket that was silent for two of these.
pub const TICK_INTERVAL: Duration = Duration::from_secs(30);
/// Between two refreshes of the health snapshot.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(60);
/// WebSocket ping, to notice a peer that vanished without a FIN.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A socket that answered neither ping nor anything else for this long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(75);
/// How long a close frame may take to leave.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A write that makes no progress for this long means a dead or hostile reader.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Protocol 3: least time between two `chat` deltas of a run.
pub const CHAT_DELTA_INTERVAL_MS: u64 = 150;
/// Runs whose rendering state is kept at once.
pub const RUNS_RENDERED_MAX: usize = 1024;

/// Largest difference between a device's clock and ours.
pub const DEVICE_SKEW_MS: i64 = 120_000;
/// Life of a pending pairing request.
pub const PAIRING_TTL_MS: i64 = 5 * 60 * 1000;
/// Pending pairing requests kept; a stranger can make these.
pub const PAIRING_PENDING_MAX: usize = 64;
/// Paired devices kept.
pub const PAIRED_MAX: usize = 1024;

/// Presence rows kept.
pub const PRESENCE_MAX: usize = 200;
/// A presence row that nobody refreshed for this long is dropped.
pub const PRESENCE_TTL_MS: i64 = 5 * 60 * 1000;

/// A close frame's reason: the control frame holds 125 bytes, two of them are the code (RFC 6455 5.5).
pub const CLOSE_REASON_BYTES_MAX: usize = 120;

/// First wait after `accept` ran out of descriptors; doubles up to [`ACCEPT_BACKOFF_MAX`].
pub const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait after `accept` ran out of descriptors.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
