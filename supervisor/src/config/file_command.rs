//! `openclaw config get|set|unset|validate|file` while no gateway need run: a path and a value in, lines for people out.
//!
//! Not here: arguments, printing, exit codes, and the instance lock that a write needs.

use super::disk::{Allow, ChangeError, ConfigDisk, NewText};
use super::issue::Issue;
use super::key_path::{KeyPath, PathError};
use super::reach::{Reach, reach};
use super::read::ConfigFile;
use super::redact::{SENTINEL, redact};
use super::syntax::parse;
use super::verdict;
use super::worker_check::WorkerPrograms;
use crate::paths::Paths;
use serde_json::{Value, json};
use std::sync::Arc;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum FileCommandError {
    #[error("Config path not found: {0}")]
    NotFound(String),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("Failed to parse JSON5 value: SyntaxError: {0}")]
    Value(super::syntax::SyntaxError),
    /// The file as it stands cannot be read; the text says why in full.
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Change(String),
    /// Somebody else wrote between reading and writing; the same change may be made to the new file.
    #[error("{}", super::rpc::CHANGED_MEANWHILE)]
    Stale,
}

/// `config get`: from the redacted configuration with defaults.
///
/// # Errors
/// A malformed path, or nothing there.
pub fn get(file: &ConfigFile, path: &str) -> Result<Value, FileCommandError> {
    let path_text = path.trim();
    let path = KeyPath::parse(path_text)?;
    let config = redact(&file.with_defaults());
    path.get(&config).cloned().ok_or_else(|| FileCommandError::NotFound(path_text.to_owned()))
}

/// How a value is printed: scalars bare, the rest as JSON.
#[must_use]
pub fn shown(value: &Value, as_json: bool) -> String {
    match value {
        Value::String(text) if !as_json => text.clone(),
        Value::Object(_) | Value::Array(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Where a changed file goes: the disk while no gateway runs, else the running gateway.
pub trait Target {
    /// The file, and what changes of it would become.
    fn disk(&self) -> &ConfigDisk;

    /// Puts `wanted` in the place of `before`.
    ///
    /// # Errors
    /// Validation, disk, or the gateway's refusal.
    fn write(&mut self, before: &ConfigFile, wanted: Value) -> Result<(), FileCommandError>;
}

/// No gateway runs; the instance lock keeps it so.
pub struct Stopped<'a> {
    pub disk: &'a ConfigDisk,
    pub now_ms: i64,
}

impl Target for Stopped<'_> {
    fn disk(&self) -> &ConfigDisk {
        self.disk
    }

    fn write(&mut self, before: &ConfigFile, wanted: Value) -> Result<(), FileCommandError> {
        let allow = Allow { loss: true, repair: true };
        self.disk.change(before, NewText::Values(wanted), allow, self.now_ms).map(drop).map_err(failed)
    }
}

/// `config set`: JSON5 where it parses, else text; a number given for a text key stays text. Validated before writing.
///
/// # Errors
/// Path, value, validation, disk.
pub fn set(
    target: &mut impl Target,
    path: &str,
    value: &str,
    strict: bool,
) -> Result<String, FileCommandError> {
    let path = KeyPath::parse(path)?;
    let value = match parse(value) {
        Ok(tree) => tree.to_value(),
        Err(error) if strict => return Err(FileCommandError::Value(error)),
        Err(_) => Value::from(value),
    };
    if value.to_string().contains(SENTINEL) {
        let text = format!("Sentinel value \"{SENTINEL}\" in key {path} is not valid as real data");
        return Err(FileCommandError::Invalid(text));
    }
    let before = target.disk().read();
    let authored = authored(&before)?;
    let with = |value: Value| {
        let mut wanted = authored.clone();
        path.set(&mut wanted, value).map(|()| wanted)
    };
    let mut wanted = with(value.clone())?;
    if !strict && !value.is_string() && !value.is_object() && !value.is_array() {
        let as_text = with(Value::from(value.to_string()))?;
        if issues_of(target.disk(), &before, &as_text) < issues_of(target.disk(), &before, &wanted) {
            wanted = as_text;
        }
    }
    target.write(&before, wanted)?;
    Ok(format!("Updated {path}.{}", restart_hint(&path)))
}

fn issues_of(disk: &ConfigDisk, before: &ConfigFile, wanted: &Value) -> usize {
    let judged = disk.judged(before, &NewText::Values(wanted.clone()));
    judged.map_or(usize::MAX, |file| file.findings.issues.len())
}

/// `config unset`: objects that become empty go too.
///
/// # Errors
/// Path, nothing there, validation, disk.
pub fn unset(target: &mut impl Target, path: &str) -> Result<String, FileCommandError> {
    let text = path.trim();
    let path = KeyPath::parse(text)?;
    let before = target.disk().read();
    let mut wanted = authored(&before)?;
    if !path.remove(&mut wanted) {
        return Err(FileCommandError::NotFound(text.to_owned()));
    }
    target.write(&before, wanted)?;
    Ok(format!("Removed {path}.{}", restart_hint(&path)))
}

/// The file's own values; a file that is not JSON5 cannot be changed by key.
fn authored(before: &ConfigFile) -> Result<Value, FileCommandError> {
    if before.parsed.is_object() {
        return Ok(before.parsed.clone());
    }
    Err(FileCommandError::Unreadable(super::advice::invalid_for_commands(
        &before.source.path,
        &before.findings.issues,
    )))
}

/// A running gateway applies most keys by itself.
fn restart_hint(path: &KeyPath) -> &'static str {
    if reach(&path.to_string()) == Reach::Restart { " Restart the gateway to apply." } else { "" }
}

