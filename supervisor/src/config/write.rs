//! Putting a new text in the place of the configuration file, so that no crash leaves half of it: temporary file,
//! fsync, rename, fsync of the directory; five backups; one audit line.
//!
//! Not here: whether the text is right.

use super::read::sha256_hex;
use crate::paths::Paths;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Only the owner may read what holds secrets.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// `.bak` and `.bak.1` to `.bak.4`.
const BACKUPS_MAX: usize = 5;
/// A file smaller than this may shrink as it likes.
const SHRINK_CHECK_BYTES_MIN: usize = 512;
/// Words of a command line kept in the audit line.
const AUDIT_ARGS_MAX: usize = 8;

/// One write.
pub struct WriteRequest<'a> {
    pub path: &'a Path,
    /// What the file holds now; `None` when it does not exist.
    pub before: Option<&'a str>,
    pub after: &'a str,
    pub paths_changed: usize,
    /// Let through what looks like an accident (a file that halves, `gateway.mode` that vanishes).
    pub allow_loss: bool,
    pub audit_file: &'a Path,
    /// Wall clock, for file names and the audit line.
    pub now_ms: i64,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub hash: String,
    /// Reasons to look twice; empty is usual.
    pub anomalies: Vec<String>,
    /// Lines for the log.
    pub log: Vec<String>,
}

#[derive(Debug, Error)]
pub enum WriteError {
    #[error("Config write anomaly: {path} ({reasons}); the refused text is kept in {kept}")]
    Anomaly { path: PathBuf, reasons: String, kept: PathBuf },
    #[error("failed to write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Replaces the file.
///
/// # Errors
/// A loss that nobody allowed, or the disk's refusal; the old file is whole in both cases.
pub fn write(request: &WriteRequest<'_>) -> Result<Written, WriteError> {
    let target = fs::canonicalize(request.path).unwrap_or_else(|_| request.path.to_path_buf());
    let io_error = |source| WriteError::Io { path: target.clone(), source };
    let anomalies = anomalies(request.before, request.after);
    let blocking = anomalies.iter().any(|reason| !reason.starts_with("missing-meta"));
    if blocking && !request.allow_loss {
        let kept = suffixed(&target, &format!(".rejected.{}", request.now_ms));
        create_dir(&target).and_then(|()| put_new(&kept, request.after)).map_err(io_error)?;
        let reasons = anomalies.join(", ");
        audit(request, &anomalies, "failed", Some("anomaly"));
        return Err(WriteError::Anomaly { path: request.path.to_path_buf(), reasons, kept });
    }
    let outcome = replace(request, &target);
    let result = match &outcome {
        Ok(renamed) => {
            if *renamed {
                "rename"
            } else {
                "copy-fallback"
            }
        }
        Err(_) => "failed",
    };
    audit(request, &anomalies, result, outcome.as_ref().err().map(ToString::to_string).as_deref());
    outcome.map_err(io_error)?;
    let hash = sha256_hex(request.after.as_bytes());
    Ok(Written { log: log_lines(request, &hash, &anomalies), hash, anomalies })
}

fn log_lines(request: &WriteRequest<'_>, hash: &str, anomalies: &[String]) -> Vec<String> {
    let path = request.path.display();
    let mut lines = Vec::new();
    if let Some(before) = request.before {
        let old = sha256_hex(before.as_bytes());
        let changed = request.paths_changed;
        lines.push(format!(
            "Config overwrite: {path} (sha256 {old} -> {hash}, backup={path}.bak, changedPaths={changed})"
        ));
    }
    if !anomalies.is_empty() {
        lines.push(format!("Config write anomaly: {path} ({})", anomalies.join(", ")));
    }
    lines
}

/// True when renamed, false when the file had to be written over (a single file mounted into a container).
fn replace(request: &WriteRequest<'_>, target: &Path) -> io::Result<bool> {
    create_dir(target)?;
    let id = uuid::Uuid::new_v4();
    let temporary = suffixed(target, &format!(".{}.{id}.tmp", std::process::id()));
    put_new(&temporary, request.after)?;
    keep_owner(&temporary, target);
    proto::runtime::failpoint::hit("sv.cfg.tmp_written");
    let done = rotate_backups(target).and_then(|()| fs::rename(&temporary, target));
    let renamed = match done {
        Ok(()) => true,
        Err(_) => {
            let copied = overwrite(target, request.after);
            let _ = fs::remove_file(&temporary);
            copied?;
            false
        }
    };
    proto::runtime::failpoint::hit("sv.cfg.renamed");
    sync_dir(target)?;
    Ok(renamed)
}

fn create_dir(target: &Path) -> io::Result<()> {
    let Some(dir) = target.parent() else { return Ok(()) };
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// A new private file with its content on disk.
///
/// # Errors
/// The disk's refusal, or a file of that name.
pub fn put_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// What root writes in another user's place stays that user's, whose gateway has to read it: the owner of the file that is
/// replaced, or of its directory.
fn keep_owner(new: &Path, target: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let like = fs::metadata(target).ok().or_else(|| fs::metadata(target.parent()?).ok());
    if let Some(like) = like
        && let Err(error) = std::os::unix::fs::chown(new, Some(like.uid()), Some(like.gid()))
    {
        tracing::warn!(file = %target.display(), %error, "the file's owner is not kept");
    }
}

/// Replaces a private file that is not the configuration itself (last good, sentinel).
///
/// # Errors
/// The disk's refusal.
pub fn put_private(path: &Path, text: &str) -> io::Result<()> {
    create_dir(path)?;
    let temporary = suffixed(path, &format!(".{}.{}.tmp", std::process::id(), uuid::Uuid::new_v4()));
    put_new(&temporary, text)?;
    keep_owner(&temporary, path);
    fs::rename(&temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    sync_dir(path)
}

/// Removes what writes of ours left when their process was killed between the temporary file and its rename:
/// `<name>.<pid>.<uuid>.tmp` beside the configuration, in its store and beside the restart note. Nobody else may be writing.
pub fn sweep_unfinished(paths: &Paths) {
    let config = fs::canonicalize(&paths.config_file).unwrap_or_else(|_| paths.config_file.clone());
    let store = paths.config_store_dir();
    let kept = ["history", "rejected"].map(|below| store.join(below));
    let notes = [config, paths.restart_sentinel()];
    let dirs = notes.iter().filter_map(|file| file.parent()).map(Path::to_path_buf);
    let dirs: BTreeSet<PathBuf> = dirs.chain([store]).chain(kept).collect();
    for entry in dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_unfinished) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "removed what a killed write left"),
            Err(error) => tracing::warn!(file = %entry.path().display(), %error, "not removed"),
        }
    }
}

