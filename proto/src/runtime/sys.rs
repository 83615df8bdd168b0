//! System calls by the name of what they are for. The one place of the workspace where `unsafe` is permitted, where a call
//! has no safe wrapper.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
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

/// A descriptor known by its number only, because another image of this program left it open.
#[expect(unsafe_code, reason = "a number has no owner that could be borrowed safely")]
fn by_number(number: i32) -> io::Result<BorrowedFd<'static>> {
    if number < FD_MIN {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the value is not -1, and the callers below only ask the kernel to copy or flag it; a number that is not
    // open is answered with EBADF, and nothing is closed through it.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// A descriptor of our own for what another image of this program left open under `number`. No child inherits it.
pub fn copy_of(number: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(by_number(number)?, FD_MIN)?)
}

/// Whether the next image of this program, and children, inherit what is open under `number`.
pub fn inherit_number(number: i32, on: bool) -> io::Result<()> {
    inherit(&by_number(number)?, on)
}

/// Whether the next image of this program, and children, inherit `fd`.
pub fn inherit(fd: &impl AsFd, on: bool) -> io::Result<()> {
    let flags = if on { rustix::io::FdFlags::empty() } else { rustix::io::FdFlags::CLOEXEC };
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
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

/// Names this process, as `ps` and `pgrep` show it; at most 15 bytes.
pub fn name_process(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
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

/// Raises the soft limit of open files to `want`, as far as the hard one lets. Returns what it is now.
pub fn open_files_at_least(want: u64) -> io::Result<u64> {
    let (soft, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    let new = want.min(hard);
    if soft >= new {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, new, hard)?;
    Ok(new)
}

/// The soft limit of open files.
pub fn open_files_limit() -> io::Result<u64> {
    Ok(nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Bound for heap and private mappings. Reservations without access rights (allocator arenas) do not count. The hard limit
/// stays: a command of this process may have more.
pub fn data_bytes_max(max: u64) -> io::Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_DATA)?;
    Ok(setrlimit(Resource::RLIMIT_DATA, max.min(hard), hard)?)
}

/// How early the kernel takes this process when memory runs out; 0 is the usual, 1000 the first. Impossible once the
/// process is not dumpable.
pub fn oom_score(score: &str) -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score)
}

/// Takes from root what a program that is no part of the system needs: it keeps the rights over files and identities of
/// its own user's kind and loses those over the kernel, devices, other processes and limits. No-op for others.
pub fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID;
    let now = capabilities(None)?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            // A number that the kernel does not know is no capability.
            if !kept.contains(one) && rustix::thread::remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: now.effective & kept,
            permitted: now.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// A system call of a filtered process that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct AskedCall {
    /// The kernel's number for this one question.
    pub id: u64,
    /// The thread that called.
    pub tid: u32,
    pub call: i64,
    pub args: [u64; 6],
}

/// Puts a filter in force for this thread and all that it starts, and gives the descriptor on which its questions
/// (`SECCOMP_RET_USER_NOTIF`) arrive. A process has one such filter at most (`EBUSY`).
#[expect(unsafe_code, reason = "no safe wrapper makes a filter with a listener")]
pub fn listen_to_calls(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the kernel copies `len` instructions, which outlive the call, and writes nothing.
    let number = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let number = i32::try_from(number).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor (close-on-exec), and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The next question; blocks. `ENOENT`: its process ended meanwhile.
#[expect(unsafe_code, reason = "no safe wrapper for the requests of a seccomp listener")]
pub fn next_asked_call(listener: &OwnedFd) -> io::Result<AskedCall> {
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut asked = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
    // SAFETY: the kernel wants this structure zeroed and fills it; it outlives the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut asked) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let call = i64::from(asked.data.nr);
    Ok(AskedCall { id: asked.id, tid: asked.pid, call, args: asked.data.args })
}

/// Whether the caller still waits: what was read of its memory and descriptors until now was its own, and not that of a
/// process that got its number.
#[expect(unsafe_code, reason = "no safe wrapper for the requests of a seccomp listener")]
pub fn still_asked(listener: &OwnedFd, id: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one number, which outlives the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The call's result: 0, or this error number.
#[expect(unsafe_code, reason = "no safe wrapper for the requests of a seccomp listener")]
pub fn answer_call(listener: &OwnedFd, id: u64, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 };
    // SAFETY: the kernel reads this structure, which outlives the call.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut answer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes what came through exec besides the standard streams and `kept`. Call it before anything else has opened files.
pub fn close_inherited(kept: &OwnedFd) -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?.flatten();
    let fds: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in fds.into_iter().filter(|fd| *fd >= FD_MIN && *fd != kept.as_raw_fd()) {
        let _closed_with_the_listing = nix::unistd::close(fd);
    }
    Ok(())
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
