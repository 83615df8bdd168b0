//! System calls by the name of what they are for. The one place of the workspace where `unsafe` would be permitted;
//! today every call has a safe wrapper, and it holds none.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// First descriptor above the standard streams.
const FD_MIN: i32 = 3;

/// Moves standard input to a descriptor that no child inherits, and puts /dev/null in its place.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FD_MIN)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(taken)
}

/// The signal that the kernel sends this process when the thread that spawned it ends. Cleared by a change of uid.
pub fn die_with_parent(signal: Signal) -> io::Result<()> {
    Ok(prctl::set_pdeathsig(signal)?)
}

/// Orphaned grandchildren come to this process and not to init.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// No set-uid program below this process gains anything.
pub fn no_new_privs() -> io::Result<bool> {
    prctl::set_no_new_privs()?;
    Ok(prctl::get_no_new_privs()?)
}

/// Memory, environment and descriptors are closed to other processes of the same user. Reset by exec.
pub fn not_dumpable() -> io::Result<bool> {
    prctl::set_dumpable(false)?;
    Ok(prctl::get_dumpable()?)
}

pub fn no_core_files() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Lowers the soft limit of open files to `max`; a lower hard limit stays.
pub fn open_files_max(max: u64) -> io::Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, max.min(hard), hard)?)
}

/// Bound for heap and private mappings. Reservations without access rights (allocator arenas) do not count.
pub fn data_bytes_max(max: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_DATA, max, max)?)
}

/// Blocks signals in this thread and in every thread that it starts.
pub fn block(signals: &[Signal]) -> io::Result<()> {
    Ok(signals.iter().copied().collect::<SigSet>().thread_block()?)
}

/// Waits for one of `signals`, which every thread must have blocked.
pub fn wait_for(signals: &[Signal]) -> io::Result<Signal> {
    Ok(signals.iter().copied().collect::<SigSet>().wait()?)
}

/// Ends this process as the kernel would: no destructors, no exit handlers.
pub fn kill_self(signal: Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
}

/// Resident memory of a process in KiB; `None` when it is gone or not ours to see.
pub fn rss_kb(pid: &str) -> Option<u64> {
    status_field(&Path::new("/proc").join(pid).join("status"), "VmRSS:")
}

/// Proportional share of memory in KiB. Costs a walk over the mappings: not for hot paths.
pub fn pss_kb(pid: &str) -> Option<u64> {
    status_field(&Path::new("/proc").join(pid).join("smaps_rollup"), "Pss:")
}

/// First number of a `Name:   123 kB` line.
pub fn status_field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
