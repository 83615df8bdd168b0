//! One program image gives way to the next, and takes over from the one before.
//!
//! Everything that the image before left stays open under its number until this image is known to work. Until then any
//! failure execs the image before again, with the same state: it is the same descriptors and the same file.

use super::blob::{self, Unusable};
use super::fds::Kept;
use super::state::State;
use nix::fcntl::AtFlags;
use nix::sys::signal::{SigSet, Signal};
use proto::runtime::sys;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Names the descriptors for the next image: `<state>,<old executable>,<all others>…`.
pub const LEFT: &str = "OPENCLAW_UPGRADE_LEFT";
/// None of these is for workers or tools.
pub const VARIABLES: [&str; 5] = [LEFT, ROLLED_BACK, PATH, PATH_BEFORE, STOP_ASKED];
/// Why the image that was tried before this one did not work.
pub const ROLLED_BACK: &str = "OPENCLAW_UPGRADE_ROLLED_BACK";
/// The image that was tried before this one was told to stop.
const STOP_ASKED: &str = "OPENCLAW_UPGRADE_STOP_ASKED";
/// Path of the executable, for an image that was started by descriptor and cannot know it.
const PATH: &str = "OPENCLAW_UPGRADE_PATH";
/// The same of the image before.
const PATH_BEFORE: &str = "OPENCLAW_UPGRADE_PATH_BEFORE";
/// A new image that is not ready within this many seconds is ended by the kernel; the next start recovers.
pub const READY_WITHIN_SECONDS: u32 = 15;
/// Why a rolled-back image is not rolled back once more: what is passed on in one variable.
const REASON_BYTES_MAX: usize = 400;

static PATH_OF_THIS: OnceLock<PathBuf> = OnceLock::new();
static PENDING: Mutex<Option<Pending>> = Mutex::new(None);

/// What the image before left, as numbers.
#[derive(Clone, Debug)]
struct Pending {
    state: i32,
    executable: i32,
    others: Vec<i32>,
    /// Where the executable of the image before lay.
    path: PathBuf,
    rolled_back: Option<String>,
    /// A stop was asked for that nobody has obeyed yet.
    stop_asked: bool,
}

fn pending() -> std::sync::MutexGuard<'static, Option<Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Path at which the executable of this process was installed. Another file may lie there by now.
pub fn path() -> PathBuf {
    let find = || {
        let named = std::env::var_os(PATH).map(PathBuf::from);
        let current = named.or_else(|| std::env::current_exe().ok()).unwrap_or_default();
        // The kernel's mark of a file that was replaced.
        let text = current.as_os_str().as_bytes();
        let text = text.strip_suffix(b" (deleted)").unwrap_or(text);
        PathBuf::from(OsString::from_vec(text.to_vec()))
    };
    PATH_OF_THIS.get_or_init(find).clone()
}

/// Notes what another image of this process left; the first act of `main`. True when there is something.
pub fn look() -> bool {
    let _known = path();
    let Ok(left) = std::env::var(LEFT) else { return false };
    let numbers: Vec<i32> = left.split(',').filter_map(|number| number.parse().ok()).collect();
    let [state, executable, others @ ..] = numbers.as_slice() else { return false };
    for number in &numbers {
        // One that is not open is missed by whoever takes it.
        let _closed = sys::inherit_number(*number, false);
    }
    let rolled_back = std::env::var(ROLLED_BACK).ok();
    let path = std::env::var_os(PATH_BEFORE).map_or_else(path, PathBuf::from);
    let (state, executable, others) = (*state, *executable, others.to_vec());
    let stop_asked = std::env::var_os(STOP_ASKED).is_some();
    *pending() = Some(Pending { state, executable, others, path, rolled_back, stop_asked });
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        // An exec from another thread would end the workers.
        if std::thread::current().name() == Some("main") {
            roll_back("it panicked");
        }
    }));
    true
}

/// A variable that one image leaves to the next and to nobody else.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("OPENCLAW_UPGRADE_")
}

/// Whether this image still has to prove itself.
pub fn is_pending() -> bool {
    pending().is_some()
}

/// The state that the image before left. `None`: this is an ordinary start.
///
/// # Errors
/// It cannot be used: [`roll_back`].
pub fn take_over() -> Result<Option<State>, Unusable> {
    let Some(left) = pending().clone() else { return Ok(None) };
    blob::read(sys::copy_of(left.state)?).map(Some)
}

/// Why the image that was tried before this one did not work, if one was.
pub fn rolled_back() -> Option<String> {
    pending().as_ref().and_then(|left| left.rolled_back.clone())
}

/// This image fails and was told to stop: the one before, which is rolled back to, shall obey.
pub fn stop_after_roll_back() {
    if let Some(left) = pending().as_mut() {
        left.stop_asked = true;
    }
}

/// The image that was rolled back from was told to stop.
pub fn is_to_stop() -> bool {
    pending().as_ref().is_some_and(|left| left.stop_asked)
}

/// A place where a test build fails on purpose, at the last moment at which that is of no harm.
///
/// # Errors
/// The test wants it so.
pub fn prove() -> Result<(), String> {
    if is_pending() && rolled_back().is_none() {
        proto::runtime::failpoint::hit("sv.up.new_before_ready");
        if let Some(why) = proto::runtime::failpoint::refusal("sv.up.new_before_ready") {
            return Err(why);
        }
    }
    Ok(())
}

