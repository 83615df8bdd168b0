//! One call after the other: whose file it means, and whether that lies where a command may write.
//!
//! Nothing that the caller could change meanwhile is trusted: a path is read once, opened here without rights (`O_PATH`) and
//! judged by what was opened; the change is made through that descriptor. A file cannot be moved from elsewhere to below a
//! writable folder by a confined process, so what lies there is its own.

use super::memory;
use super::sys::{self, AskedCall};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The same number on every target.
const FCHMODAT2: i64 = 452;
/// Calls that ask.
pub const CALLS: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];
/// Longest path, with its end, as the kernel takes it.
const PATH_BYTES_MAX: usize = 4096;
const PAGE_BYTES: u64 = 4096;
/// Everything but set-id bits, which are refused before they come here.
const MODE_BITS: u64 = 0o1777;
const MICROS_PER_SECOND: i64 = 1_000_000;

type Answer<T> = Result<T, Errno>;

/// What a call means.
struct Target {
    /// The directory that a relative path starts from, or the file itself without a path.
    dirfd: u64,
    /// Where the path stands in the caller's memory; `None`: the descriptor itself.
    path: Option<u64>,
    follow: bool,
    /// An empty path means the descriptor.
    empty: bool,
}

enum Change {
    Mode(Mode),
    Times(Timestamps),
}

/// How times stand in memory.
#[derive(Clone, Copy)]
enum Times {
    /// `struct timespec[2]`
    Nanos,
    /// `struct timeval[2]`
    Micros,
    /// `struct utimbuf`
    Seconds,
}

/// The keeper at work.
pub struct Answering {
    roots: Vec<PathBuf>,
    worker: u32,
    listener: OwnedFd,
    /// To the worker.
    socket: UnixStream,
}

impl Answering {
    pub fn new(write: &[String], worker: u32, listener: OwnedFd, socket: UnixStream) -> Self {
        // As the kernel names them; a folder that is missing now is not writable either.
        let roots = write.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        Self { roots, worker, listener, socket }
    }

    /// Answers until no process is left that could ask.
    pub fn serve(&self) -> io::Result<()> {
        loop {
            let mut asked = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut asked, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let events = asked[0].revents();
            if !events.contains(PollFlags::IN) {
                return Ok(());
            }
            // Gone or interrupted meanwhile: nobody waits for this answer.
            let Ok(call) = sys::next_asked_call(&self.listener) else { continue };
            let errno = self.answer(&call).err().map_or(0, Errno::raw_os_error);
            let _it_ended_meanwhile = sys::answer_call(&self.listener, call.id, errno);
        }
    }

    fn answer(&self, call: &AskedCall) -> Answer<()> {
        if Path::new(&format!("/proc/{}/task/{}", self.worker, call.tid)).exists() {
            return Err(Errno::PERM);
        }
        let memory = || memory::of(call.tid, &self.socket);
        let (target, change) = meaning(call, &memory)?;
        let file = pinned(call.tid, &target, &memory)?;
        // Up to here everything was the caller's, and not that of a later process with its number.
        sys::still_asked(&self.listener, call.id).map_err(|_gone| Errno::SRCH)?;
        let own_name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let real = std::fs::read_link(&own_name).map_err(|_unseen| Errno::PERM)?;
        if !self.roots.iter().any(|root| real.starts_with(root)) {
            return Err(Errno::PERM);
        }
        match change {
            Change::Mode(mode) => rustix::fs::chmodat(CWD, own_name.as_str(), mode, AtFlags::empty()),
            Change::Times(times) => rustix::fs::utimensat(&file, c"", &times, AtFlags::EMPTY_PATH),
        }
    }
}

