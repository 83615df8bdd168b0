//! Commands that run: one task drives each, a bounded table holds those that went to the background.
//!
//! The driver reads the output, waits for the end, kills when asked or out of time and sweeps afterwards. Everyone else
//! holds an `Arc<Running>` and looks. In memory only: a worker that ends takes every command with it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use proto::runtime::cgroup::{folder_of, oom_kills};

use super::{
    launcher::Exit,
    output::Tail,
    spawner::{Input, Request, Spawner, Started},
    tree,
};

mod slug;

/// Output kept of one command, in bytes: the newest part.
pub const OUTPUT_BYTES_MAX: usize = 200_000;
/// Commands in the table at once, running or finished; the oldest finished one makes room.
pub const COMMANDS_MAX: usize = 64;
/// One read of the pipe.
const READ_BYTES: usize = 16 * 1024;
/// A guard ends its tree within about 2.5 s of a SIGTERM; after that it is killed from here.
const GUARD_LIMIT: Duration = Duration::from_secs(4);
/// After the tree has ended the pipe is empty or at its end; a descriptor that someone smuggled out must not hold a turn.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// A write to a command that does not read.
const INPUT_LIMIT: Duration = Duration::from_secs(5);
/// Text of an exit notice, in characters.
const NOTICE_TAIL_CHARS: usize = 180;
/// A program that asks a terminal for the cursor's position waits for an answer.
const CURSOR_QUERY: &[u8] = b"\x1b[6n";
const CURSOR_ANSWER: &[u8] = b"\x1b[1;1R";

/// Why a command was killed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    TimedOut,
    Asked,
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub exit: Exit,
    pub killed: Option<Killed>,
    pub after: Duration,
}

/// Told when a command in the background ends; becomes a system event of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitNotice {
    pub session_key: String,
    /// "Exec completed (brisk-ot, code 0) :: last output".
    pub text: String,
}

/// Who started a command and what it is.
#[derive(Debug, Clone)]
pub struct About {
    pub session_key: String,
    pub command: String,
    pub cwd: PathBuf,
    pub env: Arc<BTreeMap<String, String>>,
    pub argv: Vec<std::ffi::OsString>,
    pub input: Input,
    /// None: it may run for ever.
    pub timeout: Option<Duration>,
    /// Send an [`ExitNotice`] when it ends in the background; `Some(true)` also for success without output.
    pub notify: Option<bool>,
}

/// One command, running or ended.
pub struct Running {
    pub id: String,
    pub pid: u32,
    pub about: About,
    pub started_at: SystemTime,
    started: Instant,
    /// Kills for want of memory in the worker's control group when it was started.
    memory_kills: Option<u64>,
    kill: CancellationToken,
    output: Mutex<Output>,
    input: tokio::sync::Mutex<Option<pipe::Sender>>,
    ended: watch::Receiver<Option<Ended>>,
}

struct Output {
    tail: Tail,
    /// Stream position up to which `poll` has reported.
    polled: u64,
    background: bool,
    /// When it ended, for the clean-up.
    ended_at: Option<Instant>,
}

/// Why a write to a command failed.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("stdin is not writable (the command was started without background or pty)")]
    NotWritable,
    #[error("the command does not read its input")]
    Full,
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker and its commands share one group, where the host has groups; see [`proto::runtime::cgroup`].
fn own_group_kills() -> Option<u64> {
    oom_kills(&folder_of("self")?)
}

impl Running {
    /// The kernel has ended something of this agent for want of memory since the command was started.
    pub fn memory_ran_out(&self) -> bool {
        matches!((self.memory_kills, own_group_kills()), (Some(before), Some(now)) if now > before)
    }

    /// The end, if it has ended.
    pub fn ended(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        end.unwrap_or(Ended { exit: Exit::Code(-1), killed: None, after: self.started.elapsed() })
    }

