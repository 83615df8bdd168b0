//! The one owner of the configuration while the gateway runs: everyone else holds this handle.
//!
//! [`ConfigHandle::current`] is what the gateway runs with; [`ConfigHandle::on_disk`] is what the file says now. The
//! two differ after an edit until it is applied, and [`ConfigHandle::state`] says so for as long as they do. Reads and
//! writes of the file block: call them off the async threads.

pub use super::disk::{Allow, ChangeError, Changed, ConfigDisk, NewText};
use super::issue::{Issue, lines};
use super::plan::ConfigPlan;
use super::read::{ConfigFile, judge, read_file, read_text};
use super::startup::Overrides;
pub use super::state::ConfigState;
use super::store::Store;
use super::verdict::in_the_way;
use super::worker_check::WorkerPrograms;
use super::write::sweep_unfinished;
use super::write_limit::{Limited, WriteLimits, Writer};
use super::{ConfigSnapshot, ConfigSource, Environment, KeyPath, Reach};
use crate::paths::Paths;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use thiserror::Error;
use tokio::sync::{Notify, watch};

/// Cheap to clone; all clones are one owner.
#[derive(Clone)]
pub struct ConfigHandle {
    inner: Arc<Inner>,
}

struct Inner {
    place: ConfigDisk,
    policy: StartPolicy,
    /// Flags of the start.
    overrides: OnceLock<Overrides>,
    active: watch::Sender<Arc<ConfigSnapshot>>,
    /// The file as read last, so that an unchanged one is not judged again.
    disk: RwLock<Arc<ConfigFile>>,
    /// Held over read, judge and write: two writers never interleave.
    writing: Mutex<()>,
    /// What workers refuse of the active configuration.
    refused: RwLock<Vec<Issue>>,
    limits: Mutex<WriteLimits>,
    /// Rings after each write of ours.
    written: Notify,
    divergence: Mutex<Divergence>,
}

/// What is known of the difference between file and running gateway beyond the bytes.
#[derive(Default)]
struct Divergence {
    /// Keys of an applied file that wait for a restart.
    pending: Vec<String>,
    trouble: Option<Trouble>,
    /// A new configuration is being watched.
    settling: bool,
    /// Content for which a write asked for a restart, at a time of its own.
    restart_for: Option<String>,
    /// What is shown now, and since when (Unix milliseconds).
    shown: Option<(String, i64)>,
    /// [`ConfigState::line`] of the last look, while it is not `ok`.
    line: Option<String>,
}

/// A file that was looked at and does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Content of the file that it is about; see [`ConfigFile::print`].
    pub print: String,
    /// It was tried and taken back, not refused at once.
    pub rolled_back: bool,
    pub errors: Vec<String>,
}

/// How an invalid file is met at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartPolicy {
    /// Started by a service manager.
    pub service: bool,
    /// `--use-last-good`.
    pub use_last_good: bool,
    /// A gateway that ran gave way to this start: what it ran with is kept.
    pub restarted: bool,
}

/// No configuration to start with; the text is for stderr.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
}

impl ConfigHandle {
    /// Reads the file, or the last good one where the policy says so. Whoever calls holds the instance lock: what killed
    /// writes left unfinished is removed.
    ///
    /// # Errors
    /// An invalid file that nothing may stand in for.
    pub fn start(paths: Paths, env: Environment, policy: StartPolicy) -> Result<Self, StartError> {
        sweep_unfinished(&paths);
        let file = Arc::new(read_file(&paths.config_file, &env));
        let snapshot = match ConfigSnapshot::new(Arc::clone(&file), ConfigSource::File) {
            Ok(snapshot) => snapshot,
            Err(issues) => stand_in(&paths, &env, &file, &issues, policy)?,
        };
        let handle = Self::with(paths, env, policy, (file, snapshot));
        handle.fall_back_at_once();
        Ok(handle)
    }

    /// A secret that is missing now and was not when the last good file ran, or the gateway's own files given away: a reload
    /// refuses such a file, and so does a start that has something to go on with. Without that the file runs, and the
    /// worker that it concerns says what is wrong.
    fn fall_back_at_once(&self) {
        let Some(good) = self.may_fall_back().then(|| self.before_start()).flatten() else { return };
        let issues = in_the_way(Some(&good.file), &self.current(), self.paths());
        if !issues.is_empty() {
            self.fall_back(issues);
        }
    }

