//! What every process of the gateway does alike: drive a link, start as a worker, beat, log, stop.
//!
//! Not here: what the messages mean. Pure parts ([`backoff`], [`heartbeat`]) take the time as a parameter.

pub mod backoff;
pub mod cgroup;
pub mod confine;
pub mod dump;
pub mod durable;
pub mod failpoint;
pub mod heartbeat;
pub mod link;
pub mod shutdown;
pub mod sys;
pub mod telemetry;
pub mod worker_start;
