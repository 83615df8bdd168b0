//! The one owner of the configuration while the gateway runs: everyone else holds this handle.
//!
//! [`ConfigHandle::current`] is what the gateway runs with; [`ConfigHandle::on_disk`] is what the file says now. The
//! two differ after an edit until the next start. Reads and writes of the file block: call them off the async threads.

pub use super::disk::{Allow, ChangeError, Changed, ConfigDisk, NewText};
use super::issue::{Issue, lines};
use super::read::{ConfigFile, read_file};
use super::store::Store;
use super::worker_check::WorkerPrograms;
use super::write_limit::{Limited, WriteLimits, Writer};
use super::{ConfigSnapshot, ConfigSource, Environment};
use crate::paths::Paths;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use thiserror::Error;
use tokio::sync::watch;

/// Cheap to clone; all clones are one owner.
#[derive(Clone)]
pub struct ConfigHandle {
    inner: Arc<Inner>,
}

struct Inner {
    place: ConfigDisk,
    active: watch::Sender<Arc<ConfigSnapshot>>,
    /// The file as read last, so that an unchanged one is not judged again.
    disk: RwLock<Arc<ConfigFile>>,
    /// Held over read, judge and write: two writers never interleave.
    writing: Mutex<()>,
    /// What workers refuse of the active configuration.
    refused: RwLock<Vec<Issue>>,
    limits: Mutex<WriteLimits>,
}

/// How an invalid file is met at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartPolicy {
    /// Started by a service manager.
    pub service: bool,
    /// `--use-last-good`.
    pub use_last_good: bool,
}

/// No configuration to start with; the text is for stderr.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
}

/// Whether file and running gateway agree, for every place that must say so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigState {
    /// `ok`, `pending` (valid edits wait for a restart) or `invalid` (the file, or a section that a worker refuses).
    pub state: &'static str,
    pub active_hash: String,
    pub file_hash: String,
    /// `file` or `lastGood`.
    pub source: &'static str,
    pub errors: Vec<String>,
}

impl ConfigHandle {
    /// Reads the file, or the last good one where the policy says so.
    ///
    /// # Errors
    /// An invalid file that nothing may stand in for.
    pub fn start(paths: Paths, env: Environment, policy: StartPolicy) -> Result<Self, StartError> {
        let file = Arc::new(read_file(&paths.config_file, &env));
        let snapshot = match ConfigSnapshot::new(Arc::clone(&file), ConfigSource::File) {
            Ok(snapshot) => snapshot,
            Err(issues) => stand_in(&paths, &env, &file, &issues, policy)?,
        };
        Ok(Self::with(paths, env, file, snapshot))
    }

    fn with(paths: Paths, env: Environment, file: Arc<ConfigFile>, snapshot: ConfigSnapshot) -> Self {
        let (active, _) = watch::channel(Arc::new(snapshot));
        let inner = Inner {
            place: ConfigDisk::new(paths, env),
            active,
            disk: RwLock::new(file),
            writing: Mutex::new(()),
            refused: RwLock::default(),
            limits: Mutex::default(),
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
        self.inner.active.send_replace(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.inner.place.paths
    }

    /// The environment before the file's own `env` section.
    #[must_use]
    pub fn base_env(&self) -> &Environment {
        &self.inner.place.env
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
            && std::fs::read_to_string(&self.inner.place.paths.config_file).ok() == known.source.raw;
        if same {
            return known;
        }
        let fresh = Arc::new(read_file(&self.inner.place.paths.config_file, &self.inner.place.env));
        *self.inner.disk.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }

    /// Compares file and running gateway.
    #[must_use]
    pub fn state(&self) -> ConfigState {
        let (active, disk) = (self.current(), self.on_disk());
        let pending = disk.source.hash != active.hash();
        let refused = if pending { Vec::new() } else { self.refused_by_workers() };
        let state = match disk.is_valid() {
            true if pending => "pending",
            true if refused.is_empty() => "ok",
            _ => "invalid",
        };
        ConfigState {
            state,
            active_hash: active.hash().to_owned(),
            file_hash: disk.source.hash.clone(),
            source: active.source.name(),
            errors: disk.findings.issues.iter().chain(&refused).map(ToString::to_string).collect(),
        }
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

    /// Descriptions of sections by path, from the workers' programs (asked once; one that does not answer is left out).
    #[must_use]
    pub fn schema_parts(&self) -> Vec<(String, Value)> {
        self.inner.place.workers().map(WorkerPrograms::schemas).unwrap_or_default()
    }

    /// Asks the workers' programs about the configuration that runs, and keeps what they refuse for
    /// [`ConfigHandle::state`]. What they accepted once is not asked again by later starts. Blocks.
    pub fn check_active(&self) {
        let Some(programs) = self.inner.place.workers() else { return };
        let config = super::redact(&self.current().file.resolved);
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
        self.inner.place.change(before, new, allow, now_ms)
    }
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
    let may_fall_back = file.parsed.pointer("/gateway/onInvalidConfig") != Some(&json!("fail"));
    if policy.use_last_good || (policy.service && may_fall_back) {
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

/// What commands other than the gateway print for an invalid file.
#[must_use]
pub fn invalid_for_commands(path: &Path, issues: &[Issue]) -> String {
    let problems: Vec<String> = issues.iter().map(|issue| format!("  - {issue}")).collect();
    format!(
        "Config invalid\nFile: {}\nProblem:\n{}\n\nRun: openclaw doctor --fix",
        path.display(),
        problems.join("\n")
    )
}

/// The environment of a process: what it was given, `.env` here (only for a person in the foreground: a service's
/// working directory may be anybody's), `.env` in the state directory.
#[must_use]
pub fn load_env(process: Environment, paths: &Paths, foreground_dir: Option<&Path>) -> Environment {
    const DOTENV_BYTES_MAX: u64 = 1_048_576;
    let mut env = process;
    let files = foreground_dir.into_iter().chain(std::iter::once(paths.state_dir.as_path()));
    for file in files.map(|dir| dir.join(".env")) {
        let small =
            std::fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= DOTENV_BYTES_MAX);
        if let Some(text) = small.then(|| std::fs::read_to_string(&file).ok()).flatten() {
            env.add_dotenv(&text);
        }
    }
    env
}

#[cfg(test)]
mod tests;