/// A refused change in the words of the commands.
#[must_use]
pub fn failed(error: ChangeError) -> FileCommandError {
    match error {
        ChangeError::Invalid(issues) => FileCommandError::Invalid(validation_failures(&issues)),
        other => FileCommandError::Change(other.to_string()),
    }
}

/// Everything that is wrong with a change, the first thing at length.
#[must_use]
pub fn validation_failures(issues: &[Issue]) -> String {
    let Some((first, others)) = issues.split_first() else { return "Config validation failed".to_owned() };
    let others = others.iter().map(|issue| format!("\nand {issue}"));
    std::iter::once(validation_failure(first)).chain(others).collect()
}

/// `Config validation failed: <path>: <message>`; an open door without a list gets both ways out, ready to paste.
fn validation_failure(issue: &Issue) -> String {
    let policy = issue.message.split_once("=\"open\" requires ").map(|(policy, _)| policy);
    let list =
        policy.and_then(|policy| policy.rsplit_once('.')).map(|(account, _)| format!("{account}.allowFrom"));
    let (Some(policy), Some(list)) = (policy, list) else {
        let hint = issue.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        return format!("Config validation failed: {}: {}{hint}", issue.shown_path(), issue.message);
    };
    [
        format!("Config validation failed: {}", issue.shown_path()),
        format!("Configuration mismatch: {policy} is \"open\", but {list} does not include \"*\"."),
        "Fix with:".to_owned(),
        format!("  openclaw config set {list} '[\"*\"]'"),
        "Or switch policy:".to_owned(),
        format!("  openclaw config set {policy} \"pairing\""),
    ]
    .join("\n")
}

/// `config validate` while no gateway runs: what the reload would refuse, and every reference without a value, which a
/// running gateway only warns of where no secret hangs on it.
#[must_use]
pub fn validation_issues(file: &Arc<ConfigFile>, paths: &Paths, programs: &WorkerPrograms) -> Vec<Issue> {
    let mut issues = if file.source.exists { verdict::alone(file, paths, programs) } else { Vec::new() };
    add_unresolved(&mut issues, file.findings.missing_env.clone());
    issues
}

/// References without a value count as errors where nothing else is said of their place.
pub fn add_unresolved(issues: &mut Vec<Issue>, unresolved: Vec<Issue>) {
    for missing in unresolved {
        if !issues.iter().any(|issue| issue.path == missing.path) {
            issues.push(missing);
        }
    }
}

/// `config validate --json`.
#[must_use]
pub fn validation_json(file: &ConfigFile, issues: &[Issue]) -> Value {
    if issues.is_empty() {
        return json!({"valid": true, "path": file.source.path, "warnings": file.findings.warnings,
            "knownNotBuilt": file.findings.unbuilt});
    }
    let message = issues.first().map(ToString::to_string).unwrap_or_default();
    json!({"ok": false, "error": {"type": "config_invalid", "message": message}, "valid": false,
        "path": file.source.path, "issues": issues})
}

#[cfg(test)]
mod tests;
