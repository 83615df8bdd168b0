//! What this process is doing, written to standard error on request (SIGUSR2) or because it seems to hang (SIGQUIT).
//!
//! Written by the guard thread while everything else may be stuck: nothing here waits for a lock that a stuck thread may
//! hold, nor for a runtime. What is to be said is noted beforehand, under a lock that is held for a moment only.

use super::link::LinkHandle;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, TryLockError};
use std::time::Instant;

/// Things that are noted at the same time; more are not listed one by one.
const NOTES_MAX: usize = 64;
/// Threads that are shown.
const THREADS_MAX: usize = 32;
/// In the last line of every dump.
pub const END: &str = "end of dump";

static BOARD: Mutex<Board> = Mutex::new(Board { notes: BTreeMap::new(), link: None });

struct Board {
    /// Name of a thing that goes on → its present step, and since when.
    notes: BTreeMap<String, (String, Instant)>,
    link: Option<LinkHandle>,
}

/// A thing that goes on; its note is taken away with it.
#[derive(Debug)]
pub struct Task(String);

impl Task {
    /// `what` names it, as `run 0192…`.
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        if let Ok(mut board) = BOARD.lock()
            && board.notes.len() < NOTES_MAX
        {
            board.notes.insert(what.clone(), ("began".to_owned(), Instant::now()));
        }
        Self(what)
    }
}

/// Where a thing that goes on stands now.
pub fn step(what: &str, step: &str) {
    if let Ok(mut board) = BOARD.lock()
        && let Some(note) = board.notes.get_mut(what)
    {
        *note = (step.to_owned(), Instant::now());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Ok(mut board) = BOARD.lock() {
            board.notes.remove(&self.0);
        }
    }
}

/// The link whose last frames a dump shows.
pub fn show_link(link: &LinkHandle) {
    if let Ok(mut board) = BOARD.lock() {
        board.link = Some(link.clone());
    }
}

/// Writes the dump, one line a thing. For the guard thread.
pub fn write() {
    // As one write: what other threads print does not come in between.
    let _unread = std::io::stderr().write_all(text().as_bytes());
}

fn text() -> String {
    let mut out = String::from("dump: state on request\n");
    match BOARD.try_lock() {
        Ok(board) => {
            for (what, (step, since)) in &board.notes {
                let _ = writeln!(out, "dump: {what}: {step} for {} ms", since.elapsed().as_millis());
            }
            if let Some(frames) = board.link.as_ref().and_then(LinkHandle::try_last_frames) {
                for frame in frames.iter().rev().take(8) {
                    let (code, corr, bytes) = (frame.code, frame.corr, frame.bytes);
                    let _ = writeln!(out, "dump: received frame {code:#06x}, corr {corr}, {bytes} bytes");
                }
            }
        }
        Err(TryLockError::WouldBlock) => out += "dump: the notes are held by a thread that does not move\n",
        Err(TryLockError::Poisoned(_)) => {}
    }
    threads(&mut out);
    let _ = writeln!(out, "dump: {END}");
    out
}

fn threads(out: &mut String) {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks.take(THREADS_MAX) {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let (name, waits) = (read("comm"), read("wchan"));
        let _ = writeln!(out, "dump: thread {}: {state} {waits}", name.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_named_until_it_ends() {
        let task = Task::begin("run 7");
        step("run 7", "model");
        step("run 8", "model");
        let shown = text();
        assert!(shown.contains("dump: run 7: model for ") && !shown.contains("run 8"), "{shown}");
        assert!(shown.contains("dump: thread ") && shown.ends_with("end of dump\n"), "{shown}");
        drop(task);
        assert!(!text().contains("run 7"));
    }
}