/// This image works: what the one before left is closed, and the alarm is off.
pub fn ready() {
    let Some(left) = pending().take() else { return };
    nix::unistd::alarm::cancel();
    for number in left.others.iter().chain([&left.state, &left.executable]) {
        let _closed = nix::unistd::close(*number);
    }
    proto::runtime::failpoint::hit("sv.up.new_after_ready");
}

/// Starts the image before again when this one still has to prove itself. Returns when there is none, or it is the one
/// that was rolled back to, or the kernel refuses.
pub fn roll_back(why: &str) {
    let Some(left) = pending().clone() else { return };
    if left.rolled_back.is_some() {
        eprintln!("the image that was rolled back to does not work either: {why}");
        return;
    }
    eprintln!("the new image does not work ({why}); going back to the one before");
    let all = left.others.iter().chain([&left.state, &left.executable]);
    for number in all {
        let _closed = sys::inherit_number(*number, true);
    }
    let mut variables = environment(&left_text(left.state, left.executable, &left.others), &left.path);
    variables.push(variable(ROLLED_BACK, why));
    if left.stop_asked {
        variables.push(variable(STOP_ASKED, "1"));
    }
    nix::unistd::alarm::set(READY_WITHIN_SECONDS);
    let failed = exec_descriptor(left.executable, &variables);
    eprintln!("the image before cannot be started: {failed}");
}

/// A path that leads to this very executable: its own, unless another file lies there by now.
pub fn own() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let file = |path: &Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    let usual = path();
    if file(&usual) == file(&running) { usual } else { running }
}

/// Makes `command` an ordinary start of this executable, after the way to a replacement was begun: what an earlier image
/// left to this one is no business of the next, and the alarm would outlive the exec.
pub fn forget(command: &mut Command) {
    nix::unistd::alarm::cancel();
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env(PATH, path());
}

/// What an exec needs.
pub struct Next {
    pub state: OwnedFd,
    pub kept: Kept,
    /// Executable of this image.
    pub own: OwnedFd,
    /// Executable to go on with.
    pub path: PathBuf,
}

/// Replaces this image. Must be called on the main thread: workers die with the thread that started them. Returns only
/// when neither the new executable nor this one can be started.
pub fn exec(next: Next) -> io::Error {
    let Next { state, mut kept, own, path } = next;
    let others = kept.numbers();
    let (state, own) = (kept.keep(state), kept.keep(own));
    if let Err(error) = kept.inherit(true) {
        return error;
    }
    // Waiting signals stay waiting over the exec; the alarm must not.
    let _unblocked = [Signal::SIGALRM].into_iter().collect::<SigSet>().thread_unblock();
    let mut variables = environment(&left_text(state, own, &others), &path);
    nix::unistd::alarm::set(READY_WITHIN_SECONDS);
    proto::runtime::failpoint::hit("sv.up.before_exec");
    let error = exec_path(&path, &variables);
    eprintln!("{} cannot be started ({error}); going on with the running image", path.display());
    let before = self::path();
    variables = environment(&left_text(state, own, &others), &before);
    variables.push(variable(ROLLED_BACK, &format!("{} cannot be started: {error}", path.display())));
    exec_descriptor(own, &variables)
}

fn left_text(state: i32, executable: i32, others: &[i32]) -> String {
    let numbers: Vec<String> = [state, executable].iter().chain(others).map(ToString::to_string).collect();
    numbers.join(",")
}

fn variable(name: &str, value: &str) -> CString {
    let value: String = value.chars().filter(|c| *c != '\0').take(REASON_BYTES_MAX).collect();
    CString::new(format!("{name}={value}")).unwrap_or_default()
}

/// The environment of this process with what the next image is told.
/// `next`: where the executable of the next image lies.
fn environment(left: &str, next: &Path) -> Vec<CString> {
    let ours = |name: &str| is_ours(name) || name == crate::gateway::RESTARTED_AT_MS;
    let mut all: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| !name.to_str().is_some_and(ours))
        .filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        })
        .collect();
    // Numbers only: this one may be long.
    all.extend(CString::new(format!("{LEFT}={left}")));
    for (name, path) in [(PATH, next), (PATH_BEFORE, &path())] {
        all.extend(CString::new([name.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()));
    }
    all.push(variable(crate::gateway::RESTARTED_AT_MS, &crate::scheduler::shared::now_ms().to_string()));
    all
}

fn arguments() -> Vec<CString> {
    std::env::args_os().filter_map(|argument| CString::new(argument.into_vec()).ok()).collect()
}

fn exec_path(path: &Path, variables: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    match nix::unistd::execve(&path, &arguments(), variables) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

fn exec_descriptor(executable: i32, variables: &[CString]) -> io::Error {
    let copy = match sys::copy_of(executable) {
        Ok(copy) => copy,
        Err(error) => return error,
    };
    let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&copy);
    debug_assert!(fd.as_raw_fd() > 2);
    match nix::unistd::execveat(fd, c"", &arguments(), variables, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
