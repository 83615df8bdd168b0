//! What is wrong with an installation, and what can be mended by itself: one function for each part, findings in,
//! nothing printed. The configuration's own findings come from `config::doctor`.
//!
//! Not here: arguments, printing, exit codes.

mod agents;
mod isolation;
mod places;
mod processes;
mod programs;
mod service;
mod transcripts;

pub use crate::config::doctor::{Finding, Severity};

use crate::config::{ConfigDisk, ConfigSnapshot, ConfigSource, doctor as config};
use serde_json::Value;
use std::sync::Arc;

/// Whether a gateway has this state directory.
pub enum Gateway {
    /// Its answer to `system.info`.
    Running(Value),
    /// It holds the lock and does not answer: starting, stopping or hung. Its pid, where the kernel tells it.
    Silent(Option<u32>),
    /// The lock cannot be asked for: the state directory is not ours. The reason.
    Unknown(String),
    /// None, and none may start: the caller holds the instance lock, or there is no state directory to lock.
    Stopped,
}

impl Gateway {
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// Everything that can be said without changing anything, worst first.
#[must_use]
pub fn examine(disk: &ConfigDisk, gateway: &Gateway) -> Vec<Finding> {
    let mut found = config::examine(disk);
    let file = disk.read();
    if file.is_valid() && file.source.exists {
        found.extend(programs::sections(&file));
    }
    let snapshot = ConfigSnapshot::new(Arc::new(file), ConfigSource::File).ok();
    found.extend(places::examine(disk));
    found.extend(programs::examine());
    found.extend(service::examine(disk));
    found.extend(processes::examine(disk, snapshot.as_ref(), gateway));
    if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.file.source.exists) {
        found.extend(agents::examine(disk, &snapshot));
        found.extend(isolation::examine(disk, &snapshot, gateway));
    }
    if gateway.is_stopped() {
        found.extend(places::journal(disk));
        found.extend(transcripts::examine(&disk.paths.state_dir));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Takes the rights of others away from everything that holds secrets. Allowed while a gateway runs.
#[must_use]
pub fn mend_modes(disk: &ConfigDisk) -> Vec<String> {
    let mut done = Vec::new();
    config::repair_modes(disk, &mut done);
    places::mend_modes(disk, &mut done);
    done
}

/// Mends the configuration. The caller holds the instance lock.
#[must_use]
pub fn mend_config(disk: &ConfigDisk, now_ms: i64) -> Vec<String> {
    config::repair(disk, now_ms)
}
