//! What the kernel knows of a process tree: memory, processor time, threads.

use crate::gateway::children_of;
use anyhow::Context;
use std::fs;
use std::time::Duration;

/// One process of a tree.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The program's name and, of a worker, what it works for.
    pub name: String,
    pub pss_kib: u64,
    pub threads: usize,
}

/// The process and everything below it.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children_of(pid));
        next += 1;
    }
    all
}

/// Memory and threads of each process of a tree.
///
/// # Errors
/// The kernel does not show a process's memory: workers are not dumpable, which only root may overlook.
pub fn usage(pid: u32) -> anyhow::Result<Vec<Usage>> {
    tree(pid).into_iter().map(usage_of).collect()
}

fn usage_of(pid: u32) -> anyhow::Result<Usage> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("read {path} (memory of the gateway's processes is shown to root only)"))?;
    let pss_kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no line `Pss:`"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let name = crate::gateway::command_line(pid);
    let name = name.rsplit('/').next().unwrap_or_default().trim().to_owned();
    Ok(Usage { name, pss_kib, threads })
}

/// Processor time, user and system, that a tree has used so far, with that of children that were waited for. The
/// kernel counts in steps of 10 ms: take differences over many turns.
pub fn cpu_time(pid: u32) -> Duration {
    tree(pid).into_iter().map(cpu_time_of).sum()
}

fn cpu_time_of(pid: u32) -> Duration {
    // Linux reports in units of 1/100 s on every architecture.
    const TICK_MS: u64 = 10;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; the state after the name is field 3.
    let ticks = after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * TICK_MS)
}

/// The load average over one minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let own = std::process::id();
        assert!(tree(own).contains(&own));
        assert!(usage_of(own).expect("own memory is readable").pss_kib > 100);
        let begin = cpu_time_of(own);
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while cpu_time_of(own) < begin + Duration::from_millis(50) {
            assert!(std::time::Instant::now() < end, "processor time does not grow");
        }
    }
}
