//! What crosses a process border, and the few things that every process does alike.
//!
//! * [`wire`]: message types, limits, ids, versions. No IO, no tokio, no clock.
//! * [`view`]: lenient views of configuration sections that another process owns strictly.
//! * `runtime` (feature `runtime`): the link driver, process set-up, heartbeats, telemetry.
//!
//! Not here: any rule about sessions, models, channels or HTTP.

#[cfg(feature = "runtime")]
pub mod runtime;
pub mod view;
pub mod wire;
