//! The wall clock, in one place.

use proto::runtime::failpoint;

/// Unix milliseconds. Whoever measures a span uses `Instant`: this one can be set.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond().saturating_add(failpoint::skew_ms("ag.clock"))
}
