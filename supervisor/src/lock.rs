//! One gateway per state directory, per workspace and, for the default profile, per host.
//!
//! The truth is always a kernel lock that ends with its holder (`flock`, or a bound abstract socket): there is no stale
//! case, no file is ever unlinked and no file's content is believed. Content only tells people who the owner is.

mod carry;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the abstract socket that excludes a second default gateway across users and mount namespaces.
const HOST_GUARD: &[u8] = b"openclaw-gateway-host";
/// An owner note is one line of JSON; more than this is not ours.
const NOTE_BYTES_MAX: usize = 4096;

/// What a lock file says about its owner, for messages only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerNote {
    pub pid: u32,
    pub port: u16,
    pub build: String,
    pub boot_id: String,
    pub state_dir: String,
    pub config_path: String,
    pub started_at_ms: i64,
    /// Not a gateway: a command that holds the lock while it writes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("gateway already running (pid {}); lock timeout after 5000ms{}", pid_text(*pid), owner_hint(*pid, *port))]
    StateDir { pid: Option<u32>, port: Option<u16> },
    #[error("gateway already running (pid {}); lock timeout after 5000ms{}\nOne default gateway per host: give a second one its own OPENCLAW_STATE_DIR and --port.", pid_text(*pid), owner_hint(*pid, *port))]
    Host { pid: Option<u32>, port: Option<u16> },
    #[error("another command has the state directory: `{command}` (pid {pid}); try again when it has ended")]
    Command { command: String, pid: u32 },
    #[error("workspace {path} is in use by another gateway (pid {}); set agents.defaults.workspace (or agents.list[].workspace) to a directory of its own", pid_text(*pid))]
    Workspace { path: PathBuf, pid: Option<u32> },
    #[error("cannot lock {path}: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}

/// The line that operators and scripts look for, where the owner is known.
pub fn owner_hint(pid: Option<u32>, port: Option<u16>) -> String {
    match (pid, port) {
        (Some(pid), Some(port)) => format!(" (another gateway instance: pid {pid}, port {port}; EADDRINUSE)"),
        (Some(pid), None) => format!(" (another gateway instance: pid {pid}; EADDRINUSE)"),
        // A gateway hides from other processes of its user, so that its pid may be unknown.
        (None, Some(port)) => format!(" (another gateway instance: port {port}; EADDRINUSE)"),
        (None, None) => String::new(),
    }
}

/// A held lock. Dropping it (or the process's end, however it comes) frees it.
#[derive(Debug)]
pub struct Held {
    /// Held for its `flock`.
    file: OwnedFd,
    path: PathBuf,
}

impl Held {
    /// Replaces the owner note. A note that cannot be written is no reason not to run.
    pub fn note(&self, note: &OwnerNote) {
        let Ok(mut line) = serde_json::to_vec(note) else { return };
        line.push(b'\n');
        if rustix::fs::ftruncate(&self.file, 0).is_ok()
            && let Err(error) = rustix::io::pwrite(&self.file, &line, 0)
        {
            tracing::warn!(path = %self.path.display(), %error, "owner note not written");
        }
    }

    /// Says that a command holds the lock, and no gateway.
    pub fn note_command(&self, command: &str) {
        let note = OwnerNote { pid: std::process::id(), command: command.to_owned(), ..OwnerNote::default() };
        self.note(&note);
    }

    /// The lock file was removed or replaced while we hold it: a second gateway could lock the new one.
    pub fn displaced(&self) -> bool {
        let Ok(ours) = rustix::fs::fstat(&self.file) else { return true };
        std::fs::metadata(&self.path)
            .map_or(true, |meta| meta.ino() != ours.st_ino || meta.dev() != ours.st_dev)
    }
}

/// How long a lock whose taker is dead is waited for: a child has a few milliseconds between its birth and its program,
/// more on a machine that is busy.
const ORPHANED_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at it.
const ORPHANED_LOOK: Duration = Duration::from_millis(5);

enum Attempt {
    Held(Held),
    Taken,
}

fn io(path: &Path, cause: rustix::io::Errno) -> LockError {
    LockError::Io { path: path.to_owned(), cause: cause.into() }
}

fn try_lock(path: &Path, flags: OFlags) -> Result<Attempt, LockError> {
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, mode).map_err(|e| io(path, e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Attempt::Held(Held { file, path: path.to_owned() })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Attempt::Taken),
        Err(error) => Err(io(path, error)),
    }
}

/// What the owner of a lock file wrote into it.
pub fn read_note(path: &Path) -> Option<OwnerNote> {
    let text = std::fs::read(path).ok().filter(|bytes| bytes.len() <= NOTE_BYTES_MAX)?;
    serde_json::from_slice(&text).ok()
}

/// The pid that the kernel lists as holder of a `flock` on this inode.
pub fn holder_pid(path: &Path) -> Option<u32> {
    let inode = std::fs::metadata(path).ok()?.ino().to_string();
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 812 fe:00:1234 0 EOF
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?;
        let pid = words.nth(2)?;
        let id = words.next()?;
        (kind == "FLOCK" && id.rsplit(':').next() == Some(inode.as_str())).then(|| pid.parse().ok())?
    })
}

/// Path of the instance lock below a state directory.
pub fn instance_lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("gateway.lock")
}

