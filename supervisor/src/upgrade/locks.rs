//! The locks of the gateway: held by descriptors, so that they go on without a gap.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Numbers of the descriptors that hold the locks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedLocks {
    pub instance: CarriedLock,
    pub host: Option<CarriedHost>,
    pub workspaces: Vec<CarriedLock>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedLock {
    pub path: PathBuf,
    pub fd: i32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedHost {
    pub file: Option<CarriedLock>,
    /// The abstract socket.
    pub guard: i32,
}
