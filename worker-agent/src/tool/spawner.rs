//! The one thread of the worker that starts, reaps and sweeps processes.
//!
//! A thread of its own and for ever, because the parent-death signal of a child is tied to the *thread* that started it, and one
//! thread, because then "every child that I did not start is a stranger" needs no lock: starting, reaping and sweeping
//! cannot overlap. The worker is a subreaper: what outlives its guard falls to it and is killed by the next sweep.
//!
//! One spawner a process. Not here: output, time-outs, the table of running commands.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::{mpsc, oneshot};

use super::{
    confined,
    launcher::{self, Exit},
    tree,
};

/// Requests waiting for the thread. Each takes about a millisecond; more at once means that someone loops.
const REQUESTS_MAX: usize = 64;
/// How long one sweep insists; what is left (an uninterruptible wait) is met by the next.
const SWEEP_LIMIT: Duration = Duration::from_millis(200);
/// Size of a terminal that nobody looks at: wide, so that output is not wrapped.
const PTY_COLS: u16 = 120;
const PTY_ROWS: u16 = 30;

/// What the command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// /dev/null: end of file at once.
    Null,
    /// A pipe that the worker may write to.
    Pipe,
    /// A terminal, for input and output.
    Pty,
}

/// One command to start.
#[derive(Debug, Clone)]
pub struct Request {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    pub cwd: PathBuf,
    /// The whole environment.
    pub env: Arc<BTreeMap<String, String>>,
    pub input: Input,
}

/// A command that has been started: its guard's pid, and the worker's ends.
#[derive(Debug)]
pub struct Started {
    pub pid: u32,
    pub pidfd: OwnedFd,
    /// Standard output and error in one stream, non-blocking.
    pub output: OwnedFd,
    pub input: Option<OwnedFd>,
}

enum Job {
    Spawn(Box<Request>, oneshot::Sender<io::Result<Started>>),
    Reap(u32, oneshot::Sender<Exit>),
}

/// Handle of the thread; clones share it.
#[derive(Clone)]
pub struct Spawner(mpsc::Sender<Job>);

impl Spawner {
    /// Starts the thread and makes this process the subreaper of all that tools start.
    /// `launcher`: this worker's executable (`/proc/self/exe`), which understands `__exec`.
    pub fn start(launcher: PathBuf) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (sender, jobs) = mpsc::channel(REQUESTS_MAX);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || serve(&launcher, jobs))?;
        Ok(Self(sender))
    }

    /// Starts a command under a guard.
    pub async fn spawn(&self, request: Request) -> io::Result<Started> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Job::Spawn(Box::new(request), reply)).await;
        sent.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }

    /// Collects a guard that has ended (its pidfd is readable) and sweeps what escaped it.
    pub async fn reap(&self, pid: u32) -> Exit {
        let (reply, answer) = oneshot::channel();
        if self.0.send(Job::Reap(pid, reply)).await.is_err() {
            return Exit::Code(-1);
        }
        answer.await.unwrap_or(Exit::Code(-1))
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts commands has ended")
}

fn serve(launcher: &PathBuf, mut jobs: mpsc::Receiver<Job>) {
    let mut guards: HashMap<u32, Child> = HashMap::new();
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Spawn(request, reply) => {
                let started = spawn(launcher, &request).map(|(child, started)| {
                    guards.insert(child.id(), child);
                    started
                });
                if let Err(Ok(unwanted)) = reply.send(started) {
                    // The caller was dropped meanwhile: nobody would ever end this command.
                    tree::signal(unwanted.pid, rustix::process::Signal::TERM);
                }
            }
            Job::Reap(pid, reply) => {
                let waited = guards.remove(&pid).map(|mut guard| guard.wait());
                let exit = match waited {
                    Some(Ok(status)) => Exit::of(status),
                    _ => Exit::Code(-1),
                };
                sweep(&mut guards);
                let _caller_is_gone = reply.send(exit);
            }
        }
    }
}

/// Kills every child that is no guard, and collects guards that nobody waits for.
fn sweep(guards: &mut HashMap<u32, Child>) {
    let own = std::process::id();
    let keeper = proto::runtime::confine::attributes::keeper();
    let known = |pid: &u32| guards.contains_key(pid) || Some(*pid) == keeper;
    let strangers = || tree::children(own).into_iter().filter(|pid| !known(pid)).collect::<Vec<u32>>();
    if !tree::kill_until_empty(strangers, SWEEP_LIMIT) {
        tracing::warn!("processes that a tool left behind do not die; the next sweep tries again");
    }
}

fn spawn(launcher: &PathBuf, request: &Request) -> io::Result<(Child, Started)> {
    let mut command = Command::new(launcher);
    command
        .args(launcher::guard_args(std::process::id(), request.input == Input::Pty, &request.argv))
        .current_dir(&request.cwd)
        .env_clear()
        .envs(request.env.iter())
        .env(confined::VARIABLE, policy_text()?);
    let (output, input) = match request.input {
        Input::Pty => {
            let (master, slave) = open_pty()?;
            command.stdout(slave.try_clone()?).stderr(slave.try_clone()?).stdin(slave);
            (master.try_clone()?, Some(master))
        }
        Input::Pipe | Input::Null => {
            let (reader, writer) = io::pipe()?;
            command.stdout(writer.try_clone()?).stderr(writer);
            let input = if request.input == Input::Pipe {
                let (reader, writer) = io::pipe()?;
                command.stdin(reader);
                Some(OwnedFd::from(writer))
            } else {
                command.stdin(Stdio::null());
                None
            };
            (OwnedFd::from(reader), input)
        }
    };
    for fd in std::iter::once(&output).chain(&input) {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    }
    let mut child = command.spawn()?;
    let pid = child.id();
    let opened = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData.into());
    match opened.and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?)) {
        Ok(pidfd) => Ok((child, Started { pid, pidfd, output, input })),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// The policy as the launcher reads it; empty without one.
fn policy_text() -> io::Result<String> {
    confined::current()
        .map_or(Ok(String::new()), |known| serde_json::to_string(known).map_err(io::Error::other))
}

fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    let size = rustix::termios::Winsize { ws_row: PTY_ROWS, ws_col: PTY_COLS, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&slave, size)?;
    Ok((master, slave))
}