    /// Asks for the end of the whole tree; [`Running::wait`] tells when it is done.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    pub fn runtime(&self) -> Duration {
        self.ended().map_or_else(|| self.started.elapsed(), |ended| ended.after)
    }

    /// Everything kept, and how many bytes are gone from its front.
    pub fn text(&self) -> (String, u64) {
        let output = lock(&self.output);
        (output.tail.text(), output.tail.dropped())
    }

    /// What came since the last call, and how many bytes of it were lost.
    pub fn poll(&self) -> (String, u64) {
        let mut output = lock(&self.output);
        let from = output.polled;
        output.polled = output.tail.total();
        output.tail.since(from)
    }

    /// Bytes ever written by the command.
    pub fn output_bytes(&self) -> u64 {
        lock(&self.output).tail.total()
    }

    /// Writes to the command's input; `close` ends it (on a terminal: Ctrl-D).
    pub async fn write(&self, bytes: &[u8], close: bool) -> Result<(), InputError> {
        let mut input = self.input.lock().await;
        let Some(sender) = input.as_mut() else { return Err(InputError::NotWritable) };
        let eof: &[u8] = if close && self.about.input == Input::Pty { b"\x04" } else { b"" };
        let write = async {
            sender.write_all(bytes).await?;
            sender.write_all(eof).await
        };
        tokio::time::timeout(INPUT_LIMIT, write).await.map_err(|_late| InputError::Full)??;
        if close && self.about.input == Input::Pipe {
            *input = None;
        }
        Ok(())
    }

    fn push(&self, bytes: &[u8]) {
        lock(&self.output).tail.push(bytes);
    }
}

/// Kills a command when dropped, unless it was let go: a turn that is dropped leaves nothing behind.
pub struct Leash(Option<Arc<Running>>);

impl Leash {
    pub fn new(running: &Arc<Running>) -> Self {
        Self(Some(Arc::clone(running)))
    }

    /// The command may outlive this.
    pub fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.kill();
        }
    }
}

/// All commands of this worker.
pub struct Table {
    spawner: Spawner,
    commands: Mutex<HashMap<String, Arc<Running>>>,
    notices: mpsc::Sender<ExitNotice>,
}

impl Table {
    /// `notices` is bounded by its maker; when it is full a notice is dropped, the output stays readable.
    pub fn new(spawner: Spawner, notices: mpsc::Sender<ExitNotice>) -> Self {
        Self { spawner, commands: Mutex::new(HashMap::new()), notices }
    }

    /// Starts a command and its driver. `keep`: how long a finished one stays readable, applied to the whole table.
    pub async fn start(&self, about: About, keep: Duration) -> io::Result<Arc<Running>> {
        self.make_room(keep)?;
        let request = Request {
            argv: about.argv.clone(),
            cwd: about.cwd.clone(),
            env: Arc::clone(&about.env),
            input: about.input,
        };
        let memory_kills = own_group_kills();
        proto::runtime::failpoint::hit("ag.tool.spawn");
        let started = self.spawner.spawn(request).await?;
        let pipes = Pipes::of(started)?;
        let (end, ended) = watch::channel(None);
        let running = Arc::new(Running {
            id: self.fresh_id(),
            pid: pipes.pid,
            about,
            started_at: SystemTime::now(),
            started: Instant::now(),
            memory_kills,
            kill: CancellationToken::new(),
            output: Mutex::new(Output {
                tail: Tail::new(OUTPUT_BYTES_MAX),
                polled: 0,
                background: false,
                ended_at: None,
            }),
            input: tokio::sync::Mutex::new(pipes.input),
            ended,
        });
        lock(&self.commands).insert(running.id.clone(), Arc::clone(&running));
        let driver = Driver {
            running: Arc::clone(&running),
            output: pipes.output,
            guard: pipes.guard,
            spawner: self.spawner.clone(),
            notices: self.notices.clone(),
            end,
        };
        tokio::spawn(driver.drive());
        Ok(running)
    }

    /// Makes a command visible to `process` and lets it outlive its call.
    pub fn to_background(&self, running: &Running) {
        lock(&running.output).background = true;
    }

