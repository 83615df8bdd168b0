//! The file and what surrounds it, for whoever changes it: the running gateway's handle, and commands while no gateway
//! runs.

use super::issue::Issue;
use super::patch::changed_paths;
use super::read::{ConfigFile, judge, read_file};
use super::store::Store;
use super::substitute::restore_references;
use super::verdict::in_the_way;
use super::worker_check::WorkerPrograms;
use super::write::{WriteError, WriteRequest, Written, iso_time, write};
use super::{ConfigSnapshot, ConfigSource, Environment, KeyPath, edit};
use crate::paths::Paths;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use thiserror::Error;

/// Where the file is and which environment it is read with.
#[derive(Debug)]
pub struct ConfigDisk {
    pub paths: Paths,
    /// Process and `.env` files; not the file's own `env` section.
    pub env: Environment,
    /// Who checks the sections that workers own; absent until the executables are known.
    workers: OnceLock<WorkerPrograms>,
}

#[derive(Debug, Error)]
pub enum ChangeError {
    #[error("invalid config")]
    Invalid(Vec<Issue>),
    #[error("{0} comes from an included file; edit that file instead")]
    Included(String),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A change that reached the disk, or none that was needed.
#[derive(Clone, Debug)]
pub struct Changed {
    pub file: Arc<ConfigFile>,
    /// Authored paths that differ, `meta` left out.
    pub paths: Vec<String>,
    /// `None` when nothing differed and nothing was written.
    pub written: Option<Written>,
}

/// What to put in the file.
pub enum NewText<'a> {
    /// A whole text, kept as it is.
    Whole(&'a str),
    /// Values as authored; the old text is changed only where they differ.
    Values(Value),
}

/// What a change may do beyond replacing one valid file by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// A file that halves, or a `gateway.mode` that vanishes.
    pub loss: bool,
    /// An invalid file may become one with fewer issues.
    pub repair: bool,
}

impl ConfigDisk {
    #[must_use]
    pub fn new(paths: Paths, env: Environment) -> Self {
        Self { paths, env, workers: OnceLock::new() }
    }

    /// From here on the workers' programs check every change.
    pub fn use_workers(&self, programs: WorkerPrograms) {
        let _ = self.workers.set(programs);
    }

    #[must_use]
    pub fn workers(&self) -> Option<&WorkerPrograms> {
        self.workers.get()
    }

