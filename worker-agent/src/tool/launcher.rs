//! `openclaw-agent __exec`: what stands between the worker and a command. Runs as processes of its own, never in the worker.
//!
//! ```text
//! worker (spawner thread)
//!   └─ guard      own session, subreaper of the command's tree, not dumpable; waits, kills, reports
//!        └─ run   resets the signal mask, sets limits, confines itself, becomes the command by exec
//! ```
//!
//! The guard exists because a process group is not a tree: what a command starts in a session of its own is re-parented to the
//! guard and to no one else, so that "everything this command started" is always known, whichever other commands run.
//! It ends the tree when the command ends, when it is asked to (SIGTERM), and when the worker dies (parent-death signal).
//! Should the guard itself be killed, the command dies with it and the rest falls to the worker's sweep.
//!
//! Not here: environment and working directory (set by the spawner), capture of output, time-outs.

use std::{
    ffi::OsString,
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal as NixSignal, raise},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpgrp, getpid, getppid,
        ioctl_tiocsctty, kill_process_group, set_child_subreaper, set_dumpable_behavior,
        set_parent_process_death_signal, setpgid, setrlimit, setsid, wait,
    },
    thread::set_no_new_privs,
};

use super::{
    confined::{Confinement, VARIABLE},
    tree,
};
use proto::runtime::confine;
use proto::wire::isolation::ToolPolicy;

mod watch;

/// First argument of the worker's executable that leads here.
pub const VERB: &str = "__exec";
const GUARD: &str = "guard";
const RUN: &str = "run";

/// Exit code when the launcher itself could not do its work (the shell convention for "not executable" is 126, 127).
const EXIT_LAUNCHER: u8 = 125;

/// Between SIGTERM and SIGKILL: enough for `git` to drop its lock files, little enough for a person who said stop.
const TERM_GRACE: Duration = Duration::from_millis(400);
/// How long a guard tries to end its tree; a process in an uninterruptible wait must not keep it for ever.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Open files of a command: enough for a build, not enough to exhaust the host.
const NOFILE_MAX: u64 = 4096;
/// Processor time between the signal that says so and the end of a program that does not care.
const CPU_GRACE_SECONDS: u64 = 5;
/// Largest file a command may write, in bytes: a runaway log ends here, not at a full disk.
const FSIZE_BYTES_MAX: u64 = 2 << 30;
/// Tasks that other programs of the same user may start while a command runs: the kernel counts a user's, not a tree's.
const OTHER_TASKS: u64 = 1024;
/// Added to the worker's own priority, so that a busy command never slows a reply.
const NICE_STEP: i32 = 5;

/// The arguments of a guard for a command.
pub fn guard_args(worker_pid: u32, pty: bool, argv: &[OsString]) -> Vec<OsString> {
    stage_args(GUARD, worker_pid, pty, argv)
}

fn stage_args(stage: &str, parent: u32, pty: bool, argv: &[OsString]) -> Vec<OsString> {
    let mode = if pty { "pty" } else { "pipe" };
    let mut args: Vec<OsString> =
        vec![VERB.into(), stage.into(), parent.to_string().into(), mode.into(), "--".into()];
    args.extend(argv.iter().cloned());
    args
}

/// The whole life of a launcher process; `args` is what follows `__exec`.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let Some((stage, parent, pty, argv)) = parse(&args) else {
        eprintln!("{VERB} is started by the worker, not by hand");
        return ExitCode::from(EXIT_LAUNCHER);
    };
    let result = match stage {
        GUARD => guard(parent, pty, argv),
        _ => run(parent, pty, argv),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cannot start the command: {error}");
            ExitCode::from(EXIT_LAUNCHER)
        }
    }
}

fn parse(args: &[OsString]) -> Option<(&'static str, u32, bool, &[OsString])> {
    let [stage, parent, mode, dashes, argv @ ..] = args else { return None };
    let stage = [GUARD, RUN].into_iter().find(|name| stage == name)?;
    let parent = parent.to_str()?.parse().ok()?;
    (dashes == "--" && !argv.is_empty()).then_some((stage, parent, mode == "pty", argv))
}

/// Asks for a signal when the parent dies; an error when it is dead already.
fn follow_parent(parent: u32, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    match getppid() {
        Some(pid) if pid.as_raw_nonzero().get().cast_unsigned() == parent => Ok(()),
        _ => Err(io::Error::other("the worker is gone")),
    }
}

/// Closes whatever came through exec besides the three standard streams: a command holds no socket of the worker.
fn close_inherited() -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?.flatten();
    let fds: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in fds.into_iter().filter(|fd| *fd > 2) {
        let _closed_with_the_listing = nix::unistd::close(fd);
    }
    Ok(())
}

fn guard(worker: u32, pty: bool, argv: &[OsString]) -> io::Result<ExitCode> {
    close_inherited()?;
    let mut signals = SigSet::empty();
    for signal in [NixSignal::SIGTERM, NixSignal::SIGINT, NixSignal::SIGHUP, NixSignal::SIGCHLD] {
        signals.add(signal);
    }
    let mut blocked = signals;
    blocked.add(NixSignal::SIGTTOU);
    blocked.add(NixSignal::SIGPIPE);
    blocked.thread_set_mask()?;
    follow_parent(worker, Signal::TERM)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    set_child_subreaper(Some(getpid()))?;
    setsid()?;
    if pty {
        ioctl_tiocsctty(io::stdin())?;
    }
    let own_pid = std::process::id();
    // A child that std only forgets: the loop below reaps everything there is.
    let confinement = confinement()?;
    let child = Command::new("/proc/self/exe")
        .arg0("openclaw-agent")
        .args(stage_args(RUN, own_pid, pty, argv))
        .spawn()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let status = wait_for(child.id(), &signals, confinement.as_ref().map(|known| &known.policy))?;
    tree::kill_until_empty(|| tree::children(own_pid), KILL_LIMIT);
    Ok(mirror(status))
}

