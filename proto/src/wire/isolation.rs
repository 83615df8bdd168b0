//! What a worker and its commands may reach: decided by the supervisor from the configuration, sent in `Bootstrap`,
//! applied by the worker to itself before it has a thread.
//!
//! Not here: how a rule is enforced (`runtime::confine`), and the places of the operating system that everybody may read.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a process is confined. The order is the strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Nothing but resource limits.
    #[default]
    T0,
    /// System calls are filtered; files are not.
    T3,
    /// Files by Landlock, system calls by seccomp.
    T2,
    /// T2 inside of namespaces of its own.
    T1,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::T0, Self::T3, Self::T2, Self::T1];

    pub fn name(self) -> &'static str {
        match self {
            Self::T0 => "T0",
            Self::T1 => "T1",
            Self::T2 => "T2",
            Self::T3 => "T3",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name().eq_ignore_ascii_case(text.trim()))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rules of one worker. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// A worker below this is sent away under [`super::handshake::Isolation::Require`].
    pub min: Tier,
    /// Folders of its own; made when they are missing.
    pub read_write: Vec<String>,
    /// What else it may read and run; a path that does not exist is left out.
    pub read_only: Vec<String>,
    /// TCP ports that it may connect to; `None`: any. Binding is never allowed with a list.
    pub ports: Option<Vec<u16>>,
    /// Writable memory of the process, in MiB.
    pub memory_mb: u64,
    pub open_files: u64,
    /// Its folder for temporary files; emptied and made at its start.
    pub temp: String,
    /// Files that must not open once the rules are in force: the configuration, the gateway's lock.
    pub canaries: Vec<String>,
    /// The rules of its commands and file tools; agents only.
    pub tool: Option<ToolPolicy>,
}

/// The rules of an agent's commands and file tools: a part of the worker's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolPolicy {
    pub read_write: Vec<String>,
    pub read_only: Vec<String>,
    /// Connections to the network. Without it there are no sockets at all, only pairs and pipes.
    pub network: bool,
    /// Memory of a command with everything that it starts, in MiB.
    pub memory_mb: u64,
    /// Processor time of each process of a command, in seconds.
    pub cpu_seconds: u64,
    /// Processes of a command.
    pub processes: u64,
    /// `TMPDIR`.
    pub temp: String,
    /// Where the settings stand in the configuration, for refusals: `agents.list[].isolation`.
    pub key: String,
}
