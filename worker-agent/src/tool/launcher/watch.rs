//! What the guard keeps of a command's limits that the kernel does not keep for a whole tree without a cgroup: how many
//! processes there are and how much memory they use together. A look costs some microseconds for each process.

use std::{fs, time::Duration};

use proto::wire::isolation::ToolPolicy;

use super::super::tree;

/// Between two looks: a fork bomb comes to hundreds of processes in that time, not to a host's tens of thousands.
pub const EVERY: Duration = Duration::from_millis(50);
/// Pages of /proc/<pid>/statm.
const PAGE_KB: u64 = 4;

/// Why a tree has to go, for the model.
pub fn excess(guard: u32, policy: &ToolPolicy) -> Option<String> {
    let tree = tree::descendants(guard);
    let processes = u64::try_from(tree.len()).unwrap_or(u64::MAX);
    if processes > policy.processes {
        return Some(format!(
            "too many processes: the command had {processes}, its limit is {} ({}.processes)",
            policy.processes, policy.key
        ));
    }
    let limit_kb = policy.memory_mb.saturating_mul(1024);
    let resident: u64 = tree.iter().filter_map(|pid| resident_kb(*pid)).sum();
    // Pages that processes share count once; to ask for that walks over their mappings, so only when it matters.
    let shared_once =
        || tree.iter().filter_map(|pid| proto::runtime::sys::pss_kb(&pid.to_string())).sum::<u64>();
    if resident > limit_kb && shared_once() > limit_kb {
        return Some(format!(
            "out of memory: the command used more than {} MiB ({}.memoryMb)",
            policy.memory_mb, policy.key
        ));
    }
    None
}

fn resident_kb(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE_KB)
}