    /// Forgets a command (it must have ended, or be about to).
    pub fn remove(&self, id: &str) {
        lock(&self.commands).remove(id);
    }

    /// A background command of this session.
    pub fn get(&self, id: &str, session_key: &str) -> Option<Arc<Running>> {
        let found = lock(&self.commands).get(id).cloned();
        found.filter(|running| running.about.session_key == session_key && lock(&running.output).background)
    }

    /// The background commands of this session, oldest first.
    pub fn list(&self, session_key: &str) -> Vec<Arc<Running>> {
        let all: Vec<Arc<Running>> = lock(&self.commands).values().cloned().collect();
        let mut mine: Vec<Arc<Running>> = all
            .into_iter()
            .filter(|r| r.about.session_key == session_key && lock(&r.output).background)
            .collect();
        mine.sort_by_key(|running| running.started);
        mine
    }

    /// Forgets commands that ended longer than `keep` ago.
    pub fn forget_old(&self, keep: Duration) {
        lock(&self.commands).retain(|_, running| {
            lock(&running.output).ended_at.is_none_or(|ended_at| ended_at.elapsed() < keep)
        });
    }

    /// Kills every command and waits until all have ended; at the end of the worker.
    pub async fn kill_all(&self) {
        let all: Vec<Arc<Running>> = lock(&self.commands).values().cloned().collect();
        for running in &all {
            running.kill();
        }
        for running in &all {
            running.wait().await;
        }
    }

    fn make_room(&self, keep: Duration) -> io::Result<()> {
        self.forget_old(keep);
        let mut commands = lock(&self.commands);
        if commands.len() < COMMANDS_MAX {
            return Ok(());
        }
        let ended = commands.values().filter_map(|r| Some((lock(&r.output).ended_at?, r.id.clone())));
        let Some((_, oldest)) = ended.min() else {
            return Err(io::Error::other(format!(
                "{COMMANDS_MAX} commands are running already; kill one with the process tool first"
            )));
        };
        commands.remove(&oldest);
        Ok(())
    }

    fn fresh_id(&self) -> String {
        let commands = lock(&self.commands);
        slug::fresh(|id| commands.contains_key(id))
    }
}

struct Pipes {
    pid: u32,
    guard: AsyncFd<OwnedFd>,
    output: pipe::Receiver,
    input: Option<pipe::Sender>,
}

impl Pipes {
    /// The worker's ends on the event loop. A terminal's master is no pipe, but reads and polls like one. A pidfd is readable
    /// once the process has ended.
    #[expect(deprecated, reason = "sound here: the descriptor is owned, and closed when the driver ends")]
    fn of(started: Started) -> io::Result<Self> {
        let of = |started: Started| {
            Ok(Self {
                pid: started.pid,
                guard: AsyncFd::with_interest(started.pidfd, Interest::READABLE)?,
                output: pipe::Receiver::from_owned_fd_unchecked(started.output)?,
                input: started.input.map(pipe::Sender::from_owned_fd_unchecked).transpose()?,
            })
        };
        let pid = started.pid;
        of(started).inspect_err(|_| tree::signal(pid, Signal::TERM))
    }
}

/// Waits until the process has ended. Readiness is no fact: some kernels announce it for a process that lives.
async fn ended(process: &AsyncFd<OwnedFd>) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let Ok(mut ready) = process.readable().await else {
            // No event loop: nothing that could wait either.
            return;
        };
        let mut looked = [PollFd::new(process.get_ref(), PollFlags::IN)];
        if matches!(poll(&mut looked, Some(&now)), Ok(1..)) {
            return;
        }
        ready.clear_ready();
    }
}

struct Driver {
    running: Arc<Running>,
    output: pipe::Receiver,
    guard: AsyncFd<OwnedFd>,
    spawner: Spawner,
    notices: mpsc::Sender<ExitNotice>,
    end: watch::Sender<Option<Ended>>,
}