fn meaning(call: &AskedCall, memory: &dyn Fn() -> Answer<File>) -> Answer<(Target, Change)> {
    let [a, b, c, d, ..] = call.args;
    let here = u64::from(libc::AT_FDCWD.cast_unsigned());
    let by_path = |dirfd, path| Target { dirfd, path: Some(path), follow: true, empty: false };
    let by_flags = |dirfd, path, flags: u64| Target {
        dirfd,
        path: Some(path),
        follow: flags & u64::from(libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()) == 0,
        empty: flags & u64::from(libc::AT_EMPTY_PATH.cast_unsigned()) != 0,
    };
    let descriptor = |fd| Target { dirfd: fd, path: None, follow: true, empty: false };
    let mode =
        |mode: u64| Change::Mode(Mode::from_raw_mode(u32::try_from(mode & MODE_BITS).unwrap_or_default()));
    let times = |at, kind| Ok::<_, Errno>(Change::Times(read_times(memory, at, kind)?));
    Ok(match call.call {
        libc::SYS_fchmod => (descriptor(a), mode(b)),
        libc::SYS_fchmodat => (by_path(a, b), mode(c)),
        FCHMODAT2 => (by_flags(a, b, d), mode(c)),
        libc::SYS_utimensat if b == 0 => (descriptor(a), times(c, Times::Nanos)?),
        libc::SYS_utimensat => (by_flags(a, b, d), times(c, Times::Nanos)?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod => (by_path(here, a), mode(b)),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_utime => (by_path(here, a), times(b, Times::Seconds)?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_utimes => (by_path(here, a), times(b, Times::Micros)?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_futimesat if b == 0 => (descriptor(a), times(c, Times::Micros)?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_futimesat => (by_path(a, b), times(c, Times::Micros)?),
        _ => return Err(Errno::NOSYS),
    })
}

fn read_path(memory: &File, at: u64) -> Answer<CString> {
    let mut path = Vec::with_capacity(256);
    while path.len() < PATH_BYTES_MAX {
        let from = at.checked_add(path.len() as u64).ok_or(Errno::FAULT)?;
        // To the end of a page: the next one may not be there.
        let mut part = [0u8; PAGE_BYTES as usize];
        let length = usize::try_from(PAGE_BYTES - from % PAGE_BYTES).unwrap_or_default();
        let got = memory.read_at(&mut part[..length], from).map_err(|_unmapped| Errno::FAULT)?;
        match part[..got].iter().position(|byte| *byte == 0) {
            Some(end) => {
                path.extend_from_slice(&part[..end]);
                return CString::new(path).map_err(|_never| Errno::INVAL);
            }
            None if got == 0 => return Err(Errno::FAULT),
            None => path.extend_from_slice(&part[..got]),
        }
    }
    Err(Errno::NAMETOOLONG)
}

fn read_times(memory: &dyn Fn() -> Answer<File>, at: u64, kind: Times) -> Answer<Timestamps> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    if at == 0 {
        return Ok(Timestamps { last_access: now, last_modification: now });
    }
    let mut words = [0u8; 32];
    let length = if matches!(kind, Times::Seconds) { 16 } else { 32 };
    memory()?.read_exact_at(&mut words[..length], at).map_err(|_unmapped| Errno::FAULT)?;
    let word = |index: usize| {
        let bytes = words.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        i64::from_le_bytes(bytes.unwrap_or_default())
    };
    let micros = |seconds, micros| match micros {
        0..MICROS_PER_SECOND => Ok(Timespec { tv_sec: seconds, tv_nsec: micros * 1000 }),
        _ => Err(Errno::INVAL),
    };
    let (last_access, last_modification) = match kind {
        Times::Nanos => {
            (Timespec { tv_sec: word(0), tv_nsec: word(1) }, Timespec { tv_sec: word(2), tv_nsec: word(3) })
        }
        Times::Micros => (micros(word(0), word(1))?, micros(word(2), word(3))?),
        Times::Seconds => (micros(word(0), 0)?, micros(word(1), 0)?),
    };
    Ok(Timestamps { last_access, last_modification })
}

const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The file that the caller means, held by a descriptor that gives no rights.
fn pinned(tid: u32, target: &Target, memory: &dyn Fn() -> Answer<File>) -> Answer<OwnedFd> {
    let Some(at) = target.path else { return descriptor(tid, number(target.dirfd)?) };
    let path = read_path(&memory()?, at)?;
    let text = path.to_bytes();
    if text.is_empty() {
        return if target.empty { directory(tid, target.dirfd) } else { Err(Errno::NOENT) };
    }
    if target.follow
        && let Some(fd) = own_descriptor(tid, text)
    {
        return descriptor(tid, fd);
    }
    let flags = if target.follow { LOOK } else { LOOK | OFlags::NOFOLLOW };
    let base = if text.starts_with(b"/") { open(Path::new("/"))? } else { directory(tid, target.dirfd)? };
    // A link of /proc would lead by this process's own descriptors.
    let resolve = ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&base, path.as_c_str(), flags, Mode::empty(), resolve) {
        Err(Errno::LOOP) => Err(Errno::PERM),
        result => result,
    }
}

fn number(fd: u64) -> Answer<i32> {
    // Descriptors are 32 bits; what stands above them the kernel does not look at.
    match (fd & u64::from(u32::MAX)) as u32 as i32 {
        fd if fd >= 0 => Ok(fd),
        _ => Err(Errno::BADF),
    }
}

fn open(path: &Path) -> Answer<OwnedFd> {
    rustix::fs::openat(CWD, path, LOOK, Mode::empty())
}

fn descriptor(tid: u32, fd: i32) -> Answer<OwnedFd> {
    match open(Path::new(&format!("/proc/{tid}/fd/{fd}"))) {
        Err(Errno::NOENT) => Err(Errno::BADF),
        Err(Errno::ACCESS) => Err(Errno::PERM),
        result => result,
    }
}

/// Where a relative path starts.
fn directory(tid: u32, dirfd: u64) -> Answer<OwnedFd> {
    if (dirfd & u64::from(u32::MAX)) as u32 as i32 == libc::AT_FDCWD {
        return open(Path::new(&format!("/proc/{tid}/cwd")));
    }
    descriptor(tid, number(dirfd)?)
}

/// The descriptor that a path names by /proc, as C libraries do for files that they hold open.
fn own_descriptor(tid: u32, path: &[u8]) -> Option<i32> {
    let path = std::str::from_utf8(path).ok()?;
    let own = format!("/proc/{}/fd/", group(tid)?);
    let ways = ["/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/", own.as_str()];
    let rest = ways.iter().find_map(|way| path.strip_prefix(way))?;
    rest.bytes().all(|byte| byte.is_ascii_digit()).then(|| rest.parse().ok())?
}

/// The process of a thread.
fn group(tid: u32) -> Option<u64> {
    sys::status_field(Path::new(&format!("/proc/{tid}/status")), "Tgid:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_descriptors_are_known_by_every_name() {
        let tid = std::process::id();
        for name in ["/proc/self/fd/7", "/dev/fd/7", "/proc/thread-self/fd/7"] {
            assert_eq!(own_descriptor(tid, name.as_bytes()), Some(7), "{name}");
        }
        assert_eq!(own_descriptor(tid, format!("/proc/{tid}/fd/7").as_bytes()), Some(7));
        for name in ["/proc/self/fd/", "/proc/self/fd/7/x", "/proc/1/fd/7", "/proc/self/fd/+7", "x"] {
            assert_eq!(own_descriptor(tid, name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn descriptors_are_32_bits() {
        assert_eq!(number(3), Ok(3));
        assert_eq!(number(0xffff_ffff_0000_0003), Ok(3));
        assert_eq!(number(u64::MAX), Err(Errno::BADF));
    }
}
