//! One process of a worker: its executable, its start, its signals.

use super::cgroup::Group;
use super::lifecycle::Signal;
use super::reaper::{self, Claimed, Reaper};
use super::spec::WorkerSpec;
use proto::runtime::worker_start::bootstrap_frame;
use proto::wire::handshake::{Bootstrap, WorkerId};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// An executable, held open so that an update of the package cannot mix releases while the gateway runs.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    /// Opened with O_PATH; `None` where /proc is not there to run it from.
    pinned: Option<OwnedFd>,
}

/// What tells one executable from another without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct BinaryId {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    /// Unix seconds.
    pub modified: i64,
    pub modified_ns: u64,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
#[error("worker executable {path} cannot be opened ({source}): it belongs beside the `openclaw` executable")]
pub struct BinaryError {
    path: PathBuf,
    source: io::Error,
}

impl Binary {
    /// Looks beside the running executable (and one folder up, where a test's executable lies).
    pub fn find(name: &str) -> Result<Self, BinaryError> {
        let own = std::env::current_exe().map_err(|source| BinaryError { path: name.into(), source })?;
        let folder = own.parent().unwrap_or(Path::new("/"));
        let beside = folder.join(name);
        if !beside.exists()
            && let Some(above) = folder.parent().map(|above| above.join(name))
            && above.exists()
        {
            return Self::open(&above);
        }
        Self::open(&beside)
    }

    pub fn open(path: &Path) -> Result<Self, BinaryError> {
        let error = |source| BinaryError { path: path.to_owned(), source };
        let pinned = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| error(errno.into()))?;
        let usable = Path::new("/proc/self/fd").join(pinned.as_raw_fd().to_string()).exists();
        Ok(Self { path: path.to_owned(), pinned: usable.then_some(pinned) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is; two releases under one path differ.
    pub fn id(&self) -> BinaryId {
        let facts = match &self.pinned {
            Some(pinned) => rustix::fs::fstat(pinned),
            None => rustix::fs::stat(&self.path),
        };
        facts.map_or_else(
            |_| BinaryId::default(),
            |facts| BinaryId {
                device: facts.st_dev,
                inode: facts.st_ino,
                bytes: facts.st_size.cast_unsigned(),
                modified: facts.st_mtime,
                modified_ns: facts.st_mtime_nsec,
            },
        )
    }

    fn command(&self) -> Command {
        let Some(pinned) = &self.pinned else { return Command::new(&self.path) };
        // The kernel resolves the name before it closes the descriptor, so CLOEXEC is no obstacle.
        let mut command = Command::new(format!("/proc/self/fd/{}", pinned.as_raw_fd()));
        command.arg0(&self.path);
        command
    }

    /// What `ps` shows as the program's name.
    fn title(&self, worker: &WorkerId) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name} [{worker}]")
    }
}

/// A started process. Its end is told once by the reaper.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
    pub link: tokio::net::UnixStream,
    pub exited: oneshot::Receiver<reaper::Exit>,
    pub signals: Signals,
}

/// Sends signals to one process, which cannot be mistaken for a later one with the same pid.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Of a child that was not reaped: its pid cannot belong to anybody else.
    pub fn of_child(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    pub fn send(&self, signal: Signal) {
        use rustix::process::Signal as Raw;
        let raw = match signal {
            Signal::Term => Raw::TERM,
            Signal::Quit => Raw::QUIT,
            Signal::Abort => Raw::ABORT,
            Signal::Kill => Raw::KILL,
            Signal::Dump => Raw::USR2,
        };
        // It may be gone already: then its exit is on the way.
        let _ = rustix::process::pidfd_send_signal(&self.0, raw);
    }
}

/// Starts a worker, in its control group if it has one. Must run on a thread that lives as long as the worker may.
pub fn spawn(
    spec: &WorkerSpec,
    bootstrap: &Bootstrap,
    reaper: &Reaper,
    group: Option<&Group>,
) -> io::Result<Process> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let frame = bootstrap_frame(bootstrap).map_err(io::Error::other)?;
    let mut command = spec.binary.command();
    command
        .arg0(spec.binary.title(&spec.id))
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn()?;
    // `command` still holds the worker's end of the link: as long as it lives, the worker's death is no end of file.
    drop(command);
    proto::runtime::failpoint::hit("sv.spawn.after_fork");
    let pid = child.id();
    let exited = reaper.expect(pid);
    let opened = open_parts(pid, &mut child);
    let (stdout, stderr, signals) = match opened {
        Ok(parts) => parts,
        Err(error) => {
            let _ = child.kill();
            return Err(error);
        }
    };
    // It starts nothing and allots nothing before it has read its first frame, so everything of it is in the group.
    if let Some(group) = group {
        group.put(pid);
    }
    // A few hundred bytes into an empty socket: this never blocks. It may have died already: then its exit says why.
    let _dead = ours.write_all(&frame);
    ours.set_nonblocking(true)?;
    let link = tokio::net::UnixStream::from_std(ours)?;
    Ok(Process { pid, stdout, stderr, link, exited, signals })
}

fn open_parts(
    pid: u32,
    child: &mut std::process::Child,
) -> io::Result<(pipe::Receiver, pipe::Receiver, Signals)> {
    let missing = || io::Error::other("the child has no output pipe");
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(missing)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    let stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
    Ok((stdout, stderr, Signals(pidfd)))
}

/// What a short run of an executable printed.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Largest output of a short run: a JSON schema of all sections is below 1 MiB.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Runs an executable to its end on the calling thread (`--check-config`, `--schema`). Blocks: not for async threads.
/// The reaper leaves such children to their caller.
pub fn run_to_end(
    binary: &Binary,
    args: &[&str],
    env: &std::collections::BTreeMap<String, String>,
    input: &[u8],
    limit: Duration,
) -> io::Result<Output> {
    let mut command = binary.command();
    command.args(args).env_clear().envs(env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _claim) = Claimed::spawn(&mut command)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                let _ = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(stdout.map(|stream| Box::new(stream) as _));
    let err = read(stderr.map(|stream| Box::new(stream) as _));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the check did not end in time"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let _ = writer.join();
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output { code: status.code(), stdout: text(out), stderr: text(err) })
}