impl Driver {
    async fn drive(mut self) {
        let killed = self.until_guard_ends().await;
        self.drain().await;
        let exit = self.spawner.reap(self.running.pid).await;
        let ended = Ended { exit, killed, after: self.running.started.elapsed() };
        let background = {
            let mut output = lock(&self.running.output);
            output.ended_at = Some(Instant::now());
            output.background
        };
        *self.running.input.lock().await = None;
        self.end.send_replace(Some(ended));
        if background {
            self.notify(ended);
        }
    }

    /// Reads output and waits for the guard, killing it when asked or out of time.
    async fn until_guard_ends(&mut self) -> Option<Killed> {
        let mut buffer = vec![0; READ_BYTES];
        let mut killed = None;
        let mut reading = true;
        let far = Duration::from_secs(u64::from(u32::MAX));
        let time_out = tokio::time::sleep(self.running.about.timeout.unwrap_or(far));
        let insist = tokio::time::sleep(far);
        tokio::pin!(time_out, insist);
        let kill = self.running.kill.clone();
        loop {
            tokio::select! {
                biased;
                () = ended(&self.guard) => return killed,
                () = kill.cancelled(), if killed.is_none() => killed = Some(Killed::Asked),
                () = &mut time_out, if killed.is_none() => killed = Some(Killed::TimedOut),
                () = &mut insist => { self.kill_hard(); insist.as_mut().reset(tokio::time::Instant::now() + GUARD_LIMIT); continue },
                read = self.output.read(&mut buffer), if reading => { reading = self.take(&buffer, read).await; continue },
            }
            let _gone_already = pidfd_send_signal(self.guard.get_ref(), Signal::TERM);
            insist.as_mut().reset(tokio::time::Instant::now() + GUARD_LIMIT);
        }
    }

    /// Stores what was read. False: nothing will come any more.
    async fn take(&self, buffer: &[u8], read: io::Result<usize>) -> bool {
        let Some(bytes) = read.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n)) else { return false };
        self.running.push(bytes);
        let asks = self.running.about.input == Input::Pty
            && bytes.windows(CURSOR_QUERY.len()).any(|window| window == CURSOR_QUERY);
        if asks {
            let _ignored = self.running.write(CURSOR_ANSWER, false).await;
        }
        true
    }

    /// The guard did not manage: kill its tree from here, then the guard; the sweep finds the rest.
    fn kill_hard(&self) {
        for below in tree::descendants(self.running.pid) {
            tree::signal(below, Signal::KILL);
        }
        let _gone_already = pidfd_send_signal(self.guard.get_ref(), Signal::KILL);
    }

    async fn drain(&mut self) {
        let mut buffer = vec![0; READ_BYTES];
        let rest = async {
            loop {
                let read = self.output.read(&mut buffer).await;
                match read.ok().filter(|n| *n > 0).and_then(|n| buffer.get(..n)) {
                    Some(bytes) => self.running.push(bytes),
                    None => return,
                }
            }
        };
        let _smuggled_out = tokio::time::timeout(DRAIN_LIMIT, rest).await;
    }

    fn notify(&self, ended: Ended) {
        let Some(even_if_empty) = self.running.about.notify else { return };
        let (text, _) = self.running.text();
        let text = text.trim();
        if ended.exit.success() && text.is_empty() && !even_if_empty {
            return;
        }
        let notice = ExitNotice {
            session_key: self.running.about.session_key.clone(),
            text: notice_text(&self.running.id, ended, text),
        };
        if self.notices.try_send(notice).is_err() {
            tracing::warn!(command = %self.running.id, "an exit notice was dropped: nobody takes them");
        }
    }
}

fn notice_text(id: &str, ended: Ended, output: &str) -> String {
    let word = if ended.exit.success() { "completed" } else { "failed" };
    let short = super::output::head_chars(id, 8);
    let flat = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let tail = super::output::tail_chars(&flat, NOTICE_TAIL_CHARS);
    let dots = if tail.is_empty() { "" } else { " :: " };
    format!("Exec {word} ({short}, {}){dots}{tail}", ended.exit.describe())
}
