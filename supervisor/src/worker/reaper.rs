//! Takes the exit status of every worker, and of orphans that came to us.
//!
//! The only caller of `wait` for workers. Each expected pid is looked at by itself, so that children which others wait for
//! (short runs, see [`Claimed`]) are left alone; strangers are reaped and, when adopting is on, killed.

use super::exit::Ended;
use super::leftovers::Ledger;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Signals can be merged; a scan this often finds what one of them missed.
const RESCAN: Duration = Duration::from_secs(2);
/// Rounds of killing strangers: each round can only bring up children of those killed before.
const SWEEP_ROUNDS_MAX: u32 = 8;

/// Children of short runs. Locked while one is being born: until it stands here it would be a stranger.
static CLAIMED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A child that its own caller waits for, in a process group of its own. Let go after the wait.
#[derive(Debug)]
pub struct Claimed(u32);

impl Claimed {
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(command: &mut Command) -> std::io::Result<(Child, Self)> {
        let mut claimed = claimed();
        let child = command.process_group(0).spawn()?;
        claimed.insert(child.id());
        let claim = Self(child.id());
        Ok((child, claim))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        claimed().remove(&self.0);
    }
}

fn claimed() -> MutexGuard<'static, BTreeSet<u32>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all short runs with what they started: nobody will wait for them any more.
pub fn end_claimed() {
    for pid in claimed().iter() {
        tracing::info!(pid, "a program that the gateway waited for is ended with it");
        // It may have ended by itself; until its caller has waited, the number is no stranger's.
        let _gone = i32::try_from(*pid).map(|pid| killpg(Pid::from_raw(pid), Signal::SIGKILL));
    }
}

/// How a process ended and what it had used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    pub ended: Ended,
    pub usage: Usage,
}

/// From /proc/<pid>/stat of the dead process, before it is reaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub user_ms: u64,
    pub system_ms: u64,
    pub major_faults: u64,
}

#[derive(Debug)]
struct Inner {
    expected: Mutex<HashMap<u32, oneshot::Sender<Exit>>>,
    adopt: bool,
    strays: AtomicU64,
    /// Nothing is reaped any more: what dies now is for the next image of this program.
    held: AtomicBool,
    /// A worker died, and what it left behind is not all gone yet.
    dirty: AtomicBool,
    ledger: Ledger,
}

impl Inner {
    fn new(adopt: bool, ledger: Ledger) -> Self {
        Self {
            expected: Mutex::default(),
            adopt,
            strays: AtomicU64::new(0),
            held: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            ledger,
        }
    }
}

/// Cloneable handle; the task behind it runs on the core runtime.
#[derive(Clone, Debug)]
pub struct Reaper(Arc<Inner>);

impl Reaper {
    /// Starts the task. With `adopt` (the process is a subreaper) children that nobody expects are ended.
    /// The living ones are noted in `ledger`.
    pub fn start(runtime: &tokio::runtime::Handle, adopt: bool, ledger: Ledger) -> std::io::Result<Self> {
        let reaper = Self(Arc::new(Inner::new(adopt, ledger)));
        let _guard = runtime.enter();
        let mut children = signal(SignalKind::child())?;
        let task = reaper.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = children.recv() => {}
                    () = tokio::time::sleep(RESCAN) => {}
                }
                task.scan();
            }
        });
        Ok(reaper)
    }

    /// The end of a child that was just spawned. Call before the runtime gets a turn.
    pub fn expect(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.expected().insert(pid, sender);
        self.0.ledger.born(pid);
        receiver
    }

    /// Orphans reaped so far.
    pub fn strays(&self) -> u64 {
        self.0.strays.load(Ordering::Relaxed)
    }

    /// Leaves the dead unreaped from now on, for the image that follows an exec.
    pub fn hold(&self) {
        self.0.held.store(true, Ordering::SeqCst);
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Exit>>> {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scan(&self) {
        if self.0.held.load(Ordering::SeqCst) {
            return;
        }
        let pids: Vec<u32> = self.expected().keys().copied().collect();
        for pid in pids {
            if let Some(exit) = reap(pid) {
                proto::runtime::failpoint::hit("sv.reap.before");
                self.0.dirty.store(true, Ordering::SeqCst);
                self.0.ledger.dead(pid);
                if let Some(waiter) = self.expected().remove(&pid) {
                    let _ = waiter.send(exit);
                }
            }
        }
        // While a short run is being started the next scan is soon enough.
        if self.0.adopt
            && let Ok(claimed) = CLAIMED.try_lock()
        {
            self.reap_strays(&claimed);
            if self.0.dirty.load(Ordering::SeqCst) {
                let clean = self.sweep(&claimed);
                self.0.dirty.store(!clean, Ordering::SeqCst);
            }
        }
    }

    fn reap_strays(&self, claimed: &BTreeSet<u32>) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, peek) {
            let Some(pid) = status.pid() else { return };
            let known = u32::try_from(pid.as_raw())
                .is_ok_and(|pid| claimed.contains(&pid) || self.expected().contains_key(&pid));
            // A known one that died meanwhile hides what stands behind it: the next scan gets both.
            if known || waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
                return;
            }
            self.0.strays.fetch_add(1, Ordering::Relaxed);
            tracing::info!(pid = pid.as_raw(), "reaped an orphan of a worker");
        }
    }

    /// What a dead worker left behind came to us: nothing of it may go on running. `false` while something is left: what
    /// was killed takes a moment to die, and only then its own children come to us.
    fn sweep(&self, claimed: &BTreeSet<u32>) -> bool {
        for _ in 0..SWEEP_ROUNDS_MAX {
            let known = |pid: &u32| claimed.contains(pid) || self.expected().contains_key(pid);
            let strangers: Vec<u32> = children().into_iter().filter(|pid| !known(pid)).collect();
            if strangers.is_empty() {
                return true;
            }
            for pid in strangers {
                tracing::warn!(pid, "killing an orphan of a worker");
                let _ = nix::sys::signal::kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            self.reap_strays(claimed);
        }
        false
    }
}

fn children() -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

fn reap(pid: u32) -> Option<Exit> {
    let id = Id::Pid(Pid::from_raw(i32::try_from(pid).ok()?));
    let ended = |status| match status {
        WaitStatus::Exited(_, code) => Some(Ended::Code(code)),
        WaitStatus::Signaled(_, signal, core) => Some(Ended::Signal { number: signal as i32, core }),
        _ => None,
    };
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(id, peek) {
        Ok(WaitStatus::StillAlive) => None,
        Ok(status) => {
            let usage = usage(pid);
            let id = Id::Pid(status.pid()?);
            let status = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).unwrap_or(status);
            Some(Exit { ended: ended(status)?, usage })
        }
        // Somebody else took the status: the end is a fact, its cause unknown.
        Err(Errno::ECHILD) => Some(Exit { ended: Ended::Code(-1), usage: Usage::default() }),
        Err(_) => None,
    }
}

fn usage(pid: u32) -> Usage {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command name may hold anything; the fields begin after its closing bracket with field 3.
    let fields: Vec<u64> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    // USER_HZ is 100 on every Linux that there is.
    let ticks_ms = |field: usize| fields.get(field - 3).copied().unwrap_or(0) * 10;
    Usage {
        major_faults: fields.get(12 - 3).copied().unwrap_or(0),
        user_ms: ticks_ms(14),
        system_ms: ticks_ms(15),
    }
}