/// Locks the state directory for the life of this process. One that another process holds is refused at once.
pub fn lock_instance(state_dir: &Path) -> Result<Held, LockError> {
    let path = instance_lock_path(state_dir);
    let end = Instant::now() + ORPHANED_WAIT;
    // Once more in any case: it may be given back between the two looks.
    let mut again = true;
    loop {
        match try_lock(&path, OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW)? {
            Attempt::Held(held) => return Ok(held),
            Attempt::Taken if Instant::now() < end && (is_orphaned(&path) || std::mem::take(&mut again)) => {
                std::thread::sleep(ORPHANED_LOOK);
            }
            Attempt::Taken => {
                let note = read_note(&path);
                let holder = holder_pid(&path);
                let pid = holder.or_else(|| note.as_ref().map(|note| note.pid));
                if let Some(note) = note.as_ref().filter(|note| !note.command.is_empty()) {
                    // What an earlier holder left says nothing of this one.
                    return Err(match holder.is_none_or(|holder| holder == note.pid) {
                        true => LockError::Command { command: note.command.clone(), pid: note.pid },
                        false => LockError::StateDir { pid, port: None },
                    });
                }
                let port = note.map(|note| note.port).filter(|port| *port != 0);
                return Err(LockError::StateDir { pid, port });
            }
        }
    }
}

/// Whoever took the lock is dead: a child that it was starting when it was killed has it until it runs its own program.
fn is_orphaned(path: &Path) -> bool {
    // 0: somebody outside of this pid namespace.
    let Some(pid) = holder_pid(path).filter(|pid| *pid != 0) else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// The host lock: a file where another user's gateway can see it, and an abstract socket where no file is shared.
#[derive(Debug)]
pub struct HostLock {
    file: Option<Held>,
    /// Held for its name.
    guard: UnixListener,
}

impl HostLock {
    pub fn note(&self, note: &OwnerNote) {
        if let Some(file) = &self.file {
            file.note(note);
        }
    }
}

/// Directories for host-wide locks, best first.
pub fn host_lock_dirs(runtime_dir: Option<&Path>, state_dir: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from("/run/openclaw")];
    dirs.extend(runtime_dir.map(|dir| dir.join("openclaw")));
    dirs.push(state_dir.join("run"));
    dirs
}

/// Excludes a second default gateway on this host.
pub fn lock_host(runtime_dir: Option<&Path>, state_dir: &Path) -> Result<HostLock, LockError> {
    let guard = bind_guard()?;
    for dir in host_lock_dirs(runtime_dir, state_dir) {
        if create_private_dir(&dir).is_err() {
            continue;
        }
        let path = dir.join("host.lock");
        match try_lock(&path, OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW) {
            Ok(Attempt::Held(held)) => return Ok(HostLock { file: Some(held), guard }),
            Ok(Attempt::Taken) => {
                let note = read_note(&path);
                let pid = holder_pid(&path).or_else(|| note.as_ref().map(|note| note.pid));
                return Err(LockError::Host {
                    pid,
                    port: note.map(|note| note.port).filter(|port| *port != 0),
                });
            }
            Err(error) => tracing::debug!(%error, "host lock directory not usable"),
        }
    }
    Ok(HostLock { file: None, guard })
}

fn bind_guard() -> Result<UnixListener, LockError> {
    let as_io = |cause| LockError::Io { path: PathBuf::from("@openclaw-gateway-host"), cause };
    let address = SocketAddr::from_abstract_name(HOST_GUARD).map_err(as_io)?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let pid = UnixStream::connect_addr(&address).ok().and_then(|stream| {
                let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
                u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
            });
            Err(LockError::Host { pid, port: None })
        }
        Err(error) => Err(as_io(error)),
    }
}

/// Locks one workspace directory, so that two gateways never write in the same one. The lock is on the directory itself:
/// nothing is added to a folder that belongs to the user.
pub fn lock_workspace(path: &Path) -> Result<Held, LockError> {
    match try_lock(path, OFlags::RDONLY | OFlags::DIRECTORY)? {
        Attempt::Held(held) => Ok(held),
        Attempt::Taken => Err(LockError::Workspace { path: path.to_owned(), pid: holder_pid(path) }),
    }
}

/// Creates a directory that only we may enter (0700), or accepts the one that is there.
pub fn create_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_on_one_state_dir_is_refused_with_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_instance(dir.path()).unwrap();
        first.note(&OwnerNote { pid: std::process::id(), port: 19001, ..OwnerNote::default() });
        let error = lock_instance(dir.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(
            error,
            format!(
                "gateway already running (pid {pid}); lock timeout after 5000ms (another gateway instance: pid {pid}, port 19001; EADDRINUSE)"
            )
        );
        drop(first);
        lock_instance(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_to_its_child_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let script = "exec 9>>\"$0\"; flock -n 9; sleep 0.3 & exit 0";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).arg(instance_lock_path(dir.path()));
        assert!(shell.status().unwrap().success());
        let pid = holder_pid(&instance_lock_path(dir.path())).expect("the child has it");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "pid {pid} took it and is gone");
        lock_instance(dir.path()).unwrap();
    }

    #[test]
    fn a_replaced_lock_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_instance(dir.path()).unwrap();
        assert!(!held.displaced());
        std::fs::remove_file(instance_lock_path(dir.path())).unwrap();
        assert!(held.displaced());
        std::fs::write(instance_lock_path(dir.path()), "").unwrap();
        assert!(held.displaced());
    }

    #[test]
    fn a_shared_workspace_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _held = lock_workspace(dir.path()).unwrap();
        let error = lock_workspace(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
