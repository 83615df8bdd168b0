//! Modes and times of files, which Landlock does not rule: calls that set them wait for a process of their own, which carries
//! them out itself where a command may write, and refuses them elsewhere.
//!
//! ```text
//! worker (before it has a thread)               keeper (`__attributes`, child of the worker)
//!   starts the keeper                     ──►   waits on its standard input
//!   puts a filter with a listener in force
//!   sends the listener and the rules      ──►   confines itself, answers "ready"
//!   goes on; its commands inherit the filter    answers each call until the worker ends
//! ```
//! The keeper is outside of the filter, since it makes the very calls; it is started before the worker has secrets or reads
//! anything that strangers wrote, and a second listener below the first one is impossible. When it dies the calls fail
//! (ENOSYS), nothing opens, and its worker ends with it and is started again.
//!
//! A worker itself sets no modes and no times: its memory is closed to the keeper as to everybody, so it is refused.
//!
//! Where the kernel lets only ancestors look into a process (Yama), the worker opens the memory of the caller for the keeper
//! ([`lend_memory`]). It is not trusted in this: what it hands over is only read for a path, and the file that the path leads
//! to is judged as ever.

mod answer;
mod memory;

pub use memory::lend_memory;

use super::{seccomp, sys};
use crate::wire::isolation::ToolPolicy;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// First argument of a worker's executable that leads to [`main`].
pub const VERB: &str = "__attributes";
/// Folders of one policy; a longer list is a mistake in the configuration and is refused at the start.
const RULES_BYTES_MAX: usize = 64 * 1024;
/// A process that has only to be started and to filter itself: more means that it hangs, and the worker goes on without.
const READY_LIMIT: Duration = Duration::from_secs(10);
const READY: u8 = b'+';
/// Whom a process may trace, where the kernel has this rule. 0: those of its user; 1: those that it started; above: none.
const TRACE_SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

static KEEPER: OnceLock<u32> = OnceLock::new();

/// What the keeper has to know.
#[derive(Debug, Serialize, Deserialize)]
struct Rules {
    /// Files and folders below which modes and times may be set.
    write: Vec<String>,
    /// The worker, which is refused everything.
    worker: u32,
}

/// The process that answers for this worker: a child that is no command.
pub fn keeper() -> Option<u32> {
    KEEPER.get().copied()
}

/// The keeper's process, before the filter.
pub struct Keeper {
    socket: UnixStream,
    rules: Vec<u8>,
}

impl Keeper {
    /// Starts it. The caller must be confined by Landlock already and not yet filtered.
    pub fn start(policy: &ToolPolicy) -> io::Result<Self> {
        if let Ok(scope) = std::fs::read_to_string(TRACE_SCOPE)
            && !["0", "1"].contains(&scope.trim())
        {
            let text = format!("{TRACE_SCOPE} is {}: the paths of such calls cannot be read", scope.trim());
            return Err(io::Error::other(text));
        }
        let temp = Some(&policy.temp).filter(|temp| !temp.is_empty());
        let write = policy.read_write.iter().chain(temp).cloned().collect();
        let rules = serde_json::to_vec(&Rules { write, worker: std::process::id() })?;
        if rules.len() > RULES_BYTES_MAX {
            return Err(io::Error::other("the list of writable folders is longer than 64 KiB"));
        }
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("openclaw-agent")
            .arg(VERB)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let _one_a_process = KEEPER.set(child.id());
        socket.set_read_timeout(Some(READY_LIMIT))?;
        Ok(Self { socket, rules })
    }

    /// Filters this thread and all that it starts, and hands the questions over.
    pub fn take_over(self) -> io::Result<()> {
        let listener = sys::listen_to_calls(&seccomp::asking(answer::CALLS))?;
        self.hand_over(&listener).inspect_err(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) {
                memory::end_with_keeper();
            }
        })
    }

    fn hand_over(mut self, listener: &OwnedFd) -> io::Result<()> {
        let length = u32::try_from(self.rules.len()).map_err(io::Error::other)?.to_le_bytes();
        memory::send(&self.socket, &length, listener.as_fd())?;
        self.socket.write_all(&self.rules)?;
        let mut word = [0u8];
        self.socket.read_exact(&mut word)?;
        if word != [READY] {
            return Err(io::Error::other("the keeper of attributes is not ready"));
        }
        memory::keep(self.socket);
        Ok(())
    }
}

/// For a worker without commands: nothing sets a mode or a time.
pub fn refuse() -> io::Result<()> {
    seccomp::refuse(answer::CALLS)
}

/// The whole life of a keeper.
pub fn main(_args: impl Iterator<Item = OsString>) -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_the_worker_reports_it) => ExitCode::FAILURE,
    }
}

fn keep() -> io::Result<()> {
    // It ends with its worker and not before: a signal for the group is the worker's to obey.
    SigSet::all().thread_block()?;
    sys::name_process(c"openclaw-keeper")?;
    let socket = sys::take_stdin()?;
    sys::close_inherited(&socket)?;
    // Its worker may be dead already: then the socket is at its end.
    sys::die_with_parent(Signal::SIGKILL)?;
    let mut socket = UnixStream::from(socket);
    let (rules, listener) = receive(&mut socket)?;
    let rules: Rules = serde_json::from_slice(&rules)?;
    let answering = answer::Answering::new(&rules.write, rules.worker, listener, socket.try_clone()?);
    seccomp::enforce_keeper()?;
    sys::not_dumpable()?;
    socket.write_all(&[READY])?;
    drop(socket);
    answering.serve()
}

fn receive(socket: &mut UnixStream) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut length = [0u8; 4];
    let listener = memory::receive(socket, &mut length)?;
    let listener = listener.ok_or_else(|| io::Error::other("no listener came along"))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > RULES_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rules = vec![0u8; length];
    socket.read_exact(&mut rules)?;
    Ok((rules, listener))
}
