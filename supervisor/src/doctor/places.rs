//! The state directory: its disk, the modes of what holds secrets, the journal, and what an earlier gateway left.

use super::{Finding, Severity};
use crate::config::ConfigDisk;
use crate::journal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Below this a busy day fills the disk.
const FREE_BYTES_LOW: u64 = 512 << 20;
/// Below this the journal is about to become read-only.
const FREE_BYTES_MIN: u64 = 32 << 20;
/// Files of one folder that are looked at; a larger folder says the same.
const FILES_MAX: usize = 1_000;
/// Folders whose files all hold secrets.
const SECRET_DIRS: [&str; 2] = ["identity", "devices"];

pub fn examine(disk: &ConfigDisk) -> Vec<Finding> {
    let state = &disk.paths.state_dir;
    if !state.is_dir() {
        let missing =
            Finding::new("state.missing", Severity::Warning, state.display(), "there is no state directory");
        return vec![missing.remedy("openclaw up")];
    }
    let mut found: Vec<Finding> = exposed(disk)
        .map(|(path, bits, wanted)| {
            let message = format!(
                "holds secrets and can be read or written by others (mode {bits:o}, should be {wanted:o})"
            );
            Finding::new("state.secret_mode", Severity::Warning, path.display(), message).fixable()
        })
        .collect();
    found.extend(file_system(state));
    found.extend(leftovers(state));
    found
}

/// What holds secrets and lets others in: path, mode bits, wanted mode.
fn exposed(disk: &ConfigDisk) -> impl Iterator<Item = (PathBuf, u32, u32)> {
    secrets(disk).into_iter().filter_map(|path| {
        let meta = fs::symlink_metadata(&path).ok()?;
        let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
        let bits = meta.permissions().mode() & 0o777;
        (!meta.is_symlink() && bits & !wanted != 0).then_some((path, bits, wanted))
    })
}

fn secrets(disk: &ConfigDisk) -> Vec<PathBuf> {
    let state = &disk.paths.state_dir;
    let mut paths = vec![state.join(".env"), state.join("service.env")];
    let folders = SECRET_DIRS.iter().map(|name| state.join(name));
    for folder in folders.chain([disk.paths.credentials_dir.clone()]) {
        paths.extend(entries(&folder));
        paths.push(folder);
    }
    paths.extend(entries(&state.join("agents")).map(|agent| agent.join("agent/auth-profiles.json")));
    let config = &disk.paths.config_file;
    if let (Some(dir), Some(name)) = (config.parent(), config.file_name()) {
        let backup = format!("{}.bak", name.to_string_lossy());
        let is_backup =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&backup));
        paths.extend(entries(dir).filter(is_backup));
    }
    paths
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(FILES_MAX)
}

pub fn mend_modes(disk: &ConfigDisk, done: &mut Vec<String>) {
    for (path, bits, wanted) in exposed(disk) {
        let kept = bits & wanted;
        done.push(match fs::set_permissions(&path, fs::Permissions::from_mode(kept)) {
            Ok(()) => format!("Set mode of {} to {kept:o}", path.display()),
            Err(error) => format!("Set mode of {} failed: {error}", path.display()),
        });
    }
}

fn file_system(state: &Path) -> Vec<Finding> {
    let place = state.display();
    let mut found = Vec::new();
    match journal::disk::check(state, false) {
        Ok(None) => {}
        Ok(Some(warning)) => {
            let doubtful = Finding::new("disk.doubtful", Severity::Warning, place.to_string(), warning);
            found.push(doubtful.remedy("move it to a local disk (OPENCLAW_STATE_DIR)"));
        }
        Err(error) => {
            let unsafe_fs =
                Finding::new("disk.unsafe", Severity::Error, place.to_string(), error.to_string());
            found.push(unsafe_fs.remedy("move it to a local disk (OPENCLAW_STATE_DIR)"));
        }
    }
    let Ok(stat) = rustix::fs::statvfs(state) else { return found };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let severity = match free {
        0..FREE_BYTES_MIN => Severity::Error,
        FREE_BYTES_MIN..FREE_BYTES_LOW => Severity::Warning,
        _ => return found,
    };
    let message = format!("only {} MiB are free on its disk", free >> 20);
    found.push(Finding::new("disk.full", severity, place, message).remedy("make room on the disk"));
    found
}

/// Written by an earlier gateway; kept as they are, so that it can still open its files.
fn leftovers(state: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let queue = state.join("delivery-queue");
    let waiting =
        entries(&queue).filter(|path| path.extension().is_some_and(|extension| extension == "json")).count();
    if waiting > 0 {
        let message = format!(
            "{waiting} replies that an earlier gateway did not send; they are listed as dead letters and not sent"
        );
        let leftover = Finding::new("leftover.delivery_queue", Severity::Note, queue.display(), message);
        found.push(leftover.remedy("remove the files once nobody needs them"));
    }
    let jobs = state.join("cron/jobs.json");
    if jobs.exists() {
        let message = "scheduled jobs are not built yet: none of these runs";
        let idle = Finding::new("leftover.cron", Severity::Warning, jobs.display(), message);
        found.push(idle.remedy("remove the file if nobody needs it; it is not changed otherwise"));
    }
    found
}

/// The journal of a stopped gateway.
pub fn journal(disk: &ConfigDisk) -> Option<Finding> {
    let dir = disk.paths.state_dir.join("journal");
    let why = journal::inspect::fault(&dir)?;
    let place = dir.join("journal.db");
    let damaged = Finding::new("journal.damaged", Severity::Error, place.display(), why);
    Some(damaged.remedy("restore journal.db from a backup, or move it away to begin with an empty one"))
}