    fn with(
        paths: Paths,
        env: Environment,
        policy: StartPolicy,
        (file, snapshot): (Arc<ConfigFile>, ConfigSnapshot),
    ) -> Self {
        let (active, _) = watch::channel(Arc::new(snapshot));
        let inner = Inner {
            place: ConfigDisk::new(paths, env),
            policy,
            overrides: OnceLock::new(),
            active,
            disk: RwLock::new(file),
            writing: Mutex::new(()),
            refused: RwLock::default(),
            limits: Mutex::default(),
            written: Notify::new(),
            divergence: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the gateway runs with.
    #[must_use]
    pub fn current(&self) -> Arc<ConfigSnapshot> {
        self.inner.active.borrow().clone()
    }

    /// Makes a valid file what the gateway runs with.
    ///
    /// # Errors
    /// The file's issues.
    pub fn activate(&self, file: Arc<ConfigFile>) -> Result<Arc<ConfigSnapshot>, Vec<Issue>> {
        let snapshot = Arc::new(ConfigSnapshot::new(file, ConfigSource::File)?);
        self.switch_to(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// From here on everyone reads this one. The reloader's verb: nothing else is told.
    pub fn switch_to(&self, snapshot: Arc<ConfigSnapshot>) {
        self.inner.active.send_replace(snapshot);
        self.inner.refused.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn divergence(&self) -> MutexGuard<'_, Divergence> {
        self.inner.divergence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the file does not run; `None` when it does.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.divergence().trouble = trouble;
    }

    /// Notes which keys of the file wait for a restart.
    pub fn set_pending(&self, pending: Vec<String>) {
        self.divergence().pending = pending;
    }

    /// A write has asked for the restart that this file needs.
    pub fn restart_planned(&self, file: &ConfigFile) {
        self.divergence().restart_for = Some(file.print());
    }

    /// Whether the restart that this file needs was asked for already.
    #[must_use]
    pub fn is_restart_planned(&self, file: &ConfigFile) -> bool {
        self.divergence().restart_for.as_ref() == Some(&file.print())
    }

    /// The file that a change would make; nothing is written.
    ///
    /// # Errors
    /// As [`ConfigDisk::judged`].
    pub fn judged(&self, before: &ConfigFile, new: &NewText<'_>) -> Result<ConfigFile, ChangeError> {
        self.inner.place.judged(before, new)
    }

    pub fn set_settling(&self, settling: bool) {
        self.divergence().settling = settling;
    }

    /// Waits for the next write of ours.
    pub async fn written(&self) {
        self.inner.written.notified().await;
    }

    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.inner.place.paths
    }

    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(self.inner.place.paths.config_store_dir())
    }

    /// The file as it is now; judged again only when its bytes changed (or it includes others).
    #[must_use]
    pub fn on_disk(&self) -> Arc<ConfigFile> {
        let known = Arc::clone(&self.inner.disk.read().unwrap_or_else(PoisonError::into_inner));
        let same = known.source.files.len() == 1
            && known.source.raw.is_some()
            && read_text(&self.inner.place.paths.config_file).ok().flatten() == known.source.raw;
        if same {
            return known;
        }
        let fresh = Arc::new(read_file(&self.inner.place.paths.config_file, &self.inner.place.env));
        *self.inner.disk.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }

    /// The file as it was read last, whatever it says now.
    #[must_use]
    pub fn known_on_disk(&self) -> Arc<ConfigFile> {
        Arc::clone(&self.inner.disk.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last good configuration, when this start runs with another one. Blocks.
    #[must_use]
    pub fn before_start(&self) -> Option<Arc<ConfigSnapshot>> {
        let (active, place) = (self.current(), &self.inner.place);
        if active.source != ConfigSource::File || self.store().is_last_good(&active.file) {
            return None;
        }
        self.store().load(&place.paths.config_file, &place.env).map(Arc::new).ok()
    }

    /// Whether the last good configuration may stand in for the file, and is another one. Blocks.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        let active = self.current();
        may_stand_in(&active.file, self.inner.policy) && self.before_start().is_some()
    }

    /// Goes on with the last good configuration because a start with the file is not possible. `false` when that may
    /// not be, or there is none. Blocks.
    pub fn fall_back(&self, why: Vec<Issue>) -> bool {
        let file = self.current().file.clone();
        if !may_stand_in(&file, self.inner.policy) {
            return false;
        }
        let Some(good) = self.before_start() else { return false };
        self.switch_to(good);
        let errors = why.into_iter().map(|issue| file.placed(issue).to_string()).collect();
        self.set_trouble(Some(Trouble { print: file.print(), rolled_back: false, errors }));
        true
    }

    /// What workers refuse of a change, and did not refuse before. Blocks.
    #[must_use]
    pub fn refused_of(&self, before: &ConfigFile, after: &ConfigFile) -> Vec<Issue> {
        let issues = self.inner.place.refused_by_workers(before, after);
        issues.into_iter().map(|issue| after.placed(issue)).collect()
    }

    /// The running configuration with the hot part of a new one: `None` when that part is not valid by itself.
    #[must_use]
    pub fn mixed(&self, after: &ConfigSnapshot, plan: &ConfigPlan) -> Option<Arc<ConfigSnapshot>> {
        let place = &self.inner.place;
        let mut values = self.current().file.expanded.clone();
        for change in plan.changes.iter().filter(|change| matches!(change.class, Reach::Hot | Reach::None)) {
            let path = KeyPath::parse(&change.path).ok()?;
            match path.get(&after.file.expanded) {
                Some(value) => path.set(&mut values, value.clone()).ok()?,
                None => drop(path.remove(&mut values)),
            }
        }
        let mut file = judge(&place.paths.config_file, &values.to_string(), &place.env);
        file.source = after.file.source.clone();
        file.parsed = after.file.parsed.clone();
        ConfigSnapshot::new(Arc::new(file), ConfigSource::File).ok().map(Arc::new)
    }

    /// Compares file and running gateway.
    #[must_use]
    pub fn state(&self) -> ConfigState {
        let (active, disk) = (self.current(), self.on_disk());
        let differs = !disk.is_same(&active.file);
        let refused = if differs { Vec::new() } else { self.refused_by_workers() };
        let mut known = self.divergence();
        let trouble = known.trouble.clone().filter(|trouble| trouble.print == disk.print());
        let (state, errors) = match trouble {
            Some(trouble) if differs && disk.is_valid() => {
                (if trouble.rolled_back { "rolledBack" } else { "invalid" }, trouble.errors)
            }
            _ => {
                let errors = disk.findings.issues.iter().chain(&refused).map(ToString::to_string).collect();
                let state = match disk.is_valid() {
                    true if differs || !known.pending.is_empty() => "pending",
                    true if refused.is_empty() => "ok",
                    _ => "invalid",
                };
                (state, errors)
            }
        };
        let now = format!("{state} {}", disk.source.hash);
        if state == "ok" {
            known.shown = None;
        } else if known.shown.as_ref().is_none_or(|(shown, _)| *shown != now) {
            known.shown = Some((now, crate::scheduler::shared::now_ms()));
        }
        let found = ConfigState {
            state,
            active_hash: active.hash().to_owned(),
            file_hash: disk.source.hash.clone(),
            source: active.source.name(),
            errors,
            pending: if state == "pending" { known.pending.clone() } else { Vec::new() },
            since_ms: known.shown.as_ref().map(|(_, since)| *since),
            settling: known.settling,
        };
        known.line = found.diverges().then(|| found.line());
        found
    }

    /// [`ConfigState::line`] as the last look at the file found it; reads nothing.
    #[must_use]
    pub fn last_line(&self) -> String {
        self.divergence().line.clone().unwrap_or_else(|| "ok".to_owned())
    }

    /// Keeps the running configuration as the last good one. Called once the start has proved it.
    pub fn mark_good(&self, by: &str, now_ms: i64) {
        let snapshot = self.current();
        if snapshot.source == ConfigSource::File
            && let Err(error) = self.store().promote(&snapshot.file, by, now_ms)
        {
            tracing::warn!("the last good config was not kept: {error}");
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the workers' programs check every change and describe their sections.
    pub fn use_workers(&self, programs: WorkerPrograms) {
        self.inner.place.use_workers(programs);
    }

    /// Every later judgement knows the flags of this start.
    pub fn use_overrides(&self, overrides: Overrides) {
        let _ = self.inner.overrides.set(overrides);
    }

    #[must_use]
    pub fn overrides(&self) -> Overrides {
        self.inner.overrides.get().cloned().unwrap_or_default()
    }

    /// Descriptions of sections by path, from the workers' programs (asked once; one that does not answer is left out).
    #[must_use]
    pub fn schema_parts(&self) -> Vec<(String, Value)> {
        self.inner.place.workers().map(WorkerPrograms::schemas).unwrap_or_default()
    }

    /// Asks the workers' programs about the configuration that runs, and keeps what they refuse for
    /// [`ConfigHandle::state`]. What they accepted once is not asked again by later starts. Blocks.
    pub fn check_active(&self) {
        let Some(programs) = self.inner.place.workers() else { return };
        let config = self.current().file.for_workers();
        let (key, store) = (programs.key(&config), self.store());
        if store.checked().as_deref() == Some(&key) {
            return;
        }
        let checked = programs.ask_all(&config);
        for issue in &checked.issues {
            tracing::error!("config: a worker refuses {issue}");
        }
        if checked.issues.is_empty()
            && checked.complete
            && let Err(error) = store.keep_checked(&key)
        {
            tracing::debug!("the verdict on the config was not kept: {error}");
        }
        *self.inner.refused.write().unwrap_or_else(PoisonError::into_inner) = checked.issues;
    }

    /// What workers refuse of the configuration that runs.
    #[must_use]
    pub fn refused_by_workers(&self) -> Vec<Issue> {
        self.inner.refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an attempt to write, before anything else is looked at.
    ///
    /// # Errors
    /// The client wrote too often.
    pub fn count_write(&self, writer: &Writer, method: &str, now_ms: i64) -> Result<(), Limited> {
        self.inner.limits.lock().unwrap_or_else(PoisonError::into_inner).count(writer, method, now_ms)
    }

    /// Judges a new content and writes it; hold [`ConfigHandle::lock`] from reading `before` to here.
    ///
    /// # Errors
    /// As [`ConfigDisk::change`].
    pub fn change(
        &self,
        before: &ConfigFile,
        new: NewText<'_>,
        allow: Allow,
        now_ms: i64,
    ) -> Result<Changed, ChangeError> {
        let judge = |after: &ConfigSnapshot| self.refused_anew(before, &after.file);
        let changed = self.inner.place.change_if(before, new, (allow, now_ms), judge)?;
        if changed.written.is_some() {
            self.inner.written.notify_one();
        }
        Ok(changed)
    }
}

/// Asked for, or nobody is there to read a refusal and the file does not forbid it.
fn may_stand_in(file: &ConfigFile, policy: StartPolicy) -> bool {
    let allowed = file.parsed.pointer("/gateway/onInvalidConfig") != Some(&json!("fail"));
    policy.use_last_good || ((policy.service || policy.restarted) && allowed)
}

fn stand_in(
    paths: &Paths,
    env: &Environment,
    file: &ConfigFile,
    issues: &[Issue],
    policy: StartPolicy,
) -> Result<ConfigSnapshot, StartError> {
    let store = Store::new(paths.config_store_dir());
    let refused = invalid_message(&paths.config_file, issues);
    if may_stand_in(file, policy) {
        return store
            .load(&paths.config_file, env)
            .map_err(|why| StartError { message: format!("{refused}\n{why}") });
    }
    let message = match store.meta() {
        Some(meta) => {
            format!("{refused}\nTo start with the last good config ({}), add --use-last-good.", meta.at)
        }
        None => format!("{refused}\n(--use-last-good starts with the last good config; none is kept yet.)"),
    };
    Err(StartError { message })
}

/// The start-up refusal of an invalid file.
#[must_use]
pub fn invalid_message(path: &Path, issues: &[Issue]) -> String {
    format!(
        "Invalid config at {}.\n{}\nRun \"openclaw doctor\" to repair, then retry.",
        path.display(),
        lines(issues)
    )
}

#[cfg(test)]
mod tests;