    #[must_use]
    pub fn read(&self) -> ConfigFile {
        read_file(&self.paths.config_file, &self.env)
    }

    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(self.paths.config_store_dir())
    }

    /// Judges a new content and writes it. `before` is the file that the caller compared with; nobody else may write
    /// between reading it and this.
    ///
    /// # Errors
    /// Invalid content (kept under `rejected/`), a change inside an included file, a loss, the disk.
    pub fn change(
        &self,
        before: &ConfigFile,
        new: NewText<'_>,
        allow: Allow,
        now_ms: i64,
    ) -> Result<Changed, ChangeError> {
        self.change_if(before, new, (allow, now_ms), |after| {
            let mut issues = in_the_way(Some(before), after, &self.paths);
            let known = before.findings.issues.is_empty().then(|| {
                let before = ConfigSnapshot::new(Arc::new(before.clone()), ConfigSource::File).ok()?;
                Some(in_the_way(None, &before, &self.paths))
            });
            let known = known.flatten().unwrap_or_default();
            issues.retain(|issue| !known.iter().any(|old| old.path == issue.path));
            issues.extend(self.refused_by_workers(before, &after.file));
            issues
        })
    }

    /// The same, where `judge` gives what stands in the way of a content that is valid by itself.
    ///
    /// # Errors
    /// As [`ConfigDisk::change`].
    pub fn change_if(
        &self,
        before: &ConfigFile,
        new: NewText<'_>,
        (allow, now_ms): (Allow, i64),
        judge: impl FnOnce(&ConfigSnapshot) -> Vec<Issue>,
    ) -> Result<Changed, ChangeError> {
        let authored = self.judged(before, &new)?;
        let text = authored.source.raw.clone().unwrap_or_default();
        let old_issues = before.findings.issues.len();
        let refused = match ConfigSnapshot::new(Arc::new(authored.clone()), ConfigSource::File) {
            Ok(after) => judge(&after),
            Err(issues) if allow.repair && issues.len() < old_issues => Vec::new(),
            Err(issues) => issues,
        };
        if !refused.is_empty() {
            if let Err(error) = self.store().keep_rejected(&text, &refused, now_ms) {
                tracing::warn!("the refused config was not kept: {error}");
            }
            return Err(ChangeError::Invalid(refused));
        }
        let mut paths = changed_paths(&before.parsed, &authored.parsed);
        paths.retain(|path| path != "meta" && !path.starts_with("meta."));
        if paths.is_empty() && before.source.exists {
            return Ok(Changed { file: Arc::new(before.clone()), paths, written: None });
        }
        let stamped = edit::rewrite(&text, &stamped(authored.parsed, now_ms));
        let written = write(&WriteRequest {
            path: &self.paths.config_file,
            before: before.source.raw.as_deref(),
            after: &stamped,
            paths_changed: paths.len(),
            allow_loss: allow.loss,
            audit_file: &self.paths.audit_file(),
            now_ms,
        })?;
        for line in &written.log {
            tracing::warn!("{line}");
        }
        Ok(Changed { file: Arc::new(self.read()), paths, written: Some(written) })
    }

    /// What the workers' programs have against a change, secrets hidden from them. What they had against the file
    /// before it is not the change's fault.
    pub(super) fn refused_by_workers(&self, before: &ConfigFile, after: &ConfigFile) -> Vec<Issue> {
        let Some(programs) = self.workers.get() else { return Vec::new() };
        if after.resolved == before.resolved {
            return Vec::new();
        }
        let mut issues = programs.check(&after.for_workers());
        if !issues.is_empty() {
            let old = programs.check(&before.for_workers());
            issues.retain(|issue| !old.contains(issue));
        }
        issues
    }

    /// The file that a change would make, judged by our own rules; nothing is written.
    ///
    /// # Errors
    /// A change inside an included file.
    pub fn judged(&self, before: &ConfigFile, new: &NewText<'_>) -> Result<ConfigFile, ChangeError> {
        let path = &self.paths.config_file;
        match new {
            NewText::Whole(text) => Ok(judge(path, text, &self.env)),
            NewText::Values(value) => {
                let mut value = value.clone();
                restore_references(&mut value, &before.parsed, &before.resolved);
                refuse_included(before, &value)?;
                let text = match before.source.raw.as_deref() {
                    Some(text) if !text.trim().is_empty() => edit::rewrite(text, &value),
                    _ => edit::printed(&value),
                };
                Ok(judge(path, &text, &self.env))
            }
        }
    }
}

/// `meta` says who wrote last; other keys of it stay.
fn stamped(mut config: Value, now_ms: i64) -> Value {
    if let Some(map) = config.as_object_mut() {
        let meta = map.entry("meta").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("lastTouchedVersion".to_owned(), json!(env!("CARGO_PKG_VERSION")));
            meta.insert("lastTouchedAt".to_owned(), json!(iso_time(now_ms)));
        }
    }
    config
}

/// A value that an included file gives cannot be changed here: the include would still say the old one, or lists
/// would be joined.
fn refuse_included(before: &ConfigFile, after: &Value) -> Result<(), ChangeError> {
    if before.source.files.len() < 2 {
        return Ok(());
    }
    let at = |path: &str, root: &Value| KeyPath::parse(path).ok().and_then(|path| path.get(root).cloned());
    let touched = changed_paths(&before.parsed, after);
    let foreign = |path: &String| at(path, &before.parsed).is_none() && at(path, &before.expanded).is_some();
    touched.into_iter().find(foreign).map_or(Ok(()), |path| Err(ChangeError::Included(path)))
}
