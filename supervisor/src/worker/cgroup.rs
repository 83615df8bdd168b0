//! One control group (version 2) for each start of a worker, when the gateway has a subtree of its own.
//!
//! A group holds whatever its worker starts, however often that forks or leaves its session: `cgroup.kill` ends all of it at
//! once, and the limits count all of it together. Without a subtree of its own the gateway works as before; nothing here is
//! ever a reason not to start.
//!
//! ```text
//! <subtree>                   given to us, empty
//!  ├─ supervisor              this process and its short runs
//!  └─ workers-<device>-<inode of the state directory>
//!      ├─ agent_main.17       one per start: worker, epoch
//!      └─ channel_telegram_default.4
//! ```
//!
//! The name of a group follows from the worker and its epoch, so the image after an upgrade finds those of the workers that
//! go on, and a start after a crash knows that all others are leftovers. Not here: who may have a subtree ([`place`]), how
//! much a worker gets ([`limits`]).

pub mod limits;
mod place;

use limits::Limits;
use proto::runtime::cgroup::oom_kills;
use proto::wire::handshake::WorkerId;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group of this process. Also what `DelegateSubgroup=` should name.
const SUPERVISOR: &str = "supervisor";
/// First part of the name of the group that holds all workers of one gateway.
pub(super) const WORKERS: &str = "workers-";
/// What is asked for; a host that gives fewer limits less.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Longest wait at a start for leftovers to end: a killed process is gone in milliseconds unless the kernel holds it.
const END_MAX: Duration = Duration::from_secs(2);
/// How often an ended group is looked at until it is empty.
const END_POLL: Duration = Duration::from_millis(5);
/// Looks at a group whose worker was reaped, [`REMOVE_EVERY`] apart: what was killed in it is usually gone at the first. What is
/// left after that is removed by the next start of the gateway.
const REMOVE_TRIES: u32 = 100;
const REMOVE_EVERY: Duration = Duration::from_millis(50);
/// Groups below a group that are removed with it. Workers make none; a command that is not confined might.
const DEPTH_MAX: u32 = 8;

/// The groups of this gateway, or why there are none.
#[derive(Debug)]
pub struct Groups(Result<Ours, String>);

#[derive(Debug)]
struct Ours {
    workers: PathBuf,
    /// Those in force for workers.
    controllers: Vec<String>,
}

impl Groups {
    /// For processes that start workers without being a gateway (tests).
    #[must_use]
    pub fn none() -> Self {
        Self(Err("not a gateway of its own".to_owned()))
    }

    /// Moves this process aside, switches on what the host gives, and ends what an earlier gateway of this state directory
    /// left behind, `kept` (workers that go on) excepted. Blocks for at most two seconds, and only when leftovers do not die.
    #[must_use]
    pub fn prepare(state_dir: &Path, kept: &[(WorkerId, u64)]) -> Self {
        let groups = Self(Ours::prepare(state_dir, kept));
        match &groups.0 {
            Ok(ours) => {
                let controllers = ours.controllers.join(", ");
                tracing::info!(groups = %ours.workers.display(), controllers, "workers get control groups of their own");
            }
            Err(why) => tracing::info!(why, "workers get no control groups of their own"),
        }
        groups
    }

    /// For people: where they are and what they limit, or why there are none.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.0 {
            Ok(ours) if ours.controllers.is_empty() => {
                let below = ours.workers.display();
                format!("one for each worker below {below}, without limits: the host gives no controllers")
            }
            Ok(ours) => {
                format!(
                    "one for each worker below {} ({})",
                    ours.workers.display(),
                    ours.controllers.join(", ")
                )
            }
            Err(why) => format!("none: {why}"),
        }
    }

    /// Makes the group of one start. `None`: it has to do without, and the log says why if that is not the rule here.
    pub fn make(&self, worker: &WorkerId, epoch: u64, limits: &Limits) -> Option<Group> {
        let ours = self.0.as_ref().ok()?;
        let folder = ours.workers.join(name(worker, epoch));
        match Group::make(folder, limits) {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::warn!(%worker, error, "no control group of its own for this start");
                None
            }
        }
    }

    /// The group of a worker that another image started.
    pub fn find(&self, worker: &WorkerId, epoch: u64) -> Option<Group> {
        let folder = self.0.as_ref().ok()?.workers.join(name(worker, epoch));
        folder.is_dir().then(|| Group { seen: Seen::of(&folder), folder })
    }
}

impl Ours {
    fn prepare(state_dir: &Path, kept: &[(WorkerId, u64)]) -> Result<Self, String> {
        let place = place::own()?;
        let base = &place.base;
        if place.move_aside {
            let aside = base.join(SUPERVISOR);
            make_folder(&aside)?;
            put(&aside, std::process::id()).map_err(|error| told("cgroup.procs", &aside, &error))?;
        }
        let facts = fs::metadata(state_dir).map_err(|error| told("state directory", state_dir, &error))?;
        let workers = base.join(format!("{WORKERS}{:x}-{:x}", facts.dev(), facts.ino()));
        enable(base);
        make_folder(&workers)?;
        let controllers = enable(&workers);
        let ours = Self { workers, controllers };
        ours.sweep(&kept.iter().map(|(worker, epoch)| name(worker, *epoch)).collect());
        Ok(ours)
    }

