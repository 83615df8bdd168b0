//! The one owner of the configuration while the gateway runs: everyone else holds this handle.
//!
//! [`ConfigHandle::current`] is what the gateway runs with; [`ConfigHandle::on_disk`] is what the file says now. The
//! two differ after an edit until the next start. Reads and writes of the file block: call them off the async threads.

pub use super::disk::{Allow, ChangeError, Changed, ConfigDisk, NewText};
use super::issue::{Issue, lines};
use super::read::{ConfigFile, read_file};
use super::store::Store;
use super::worker_check::WorkerPrograms;
use super::{ConfigSnapshot, ConfigSource, Environment};
use crate::paths::Paths;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
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
    /// Who checks the sections that workers own; absent until the gateway knows its executables.
    workers: OnceLock<WorkerPrograms>,
    /// Schema parts that workers gave, by path.
    schema_parts: RwLock<Vec<(String, Value)>>,
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
    /// `ok`, `pending` (valid edits wait for a restart) or `invalid`.
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
            place: ConfigDisk { paths, env },
            active,
            disk: RwLock::new(file),
            writing: Mutex::new(()),
            workers: OnceLock::new(),
            schema_parts: RwLock::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the gateway runs with.
    #[must_use]
    pub fn current(&self) -> Arc<ConfigSnapshot> {
        self.inner.active.borrow().clone()
    }

    /// Told of every [`ConfigHandle::activate`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ConfigSnapshot>> {
        self.inner.active.subscribe()
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
        let state = match disk.is_valid() {
            false => "invalid",
            true if disk.source.hash == active.hash() => "ok",
            true => "pending",
        };
        ConfigState {
            state,
            active_hash: active.hash().to_owned(),
            file_hash: disk.source.hash.clone(),
            source: active.source.name(),
            errors: disk.findings.issues.iter().map(ToString::to_string).collect(),
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
        let _ = self.inner.workers.set(programs);
    }

    pub fn add_schema_part(&self, path: &str, schema: Value) {
        let mut parts = self.inner.schema_parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|(known, _)| known != path);
        parts.push((path.to_owned(), schema));
    }

    /// Of the workers' programs (asked once; one that does not answer is left out) and of [`Self::add_schema_part`].
    #[must_use]
    pub fn schema_parts(&self) -> Vec<(String, Value)> {
        if let Some(programs) = self.inner.workers.get() {
            let mut parts = programs.schemas();
            let own = self.inner.schema_parts.read().unwrap_or_else(PoisonError::into_inner);
            parts.extend(own.iter().cloned());
            return parts;
        }
        self.inner.schema_parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges a new content and writes it; hold [`ConfigHandle::lock`] from reading `before` to here.
    ///
    /// # Errors
    /// As [`ConfigDisk::change`].
    pub fn change(
        &self,
        before: &ConfigFile,
        new: NewText<'_>,
        allow_loss: bool,
        now_ms: i64,
    ) -> Result<Changed, ChangeError> {
        self.check_by_workers(before, &new, now_ms)?;
        self.inner.place.change(before, new, Allow { loss: allow_loss, repair: false }, now_ms)
    }

    /// Values that our own rules accept are shown to the programs that act on them, secrets hidden.
    fn check_by_workers(
        &self,
        before: &ConfigFile,
        new: &NewText<'_>,
        now_ms: i64,
    ) -> Result<(), ChangeError> {
        let Some(programs) = self.inner.workers.get() else { return Ok(()) };
        let text = match new {
            NewText::Whole(text) => (*text).to_owned(),
            NewText::Values(values) => super::edit::printed(values),
        };
        let place = &self.inner.place;
        let file = super::judge(&place.paths.config_file, &text, &place.env);
        if !file.is_valid() || file.resolved == before.resolved {
            return Ok(());
        }
        let issues = programs.check(&super::redact(&file.resolved));
        if issues.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.store().keep_rejected(&text, &issues, now_ms) {
            tracing::warn!("the refused config was not kept: {error}");
        }
        Err(ChangeError::Invalid(issues))
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