/// The policy that came with the environment. A broken one is an error: the command must not run without.
fn confinement() -> io::Result<Option<Confinement>> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => Ok(Some(serde_json::from_str(&text).map_err(io::Error::other)?)),
        _ => Ok(None),
    }
}

/// Waits for the command, reaping whatever else falls to the guard. None: asked to end, and the command did not in time, or
/// it exceeded a limit.
fn wait_for(child: u32, signals: &SignalFd, policy: Option<&ToolPolicy>) -> io::Result<Option<WaitStatus>> {
    let own = std::process::id();
    let mut kill_at: Option<Instant> = None;
    loop {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child => {
                    return Ok(Some(status));
                }
                Ok(Some(_other)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let left = kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        if let Some(why) = policy.and_then(|policy| watch::excess(own, policy)) {
            // At once and all together, before it grows; the rest falls to the sweep.
            if let Some(group) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                let _gone_already = kill_process_group(group, Signal::KILL);
            }
            eprintln!("\n[isolation: {why}]");
            return Ok(None);
        }
        let tick = policy.map(|_| watch::EVERY);
        let timeout = [left, tick].into_iter().flatten().min();
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = signals.read_signal()? {
            let child_event = u32::try_from(NixSignal::SIGCHLD as i32) == Ok(signal.ssi_signo);
            if !child_event && kill_at.is_none() {
                kill_at = Some(Instant::now() + TERM_GRACE);
                if let Some(group) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                    let _gone_already = kill_process_group(group, Signal::TERM);
                }
            }
        }
    }
}

/// Ends this process the way the command ended, so that the worker reads the truth from its exit status.
fn mirror(status: Option<WaitStatus>) -> ExitCode {
    let raw_signal = match status {
        Some(status) => status.terminating_signal(),
        None => Some(NixSignal::SIGKILL as i32),
    };
    if let Some(raw) = raw_signal {
        if let Ok(signal) = NixSignal::try_from(raw) {
            let _unblocked = SigSet::empty().thread_set_mask();
            let _does_not_return = raise(signal);
        }
        return ExitCode::from(u8::try_from(128 + raw).unwrap_or(EXIT_LAUNCHER));
    }
    let code = status.and_then(WaitStatus::exit_status).and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(EXIT_LAUNCHER))
}

fn run(guard: u32, pty: bool, argv: &[OsString]) -> io::Result<ExitCode> {
    follow_parent(guard, Signal::KILL)?;
    let confinement = confinement()?;
    limit(confinement.as_ref().map(|known| &known.policy));
    setpgid(None, None)?;
    if pty {
        // The guard blocked SIGTTOU, and the mask is still its mask.
        rustix::termios::tcsetpgrp(io::stdin(), getpgrp())?;
    }
    SigSet::empty().thread_set_mask()?;
    let Some((program, args)) = argv.split_first() else { return Ok(ExitCode::from(EXIT_LAUNCHER)) };
    let mut command = Command::new(program);
    command.args(args).env_remove(VARIABLE);
    if let Some(Confinement { policy, enforce: true }) = &confinement {
        confine::confine_tool(policy)?;
    }
    let error = command.exec();
    eprintln!("{}: {error}", program.display());
    Ok(ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
}

/// Limits of one command. Each is best effort: a host with tighter ones already keeps them.
fn limit(policy: Option<&ToolPolicy>) {
    let lower_to = |resource: Resource, wanted: u64, more: u64| {
        let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (current, maximum) = (wanted.min(hard), wanted.saturating_add(more).min(hard));
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        let _kept_as_it_was = setrlimit(resource, limit);
    };
    let lower = |resource: Resource, wanted: u64| lower_to(resource, wanted, 0);
    lower(Resource::Core, 0);
    lower(Resource::Nofile, NOFILE_MAX);
    lower(Resource::Fsize, FSIZE_BYTES_MAX);
    if let Some(policy) = policy {
        // Reservations without access (runtimes make large ones) do not count.
        lower(Resource::Data, policy.memory_mb.saturating_mul(1024 * 1024));
        // At the soft limit the kernel sends SIGXCPU, which tells why; only at the hard one it kills without a word.
        lower_to(Resource::Cpu, policy.cpu_seconds, CPU_GRACE_SECONDS);
        lower(Resource::Nproc, tasks().saturating_add(OTHER_TASKS).saturating_add(policy.processes));
    }
    let _not_permitted = rustix::process::nice(NICE_STEP);
}

/// Tasks of this host, which are no fewer than this user's.
fn tasks() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let total = text.split(' ').nth(3).and_then(|counts| counts.split_once('/')).map(|(_, total)| total);
    total.and_then(|total| total.parse().ok()).unwrap_or(0)
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The number of the signal that ended it.
    Signal(i32),
}

impl Exit {
    pub fn of(status: std::process::ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.code().unwrap_or(-1)),
        }
    }

    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// "code 2", "signal SIGKILL".
    pub fn describe(self) -> String {
        match self {
            Exit::Code(code) => format!("code {code}"),
            Exit::Signal(number) => match NixSignal::try_from(number) {
                Ok(signal) => format!("signal {}", signal.as_str()),
                Err(_) => format!("signal {number}"),
            },
        }
    }
}
