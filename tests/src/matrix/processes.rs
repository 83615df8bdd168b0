//! Processes that belong to one gateway, found by its home directory: nothing of it may be left when it is gone.

use crate::gateway::command_line;
use std::fs;
use std::path::Path;

/// A process that works for the gateway of `home`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub command: String,
}

/// Every living process whose command line, working directory or environment names this directory. The caller itself and
/// programs that only look (editors, `tail`) are not started from there and are not found.
pub fn of_home(home: &Path) -> Vec<Process> {
    let name = home.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let place = Path::new("/proc").join(pid.to_string());
            let command = command_line(pid);
            let cwd = fs::read_link(place.join("cwd")).unwrap_or_default();
            let environment = fs::read(place.join("environ")).unwrap_or_default();
            let ours = command.contains(&name)
                || cwd.starts_with(home)
                || String::from_utf8_lossy(&environment).contains(&name);
            (ours && crate::gateway::is_alive(pid)).then_some(Process { pid, command })
        })
        .collect()
}

/// Stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// Resident memory in KiB.
pub fn rss_kb(pid: u32) -> u64 {
    field(pid, "VmRSS:")
}

pub fn threads(pid: u32) -> u64 {
    field(pid, "Threads:")
}

pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn field(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
