//! What the kernel says of a living process: for a dump, and for the report of one that is about to be killed.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Threads that are looked at: a worker has a handful, and one that has thousands shows in `Threads`.
const THREADS_MAX: usize = 32;
/// Bytes of a kernel stack: some thirty frames.
const STACK_BYTES_MAX: usize = 4 * 1024;
/// Lines of `status` that tell something about a process that does not answer.
const STATUS_LINES: [&str; 14] = [
    "State",
    "TracerPid",
    "FDSize",
    "VmPeak",
    "VmSize",
    "VmRSS",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "NoNewPrivs",
    "Seccomp",
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
];

/// One process, a moment before its end or while it runs. Empty where the kernel says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcView {
    pub status: BTreeMap<String, String>,
    /// What its first thread waits for in the kernel.
    pub wchan: String,
    /// Kernel stack of its first thread; only root may see it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stack: String,
    pub threads: Vec<ThreadView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadView {
    pub tid: u32,
    pub name: String,
    /// `R` runs, `S` waits, `D` waits and cannot be killed, `T` is stopped.
    pub state: char,
    pub wchan: String,
}

/// Looks at a process now. A few reads of /proc, some microseconds each.
pub fn look(pid: u32) -> ProcView {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let status = read("status")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| STATUS_LINES.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut stack = read("stack");
    stack.truncate(stack.floor_char_boundary(STACK_BYTES_MAX));
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
    let tids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    let thread = |tid: u32| ThreadView {
        tid,
        name: read(&format!("task/{tid}/comm")).trim().to_owned(),
        state: state(&read(&format!("task/{tid}/stat"))).unwrap_or('?'),
        wchan: read(&format!("task/{tid}/wchan")),
    };
    ProcView { status, wchan: read("wchan"), stack, threads: tids.take(THREADS_MAX).map(thread).collect() }
}

/// Somebody has stopped the process (SIGSTOP, a debugger): that it does not answer is not its own doing.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(state(&stat), Some('T' | 't'))
}

/// Field 3 of `stat`; the name before it may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let view = look(std::process::id());
        assert!(view.status["State"].starts_with(['R', 'S']), "{view:?}");
        assert!(view.threads.iter().any(|thread| "RS".contains(thread.state) && !thread.name.is_empty()));
        assert!(!is_stopped(std::process::id()));
        assert_eq!(look(u32::MAX), ProcView::default());
        assert_eq!(state("7 (a) b) T 1"), Some('T'));
    }
}