    /// Ends and removes every group but those named.
    fn sweep(&self, kept: &BTreeSet<String>) {
        let groups = fs::read_dir(&self.workers).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = groups
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| !entry.file_name().to_str().is_some_and(|name| kept.contains(name)))
            .map(|entry| entry.path())
            .collect();
        for group in left.iter().filter(|group| is_populated(group)) {
            tracing::warn!(group = %group.display(), "ending what an earlier gateway left behind");
            kill(group);
        }
        let begin = Instant::now();
        for group in &left {
            while remove(group, DEPTH_MAX).is_err() && begin.elapsed() < END_MAX {
                std::thread::sleep(END_POLL);
            }
        }
    }
}

/// The group of one start of a worker.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    seen: Seen,
}

/// Kills for want of memory in the group, as of the look before the last one and of the last one; `None` where they are not
/// counted. Commands of an agent die in it too, so only what is new tells something about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(Option<(u64, u64)>);

impl Seen {
    fn of(folder: &Path) -> Self {
        Self(oom_kills(folder).map(|kills| (kills, kills)))
    }
}

impl Group {
    fn make(folder: PathBuf, limits: &Limits) -> Result<Self, String> {
        make_folder(&folder)?;
        for (file, value) in limits.files() {
            let path = folder.join(file);
            // Only what the host counts has a file.
            if path.exists() {
                fs::write(&path, value).map_err(|error| told(file, &folder, &error))?;
            }
        }
        Ok(Self { seen: Seen::of(&folder), folder })
    }

    /// Moves a process that has not started anything yet into the group.
    pub fn put(&self, pid: u32) {
        if let Err(error) = put(&self.folder, pid) {
            tracing::warn!(pid, group = %self.folder.display(), %error, "not moved into its control group");
        }
    }

    /// Ends everything in the group at once.
    pub fn kill(&self) {
        kill(&self.folder);
    }

    /// Keeps two looks, so that a kill just before the last look still counts.
    pub fn look_at_oom(&mut self) {
        if let (Seen(Some((_, last))), Some(now)) = (self.seen, oom_kills(&self.folder)) {
            self.seen = Seen(Some((last, now)));
        }
    }

    /// The kernel ended something in the group since the look before the last one. `None`: it does not count here.
    #[must_use]
    pub fn oom_since(&self) -> Option<bool> {
        let Seen(Some((before, _))) = self.seen else { return None };
        Some(oom_kills(&self.folder)? > before)
    }

    /// What the group used and was cut off from, for the report of an end.
    #[must_use]
    pub fn account(&self) -> limits::Account {
        limits::Account::of(&self.folder)
    }

    /// Its worker was reaped: ends what is left in it and removes it. Does not wait.
    pub fn end(self) {
        if remove(&self.folder, DEPTH_MAX).is_ok() {
            return;
        }
        kill(&self.folder);
        tokio::spawn(async move {
            for _ in 0..REMOVE_TRIES {
                if remove(&self.folder, DEPTH_MAX).is_ok() {
                    return;
                }
                tokio::time::sleep(REMOVE_EVERY).await;
            }
            tracing::warn!(group = %self.folder.display(), "control group of a dead worker is not empty; the next start ends it");
        });
    }
}

/// `agent_main.17`: safe as a name of a folder.
fn name(worker: &WorkerId, epoch: u64) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{}.{epoch}", worker.0.chars().map(safe).collect::<String>())
}

fn told(what: &str, folder: &Path, error: &io::Error) -> String {
    format!("{what} of {}: {error}", folder.display())
}

fn make_folder(folder: &Path) -> Result<(), String> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("{} cannot be made: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn put(folder: &Path, pid: u32) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), pid.to_string())
}

/// Ends all processes of a group and of those below it. Before Linux 5.14 there is no such file: then only the other layers
/// end what a dead worker left.
fn kill(folder: &Path) {
    if let Err(error) = fs::write(folder.join("cgroup.kill"), "1")
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(group = %folder.display(), %error, "control group cannot be ended at once");
    }
}

/// Something lives in the group or below it.
fn is_populated(folder: &Path) -> bool {
    let events = fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Switches on what the host gives for the groups below; says what is on.
fn enable(folder: &Path) -> Vec<String> {
    let list = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
    let given = list("cgroup.controllers");
    for controller in CONTROLLERS.iter().filter(|name| given.split_whitespace().any(|given| given == **name))
    {
        // One at a time: one that is refused must not keep the others away.
        if let Err(error) = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::info!(group = %folder.display(), controller, %error, "controller cannot be switched on");
        }
    }
    let on = list("cgroup.subtree_control");
    let ours = |name: &&str| CONTROLLERS.contains(name);
    on.split_whitespace().filter(ours).map(str::to_owned).collect()
}

/// Removes an empty group and the empty ones below it.
fn remove(folder: &Path, depth: u32) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if depth == 0 || is_populated(folder) => return Err(error),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), depth - 1)?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests;