fn is_unfinished(name: &str) -> bool {
    let mut parts = name.strip_suffix(".tmp").unwrap_or_default().rsplitn(3, '.');
    let uuid = parts.next().is_some_and(|id| uuid::Uuid::try_parse(id).is_ok());
    let pid = parts.next().is_some_and(|pid| pid.parse::<u32>().is_ok());
    uuid && pid && parts.next().is_some_and(|file| !file.is_empty())
}

fn overwrite(target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(target)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    file.sync_all()
}

fn sync_dir(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Newest is `.bak`; the oldest falls off.
fn rotate_backups(target: &Path) -> io::Result<()> {
    if !target.exists() {
        return Ok(());
    }
    let name = |index: usize| match index {
        0 => suffixed(target, ".bak"),
        index => suffixed(target, &format!(".bak.{index}")),
    };
    for index in (1..BACKUPS_MAX).rev() {
        match fs::rename(name(index - 1), name(index)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    put_new(&name(0), &fs::read_to_string(target)?)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn value_of(text: &str) -> Value {
    super::syntax::parse(text).map(|tree| tree.to_value()).unwrap_or(Value::Null)
}

fn mode_of(config: &Value) -> Option<&str> {
    config.pointer("/gateway/mode").and_then(Value::as_str)
}

/// Signs that a tool is about to lose something.
fn anomalies(before: Option<&str>, after: &str) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let (old, new) = (value_of(before), value_of(after));
    let mut found = Vec::new();
    if before.len() >= SHRINK_CHECK_BYTES_MIN && after.len() * 2 < before.len() {
        found.push(format!("size-drop:{}->{}", before.len(), after.len()));
    }
    if old.get("meta").is_none() && old.as_object().is_some_and(|map| !map.is_empty()) {
        found.push("missing-meta-before-write".to_owned());
    }
    if mode_of(&old).is_some() && mode_of(&new).is_none() {
        found.push("gateway-mode-removed".to_owned());
    }
    found
}

/// One line of JSON per write. A failure to write it must not undo the write itself.
fn audit(request: &WriteRequest<'_>, anomalies: &[String], result: &str, error: Option<&str>) {
    let old = request.before.map(value_of).unwrap_or(Value::Null);
    let new = value_of(request.after);
    let hash = |text: &str| sha256_hex(text.as_bytes());
    let mut line = json!({
        "ts": iso_time(request.now_ms),
        "source": "config-io",
        "event": "config.write",
        "configPath": request.path,
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "cwd": std::env::current_dir().ok(),
        "argv": audited_args(std::env::args()),
        "existsBefore": request.before.is_some(),
        "previousHash": request.before.map(hash),
        "nextHash": hash(request.after),
        "previousBytes": request.before.map(str::len),
        "nextBytes": request.after.len(),
        "changedPathCount": request.paths_changed,
        "hasMetaBefore": old.get("meta").is_some(),
        "hasMetaAfter": new.get("meta").is_some(),
        "gatewayModeBefore": mode_of(&old),
        "gatewayModeAfter": mode_of(&new),
        "suspicious": anomalies,
        "result": result,
    });
    if let (Some(error), Some(map)) = (error, line.as_object_mut()) {
        map.insert("errorMessage".to_owned(), Value::from(error));
    }
    let append = || -> io::Result<()> {
        create_dir(request.audit_file)?;
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(FILE_MODE).open(request.audit_file)?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    if let Err(error) = append() {
        tracing::warn!("config audit line was not written: {error}");
    }
}

/// A command line may carry secrets: the value of `config set` and of secret flags is left out.
fn audited_args(args: impl Iterator<Item = String>) -> Vec<String> {
    let args: Vec<String> = args.take(AUDIT_ARGS_MAX).collect();
    let set = args.iter().position(|arg| arg == "set");
    let secret_flag = |arg: &String| ["--token", "--password"].contains(&arg.as_str());
    let masked = args.iter().enumerate().map(|(index, arg)| {
        let after_flag = index > 0 && args.get(index - 1).is_some_and(secret_flag);
        let joined = arg.starts_with("--token=") || arg.starts_with("--password=");
        if after_flag || joined || set.is_some_and(|set| index > set + 1 && !arg.starts_with("--")) {
            super::redact::SENTINEL.to_owned()
        } else {
            arg.clone()
        }
    });
    masked.collect()
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn iso_time(now_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(now_ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
