//! Workers of a supervisor that was killed and that outlived it all the same (stopped ones, say, which no signal of the
//! kernel's reaches): noted in a file while they live, found and ended by the next start.
//!
//! A note names a process by pid and start time within one boot of the host, so that no stranger is ever hit. The file is
//! not synced: it has to survive the death of this process, not of the host.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Processes below one leftover that are ended with it; each of its tools is one tree with a guard of its own.
const TREE_MAX: usize = 4_096;
/// Longest wait for the ends: a killed process is gone in milliseconds unless the kernel holds it.
const END_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    pid: u32,
    /// Clock ticks since the boot.
    start_ticks: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    /// The kernel's: pids of another boot mean nothing.
    boot_id: String,
    workers: Vec<Note>,
}

/// Keeps the file. Cloneable; written on blocking threads, the last state wins.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    living: Mutex<BTreeMap<u32, u64>>,
    writing: Mutex<()>,
}

impl Ledger {
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner { path, living: Mutex::default(), writing: Mutex::default() }))
    }

    /// A worker was started.
    pub fn born(&self, pid: u32) {
        if let Some(ticks) = start_ticks(pid) {
            self.0.living.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, ticks);
            self.write_soon();
        }
    }

    /// It is reaped.
    pub fn dead(&self, pid: u32) {
        self.0.living.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
        self.write_soon();
    }

    fn write_soon(&self) {
        let ledger = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = ledger.write() {
                tracing::debug!(%error, "living workers not noted; the kernel ends them with this process");
            }
        });
    }

    fn write(&self) -> std::io::Result<()> {
        let _one = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let living = self.0.living.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if living.is_empty() {
            return match fs::remove_file(&self.0.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let workers = living.into_iter().map(|(pid, start_ticks)| Note { pid, start_ticks }).collect();
        let text = serde_json::to_string(&File { boot_id: boot_id(), workers })?;
        let aside = self.0.path.with_extension("json.new");
        fs::write(&aside, text)?;
        fs::rename(&aside, &self.0.path)
    }
}

/// Ends what the file names and what stands below it; gives the number of workers ended. Blocks for at most two seconds.
pub fn sweep(path: &Path) -> usize {
    let Ok(text) = fs::read_to_string(path) else { return 0 };
    let file: File = serde_json::from_str(&text).unwrap_or_default();
    if file.boot_id != boot_id() {
        return 0;
    }
    let own = std::process::id();
    let mut ended = 0;
    for note in file.workers {
        // A child of ours was carried over a restart in place: it works on.
        let Some(root) = open(note.pid) else { continue };
        if start_ticks(note.pid) != Some(note.start_ticks) || parent(note.pid) == Some(own) {
            continue;
        }
        tracing::warn!(pid = note.pid, "ending a worker that an earlier gateway left behind");
        end_tree(note.pid, root);
        ended += 1;
    }
    ended
}

/// Everything below is opened before its parent dies: afterwards nobody could tell whose it was.
fn end_tree(pid: u32, root: OwnedFd) {
    let mut tree = vec![root];
    let mut open_pids = vec![pid];
    while let Some(pid) = open_pids.pop() {
        for child in children(pid) {
            if tree.len() >= TREE_MAX {
                break;
            }
            if let Some(fd) = open(child) {
                tree.push(fd);
                open_pids.push(child);
            }
        }
    }
    for process in &tree {
        // It may have ended by itself meanwhile.
        let _gone = pidfd_send_signal(process, Signal::KILL);
    }
    let begin = Instant::now();
    for process in &tree {
        let left = END_MAX.saturating_sub(begin.elapsed());
        let left = rustix::event::Timespec::try_from(left).ok();
        let mut watched =
            [rustix::event::PollFd::from_borrowed_fd(process.as_fd(), rustix::event::PollFlags::IN)];
        let _ended = rustix::event::poll(&mut watched, left.as_ref());
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Field `n` (from 3) of `/proc/<pid>/stat`; the name before may hold anything.
fn stat(pid: u32, n: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(n - 3)?.parse().ok()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid, 4).and_then(|ppid| u32::try_from(ppid).ok())
}

fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid, 22)
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn file(folder: &Path, boot_id: &str, pid: u32, start_ticks: u64) -> PathBuf {
        let path = folder.join("workers.json");
        let workers = vec![Note { pid, start_ticks }];
        let file = File { boot_id: boot_id.to_owned(), workers };
        fs::write(&path, serde_json::to_string(&file).unwrap()).unwrap();
        path
    }

    #[test]
    fn strangers_and_our_own_children_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let (pid, ticks) = (child.id(), start_ticks(child.id()).unwrap());
        assert_eq!(sweep(&folder.path().join("none.json")), 0);
        assert_eq!(sweep(&file(folder.path(), "another boot", pid, ticks)), 0);
        assert_eq!(sweep(&file(folder.path(), &boot_id(), pid, ticks + 1)), 0, "the pid was used again");
        assert_eq!(sweep(&file(folder.path(), &boot_id(), pid, ticks)), 0, "carried over");
        fs::write(folder.path().join("workers.json"), "{").unwrap();
        assert_eq!(sweep(&folder.path().join("workers.json")), 0);
        assert!(child.try_wait().unwrap().is_none(), "still alive");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn the_file_names_the_living_and_goes_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path().join("workers.json"));
        ledger.born(std::process::id());
        ledger.write().unwrap();
        let text = fs::read_to_string(folder.path().join("workers.json")).unwrap();
        assert!(text.contains(&format!("\"pid\":{}", std::process::id())), "{text}");
        ledger.dead(std::process::id());
        ledger.write().unwrap();
        assert!(!folder.path().join("workers.json").exists());
    }
}
