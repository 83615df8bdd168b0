//! Tells a service manager how far we are (`sd_notify(3)`). Without `NOTIFY_SOCKET` it does nothing.
//!
//! Not here: whether the parts of the gateway answer (`watchdog`), and what the status line says (`status_line`).

use crate::config::Environment;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A manager whose queue is full is busy; nobody here waits for it longer than this.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);
/// Status lines are at least this far apart: a manager writes each of them to its log of changes.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often a long start asks for more time, and for how much: three requests may be lost.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY: Duration = Duration::from_secs(30);
/// A start that takes longer is hung: the manager's own time-outs take over again.
const EXTEND_MAX: Duration = Duration::from_secs(900);
/// A manager that is told to give descriptors back has done so by then, or will not.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most descriptors of one message: two listeners, and room.
const FDS_MAX: usize = 4;

/// Variables that a service manager sets for this process alone. Neither workers nor tools get them.
pub const MANAGER_VARIABLES: [&str; 12] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
];

/// The way to the service manager. Cheap to clone; silent when there is none.
#[derive(Clone, Debug, Default)]
pub struct Notify(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    address: SocketAddr,
    /// How long the manager waits for a sign of life.
    watchdog: Option<Duration>,
    /// At least version 254, which knows how to treat `RELOADING=1` in every type of unit.
    reloads: bool,
    status: Mutex<Said>,
}

/// What the status line says and should say.
#[derive(Debug, Default)]
struct Said {
    text: String,
    at: Option<Instant>,
    waiting: Option<String>,
}

