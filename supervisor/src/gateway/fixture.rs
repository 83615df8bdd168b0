//! Handles for unit tests: a real journal and config in a temporary directory, no workers.

use super::channel_board::ChannelBoard;
use super::restart::Restarts;
use super::{About, Handles};
use crate::config::{ConfigHandle, Environment, StartPolicy};
use crate::front::shared::Shared;
use crate::journal::{JournalHandle, OpenOptions};
use crate::paths::{Paths, ProfileFlags};
use crate::router::pairing::PairingStore;
use crate::scheduler::Scheduler;
use crate::worker::{Workers, WorkersConfig};
use proto::wire::Id;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Must be called inside a tokio runtime. Nobody serves the scheduler's commands: its verbs are refused.
pub fn handles(state_dir: &Path, config: &Value, front: Shared, about: About) -> Handles {
    let env = Environment::from_iter([("OPENCLAW_STATE_DIR", state_dir.display().to_string())]);
    let paths = Paths::of_process(&env, &ProfileFlags::default()).unwrap();
    std::fs::write(&paths.config_file, config.to_string()).unwrap();
    let mut open = OpenOptions::new(state_dir.join("journal"));
    open.reserve = false;
    let (journal, _) = JournalHandle::open(open).unwrap();
    let (workers, _events) = Workers::start(
        WorkersConfig {
            boot_id: Id::NIL,
            crash_dir: state_dir.join("crash"),
            next_epoch: Arc::new(|_| Box::pin(async { Ok(1) })),
            held: std::collections::BTreeSet::new(),
            adopt_orphans: false,
        },
        Default::default(),
    )
    .unwrap();
    Handles {
        scheduler: Scheduler::new(mpsc::channel(1).0),
        front,
        about: Arc::new(about),
        config: ConfigHandle::start(paths.clone(), env, StartPolicy::default()).unwrap(),
        journal,
        workers,
        channels: ChannelBoard::default(),
        pairing: PairingStore::new(&paths.credentials_dir),
        restarts: Restarts::new(None, 0, None),
    }
}
