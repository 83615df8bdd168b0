//! Updates: new executables are taken from a directory or an archive, checked, asked whether they could go on, and installed
//! beside the old ones; the gateway then goes on with them in place.
//!
//! ```text
//! <install dir>/openclaw, openclaw-agent, openclaw-channel   links into the release in use, once there was an update
//! <install dir>/versions/<build>-<8 hex digits of its sums>/   one release: three executables and SHA256SUMS
//! ```
//!
//! Nothing of the release in use is touched before the new one has proved itself.

mod command;
pub mod place;
mod source;

use crate::upgrade::preflight;
use place::Place;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The executables of a release. The first is the gateway's.
pub const NAMES: [&str; 3] = ["openclaw", "openclaw-agent", "openclaw-channel"];
/// Checksums of the others, as `sha256sum` prints them.
pub const SUMS: &str = "SHA256SUMS";
/// An update that builds from source takes its time; one that waits for input must end.
pub const COMMAND_WITHIN: Duration = Duration::from_secs(20 * 60);

/// Where a release comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A directory, a tar archive or a gzipped one.
    Path(PathBuf),
    /// A program and its arguments; the last line that it prints names a directory or an archive.
    Command(Vec<String>),
}

/// What is wished.
#[derive(Clone, Debug)]
pub struct Wish {
    pub origin: Origin,
    /// A release without a list of checksums is refused.
    pub checksum: bool,
    /// Everything but the installation.
    pub dry_run: bool,
    /// For a command.
    pub within: Duration,
}

/// One step, as `update.run` answers it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub name: &'static str,
    pub command: String,
    pub cwd: PathBuf,
    pub duration_ms: u64,
    /// `None`: not a program, or ended by a signal.
    pub exit_code: Option<i32>,
    pub stdout_tail: Option<String>,
    pub stderr_tail: Option<String>,
}

/// A release by what identifies it.
#[derive(Clone, Debug, Serialize)]
pub struct Release {
    /// SHA-256 of the gateway's executable, in hex.
    pub sha: Option<String>,
    pub version: String,
    /// Name of its directory in `versions/`, for people: build and sum of all its checksums. `None`: it lies in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Skipped,
    Error,
}

/// `result` of `update.run`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub status: Status,
    /// No package manager did it.
    pub mode: &'static str,
    /// Install dir.
    pub root: PathBuf,
    pub before: Release,
    pub after: Option<Release>,
    /// Why it was skipped or failed: one word; the step that failed says more.
    pub reason: Option<&'static str>,
    pub steps: Vec<Step>,
    pub duration_ms: u64,
    /// Directory of the release, when it is installed.
    #[serde(skip)]
    pub installed: Option<PathBuf>,
}

impl Outcome {
    /// What went wrong, for people.
    pub fn trouble(&self) -> Option<&str> {
        self.steps.last()?.stderr_tail.as_deref().filter(|_| self.status == Status::Error)
    }
}

/// The new release, checked but not installed.
struct Candidate {
    staging: place::Staging,
    sums: source::Sums,
    build: String,
}

/// An update under way: the steps so far.
struct Update<'a> {
    place: &'a Place,
    wish: &'a Wish,
    steps: Vec<Step>,
}

/// Brings a release in. Blocks: on the disk, and on the command of the wish. `ask`: how its gateway's executable is asked
/// whether it could go on.
pub fn run(place: &Place, wish: &Wish, ask: &dyn Fn(&Path) -> Result<preflight::Answer, String>) -> Outcome {
    let begin = Instant::now();
    let sha = own_sum();
    let before =
        Release { sha: sha.clone(), version: env!("CARGO_PKG_VERSION").to_owned(), release: place.in_use() };
    let mut update = Update { place, wish, steps: Vec::new() };
    let candidate = update.prepare(ask);
    let after = candidate.as_ref().ok().map(|candidate| Release {
        sha: candidate.sums.first().map(|(_, sum)| sum.clone()),
        version: candidate.build.clone(),
        release: Some(place::label(&candidate.build, &candidate.sums)),
    });
    let same = after.as_ref().is_some_and(|after| after.sha.is_some() && after.sha == sha)
        && candidate.as_ref().is_ok_and(|candidate| place.is_in_use(&candidate.sums));
    let (status, reason, installed) = match candidate {
        Err(reason) => (Status::Error, Some(reason), None),
        Ok(_) if same => (Status::Skipped, Some("up-to-date"), None),
        Ok(_) if wish.dry_run => (Status::Skipped, Some("dry-run"), None),
        Ok(candidate) => match update.install(candidate) {
            Ok(dir) => (Status::Ok, None, Some(dir)),
            Err(reason) => (Status::Error, Some(reason), None),
        },
    };
    let (root, steps, duration_ms) = (place.dir.clone(), update.steps, millis(begin));
    Outcome { status, mode: "unknown", root, before, after, reason, steps, duration_ms, installed }
}

impl Update<'_> {
    fn prepare(
        &mut self,
        ask: &dyn Fn(&Path) -> Result<preflight::Answer, String>,
    ) -> Result<Candidate, &'static str> {
        let place = self.place;
        self.step("place", String::new(), "not-writable", || place.check())?;
        let from = match &self.wish.origin {
            Origin::Path(path) => path.clone(),
            Origin::Command(words) => {
                let (step, from) = command::run(words, &place.dir, self.wish.within);
                self.steps.push(step);
                from.ok_or("command-failed")?
            }
        };
        let what = from.display().to_string();
        let staging = self.step("stage", what.clone(), "not-a-release", || place.stage())?;
        let checksum = self.wish.checksum;
        let sums =
            self.step("verify", what, "not-a-release", || source::fetch(&from, staging.path(), checksum))?;
        let program = staging.path().join(NAMES[0]);
        let called = format!("{} {}", NAMES[0], preflight::FLAG);
        let answer = self.step("preflight", called, "preflight-failed", || ask(&program))?;
        Ok(Candidate { staging, sums, build: answer.build })
    }

    fn install(&mut self, candidate: Candidate) -> Result<PathBuf, &'static str> {
        let Candidate { staging, sums, build } = candidate;
        let place = self.place;
        self.step("install", build.clone(), "install-failed", || place.install(staging, &build, &sums))
    }

    fn step<T>(
        &mut self,
        name: &'static str,
        command: String,
        reason: &'static str,
        act: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, &'static str> {
        let begin = Instant::now();
        let done = act();
        self.steps.push(Step {
            name,
            command,
            cwd: self.place.dir.clone(),
            duration_ms: millis(begin),
            exit_code: None,
            stdout_tail: None,
            stderr_tail: done.as_ref().err().cloned(),
        });
        done.map_err(|_| reason)
    }
}

/// Checksum of the executable that runs; it does not change.
fn own_sum() -> Option<String> {
    static SUM: OnceLock<Option<String>> = OnceLock::new();
    SUM.get_or_init(|| source::sum_of(Path::new("/proc/self/exe")).ok()).clone()
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
