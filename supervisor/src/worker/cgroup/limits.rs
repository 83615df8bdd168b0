//! How much a worker's group may use, and what the kernel says that it may and did use.

use proto::runtime::cgroup::{folder_of, oom_kills};
use proto::wire::handshake::{WorkerId, WorkerKind};
use proto::wire::isolation::Policy;
use serde::Serialize;
use std::fs;
use std::path::Path;

const MIB: u64 = 1024 * 1024;
/// An account of a chat network needs some 10 MiB; the rest is room for media under way. There is no lower mark at which the
/// kernel begins to slow a group down (`memory.high`): what goes on taking memory then crawls for minutes instead of being
/// ended, and its worker with it, which looks hung.
const CHANNEL_MIB: u64 = 256;
/// An agent's worker without its commands: a long conversation with its images takes some 100 MiB.
const AGENT_MIB: u64 = 768;
/// Threads count as processes do. A channel's worker has a dozen.
const CHANNEL_TASKS: u64 = 64;
/// An agent's worker itself, with the guards of its commands.
const AGENT_TASKS: u64 = 256;
/// Threads for each process that a command may have: compilers and interpreters have several.
const TASKS_PER_PROCESS: u64 = 4;
/// Share of the processor beside other workers when it is short; 100 is the usual. A channel's few milliseconds come first. All
/// workers together have as much as the supervisor alone.
const CHANNEL_WEIGHT: u64 = 200;
const AGENT_WEIGHT: u64 = 100;

/// The limits of one worker with everything that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    memory_max: u64,
    tasks_max: u64,
    cpu_weight: u64,
    /// When memory runs out all processes go, not the largest one. Not for agents: one command that takes too much must not
    /// end the worker with all of its runs.
    all_at_once: bool,
}

impl Limits {
    /// From the rules of the worker: an agent's group has to hold one command at its own limit besides the worker.
    #[must_use]
    pub fn of(worker: &WorkerId, policy: Option<&Policy>) -> Self {
        let tool = policy.and_then(|policy| policy.tool.as_ref());
        let (commands_mib, processes) = tool.map_or((0, 0), |tool| (tool.memory_mb, tool.processes));
        let (own_mib, tasks, cpu_weight, all_at_once) = match worker.kind() {
            WorkerKind::Channel => (CHANNEL_MIB, CHANNEL_TASKS, CHANNEL_WEIGHT, true),
            WorkerKind::Agent => (AGENT_MIB, AGENT_TASKS, AGENT_WEIGHT, false),
        };
        Self {
            memory_max: own_mib.saturating_add(commands_mib).saturating_mul(MIB),
            tasks_max: tasks.saturating_add(processes.saturating_mul(TASKS_PER_PROCESS)),
            cpu_weight,
            all_at_once,
        }
    }

    /// Files of a group and what to write into them.
    pub(super) fn files(&self) -> [(&'static str, String); 4] {
        [
            ("memory.max", self.memory_max.to_string()),
            ("memory.oom.group", u8::from(self.all_at_once).to_string()),
            ("pids.max", self.tasks_max.to_string()),
            ("cpu.weight", self.cpu_weight.to_string()),
        ]
    }
}

/// What is in force for a process, as the kernel says. Bytes; `None`: no limit, or not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// Folder of its group.
    pub group: String,
    pub memory_max: Option<u64>,
    /// In use now.
    pub memory: Option<u64>,
    pub tasks_max: Option<u64>,
    pub tasks: Option<u64>,
    pub cpu_weight: Option<u64>,
    /// For people, in one line.
    pub text: String,
}

impl InForce {
    /// `None`: the process is in no group of a worker. Some reads of the kernel's own files, microseconds each.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let folder = folder_of(&pid.to_string())?;
        let above = folder.parent()?.file_name()?.to_str()?;
        above.starts_with(super::WORKERS).then(|| Self::read(&folder))
    }

    pub(super) fn read(folder: &Path) -> Self {
        let number = |file: &str| number(folder, file);
        let mut found = Self {
            group: folder.display().to_string(),
            memory_max: number("memory.max"),
            memory: number("memory.current"),
            tasks_max: number("pids.max"),
            tasks: number("pids.current"),
            cpu_weight: number("cpu.weight"),
            text: String::new(),
        };
        let parts = [
            found.memory_max.map(|bytes| format!("memory {} MiB", bytes / MIB)),
            found.tasks_max.map(|tasks| format!("{tasks} tasks")),
            found.cpu_weight.map(|weight| format!("processor share {weight}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        found.text = if parts.is_empty() { "own group, no limits".to_owned() } else { parts.join(", ") };
        found
    }
}

/// What a group had used when its worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub memory_max: Option<u64>,
    /// The most that was ever in use.
    pub memory_peak: Option<u64>,
    /// Processes that the kernel ended for want of memory.
    pub oom_kills: Option<u64>,
    /// Starts of processes and threads that were refused.
    pub tasks_refused: Option<u64>,
}

impl Account {
    pub(super) fn of(folder: &Path) -> Self {
        let refused = fs::read_to_string(folder.join("pids.events")).unwrap_or_default();
        let refused = refused.lines().find_map(|line| line.strip_prefix("max "));
        Self {
            memory_max: number(folder, "memory.max"),
            memory_peak: number(folder, "memory.peak"),
            oom_kills: oom_kills(folder),
            tasks_refused: refused.and_then(|count| count.trim().parse().ok()),
        }
    }

    /// For people: what ran out.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let (max, kills) = (self.memory_max?, self.oom_kills.filter(|kills| *kills > 0)?);
        let peak =
            self.memory_peak.map(|peak| format!(", {} MiB at most in use", peak / MIB)).unwrap_or_default();
        Some(format!("its control group may use {} MiB{peak}; processes ended for it: {kills}", max / MIB))
    }
}

/// A file with one number; `max` is no limit.
fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}