impl Notify {
    pub fn new(env: &Environment) -> Self {
        let Some(path) = env.get("NOTIFY_SOCKET") else { return Self(None) };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        };
        let Ok(address) = address else { return Self(None) };
        let watchdog = watchdog(env, std::process::id());
        let reloads = env.get("MEMORY_PRESSURE_WATCH").is_some();
        Self(Some(Arc::new(Manager { address, watchdog, reloads, status: Mutex::default() })))
    }

    /// How long the manager waits for `WATCHDOG=1` before it takes the gateway for hung.
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref()?.watchdog
    }

    pub fn is_listening(&self) -> bool {
        self.0.is_some()
    }

    /// Sends one message, for example `READY=1`. A manager that does not listen is no reason to fail.
    pub fn send(&self, message: &str) {
        self.send_with(message, &[]);
    }

    /// The same with descriptors, which the manager gets copies of.
    pub fn send_with(&self, message: &str, fds: &[BorrowedFd<'_>]) {
        let Some(manager) = &self.0 else { return };
        if let Err(error) = manager.send(message, fds) {
            tracing::debug!(%error, "service manager not told");
        }
    }

    /// Says in one line what is going on. At most one line a second leaves; the last one always does, at the next
    /// [`Notify::flush`].
    pub fn status(&self, text: &str) {
        let Some(manager) = &self.0 else { return };
        let mut said = manager.status.lock().unwrap_or_else(PoisonError::into_inner);
        said.waiting = (said.text != text).then(|| text.to_owned());
        let line = said.due(Instant::now());
        drop(said);
        if let Some(line) = line {
            self.send(&line);
        }
    }

    /// Sends a status line that had to wait.
    pub fn flush(&self) {
        let Some(manager) = &self.0 else { return };
        let line = manager.status.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
        if let Some(line) = line {
            self.send(&line);
        }
    }

    /// The configuration is being read again; `READY=1` ends it. Managers that take this for the end of the service are
    /// not told.
    #[cfg_attr(not(test), expect(dead_code, reason = "a reload that takes long does not exist yet"))]
    pub fn reloading(&self) {
        if !self.0.as_ref().is_some_and(|manager| manager.reloads) {
            return;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// Asks for more time until the result is dropped: recovery takes as long as the journal needs. After a restart in
    /// place the watchdog's time runs on, so that signs of life go with it.
    pub fn recovering(&self) -> Recovering {
        if !self.is_listening() {
            return Recovering(None);
        }
        let (end, ended) = sync_channel::<()>(0);
        let notify = self.clone();
        let started = std::thread::Builder::new().name("recovering".into()).spawn(move || {
            super::stop::leave_signals_to_main();
            let line = format!("EXTEND_TIMEOUT_USEC={}\nWATCHDOG=1", EXTEND_BY.as_micros());
            let begin = Instant::now();
            while begin.elapsed() < EXTEND_MAX {
                notify.send(&line);
                if ended.recv_timeout(EXTEND_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Recovering(started.is_ok().then_some(end))
    }

    /// Waits until the manager has read everything that was sent before.
    pub fn barrier(&self) {
        if !self.is_listening() {
            return;
        }
        let waited = io::pipe().and_then(|(ours, theirs)| {
            self.send_with("BARRIER=1", &[theirs.as_fd()]);
            drop(theirs);
            // The other end is closed once the message was read.
            let timeout = Timespec::try_from(BARRIER_TIMEOUT).ok();
            Ok(poll(&mut [PollFd::new(&ours, PollFlags::empty())], timeout.as_ref())?)
        });
        if !matches!(waited, Ok(1..)) {
            tracing::warn!("the service manager does not say that it has read our messages");
        }
    }
}

/// A start that is under way.
pub struct Recovering(
    #[expect(dead_code, reason = "held, for its drop ends the thread")] Option<SyncSender<()>>,
);

impl Manager {
    fn send(&self, message: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.connect_addr(&self.address)?;
        if fds.is_empty() {
            return socket.send(message.as_bytes()).map(|_| ());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        sendmsg(&socket, &[IoSlice::new(message.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Said {
    fn due(&mut self, now: Instant) -> Option<String> {
        if self.at.is_some_and(|at| now.duration_since(at) < STATUS_EVERY) {
            return None;
        }
        let text = self.waiting.take()?;
        let line = format!("STATUS={}", text.replace('\n', " "));
        (self.text, self.at) = (text, Some(now));
        Some(line)
    }
}

/// `WATCHDOG_USEC`, unless it was meant for another process.
fn watchdog(env: &Environment, own_pid: u32) -> Option<Duration> {
    let for_us = env.get("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
    let usec = env.get("WATCHDOG_USEC")?.parse::<u64>().ok().filter(|usec| *usec > 0)?;
    for_us.then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_watchdog_is_obeyed_only_when_it_is_ours() {
        let usec = ("WATCHDOG_USEC", "30000000");
        assert_eq!(watchdog(&env(&[usec]), 7), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(&env(&[usec, ("WATCHDOG_PID", "7")]), 7), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(&env(&[usec, ("WATCHDOG_PID", "8")]), 7), None);
        assert_eq!(watchdog(&env(&[("WATCHDOG_USEC", "0")]), 7), None);
    }

    #[test]
    fn status_lines_keep_their_distance_and_the_last_one_comes_out() {
        let start = Instant::now();
        let mut said = Said { waiting: Some("one\ntwo".into()), ..Said::default() };
        assert_eq!(said.due(start).as_deref(), Some("STATUS=one two"));
        said.waiting = Some("three".into());
        assert_eq!(said.due(start + Duration::from_millis(900)), None);
        assert_eq!(said.due(start + STATUS_EVERY).as_deref(), Some("STATUS=three"));
        assert_eq!(said.due(start + STATUS_EVERY * 3), None);
    }

    #[test]
    fn old_managers_are_not_told_of_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let at = ("NOTIFY_SOCKET", path.to_str().unwrap());
        Notify::new(&env(&[at])).reloading();
        let mut buffer = [0; 128];
        assert!(socket.recv(&mut buffer).is_err());
        Notify::new(&env(&[at, ("MEMORY_PRESSURE_WATCH", "/dev/null")])).reloading();
        let length = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
    }
}
