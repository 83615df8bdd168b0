//! The process tree as /proc shows it: who descends from whom, and killing all of it.
//!
//! Used by the guard of a tool on its own tree and by the spawner on strangers. No state; every answer is a snapshot, and
//! callers repeat until nothing is left.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A pause between two looks at a tree that is dying; a SIGKILL takes about that long.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Deepest chain of parents that is followed: a bound for a walk, far above any real tree.
const PROCESSES_MAX: usize = 65_536;

/// Direct children of a process, zombies included; empty when it is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Every process below `pid`, parents before children.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        if found.len() >= PROCESSES_MAX {
            break;
        }
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone_already = kill_process(pid, signal);
    }
}

/// Collects one child of this process if it has ended. True: it is gone.
pub fn reap(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}

/// Kills what `roots` answers, with everything below, and reaps it, until `roots` answers nothing or time is up.
/// This process must be the subreaper of those trees: killed parents hand their children to it, which the next round finds.
/// True: nothing is left.
pub fn kill_until_empty(mut roots: impl FnMut() -> Vec<u32>, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let roots = roots();
        if roots.is_empty() {
            return true;
        }
        for root in &roots {
            for below in descendants(*root) {
                signal(below, Signal::KILL);
            }
            signal(*root, Signal::KILL);
        }
        roots.iter().for_each(|root| {
            reap(*root);
        });
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
