//! `config.get`, `set`, `patch`, `apply`, `schema`, `schema.lookup`: parameters in, an answer or a refusal with its
//! exact text out.
//!
//! Not here: who may call (scopes), how often ([`super::write_limit`]), and the restart itself: a write says that one
//! is needed, the caller asks for it and puts the `restart` object into the answer. These functions block on the disk.

mod plan;

use super::gateway::ReloadMode;
use super::handle::{Allow, ChangeError, Changed, ConfigHandle, NewText};
use super::issue::Issue;
use super::patch::{merge_patch, summary};
use super::plan::{ConfigPlan, Decision};
use super::reach::{Reach, reach};
use super::read::ConfigFile;
use super::redact::{SentinelError, redact, redact_text, restore, restore_text};
use super::restart::RestartRequest;
use super::schema;
use super::syntax::{Kind, Node, SyntaxError, parse};
use super::write::put_private;
use super::write_limit::{Limited, Writer};
use super::{ConfigSnapshot, ConfigSource};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use thiserror::Error;

/// A write whose base is no longer the file. Whoever can, reads again and repeats.
pub const CHANGED_MEANWHILE: &str = "config changed since last load; re-run config.get and retry";

/// A refusal as the wire carries it.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{message}")]
pub struct ConfigRpcError {
    /// `INVALID_REQUEST` or `UNAVAILABLE`.
    pub code: &'static str,
    pub message: String,
    pub details: Option<Box<Value>>,
    pub retry_after_ms: Option<i64>,
}

impl ConfigRpcError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { code: "INVALID_REQUEST", message: message.into(), details: None, retry_after_ms: None }
    }

    /// The later protocol names the first issue in the message, the earlier only in the details.
    fn issues(issues: &[Issue], protocol: u8) -> Self {
        let message = match issues.first() {
            Some(first) if protocol >= 4 => {
                format!("invalid config: {}: {}", first.shown_path(), first.message)
            }
            _ => "invalid config".to_owned(),
        };
        Self { details: Some(Box::new(json!({ "issues": issues }))), ..Self::invalid(message) }
    }

    /// Too many writes.
    #[must_use]
    pub fn limited(method: &str, limited: &Limited) -> Self {
        let seconds = (limited.retry_after_ms + 999) / 1_000;
        Self {
            code: "UNAVAILABLE",
            message: format!("rate limit exceeded for {method}; retry after {seconds}s"),
            details: Some(Box::new(json!({"method": method, "limit": limited.limit}))),
            retry_after_ms: Some(limited.retry_after_ms),
        }
    }
}

impl From<SentinelError> for ConfigRpcError {
    fn from(error: SentinelError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SyntaxError> for ConfigRpcError {
    fn from(error: SyntaxError) -> Self {
        Self::invalid(format!("SyntaxError: {error}"))
    }
}

/// An answer, and whether the gateway must restart for it to take effect.
#[derive(Clone, Debug)]
pub struct ConfigReply {
    pub payload: Value,
    /// Put the resulting object under `restart` (it is `null` in the payload until then).
    pub restart: Option<RestartRequest>,
    /// For the log.
    pub log: Option<String>,
    /// Payload of the event `config.changed` but its time, when something was written.
    pub event: Option<Value>,
}

/// `config.get`: the file as it is now, secrets hidden.
#[must_use]
pub fn get(handle: &ConfigHandle) -> Value {
    let file = handle.on_disk();
    let valid = file.is_valid();
    // The gateway runs with what a worker refuses, so a client must be able to read and mend it.
    let refused = if valid && file.source.hash == handle.current().hash() {
        handle.refused_by_workers()
    } else {
        Vec::new()
    };
    let shown = |value: &Value| if valid { redact(value) } else { json!({}) };
    let tree = file.source.raw.as_deref().filter(|_| valid).and_then(|raw| Some((raw, parse(raw).ok()?)));
    let mut out = json!({
        "path": file.source.path,
        "exists": file.source.exists,
        "raw": tree.map(|(raw, tree)| redact_text(raw, &tree)),
        "parsed": if valid { redact(&file.parsed) } else { Value::Null },
        "resolved": shown(&file.resolved),
        "valid": valid,
        "config": if valid { redact(&file.with_defaults()) } else { json!({}) },
        "hash": file.source.hash,
        "issues": file.findings.issues,
        "warnings": file.findings.warnings.iter().chain(&refused).collect::<Vec<_>>(),
        "legacyIssues": file.findings.legacy,
    });
    if let Some(map) = out.as_object_mut() {
        map.insert("knownNotBuilt".to_owned(), json!(file.findings.unbuilt));
        map.insert("active".to_owned(), json!(handle.state()));
        map.insert("includedPaths".to_owned(), json!(file.source.files.get(1..).unwrap_or(&[])));
    }
    out
}

/// `config.schema`.
#[must_use]
pub fn schema(handle: &ConfigHandle, now_ms: i64) -> Value {
    schema_document(&handle.schema_parts(), now_ms)
}

/// The same from the workers' parts alone, for a command without a gateway.
#[must_use]
pub fn schema_document(parts: &[(String, Value)], now_ms: i64) -> Value {
    schema::document(parts, &super::write::iso_time(now_ms))
}

/// `config.schema.lookup {path}`.
///
/// # Errors
/// No path, or one that the schema does not have.
pub fn schema_lookup(handle: &ConfigHandle, params: &Value) -> Result<Value, ConfigRpcError> {
    let path = params.get("path").and_then(Value::as_str).map(str::trim);
    let Some(path) = path else {
        return Err(ConfigRpcError::invalid("invalid config.schema.lookup params: path (string) required"));
    };
    schema::lookup(&handle.schema_parts(), path)
        .ok_or_else(|| ConfigRpcError::invalid(format!("config schema path not found: {path}")))
}

/// `config.set {raw, baseHash, repair?}`: a whole new text. No restart is asked for. `repair` is what a person's edit of
/// one key may do: make the file much smaller, and leave an invalid file invalid with fewer issues.
///
/// # Errors
/// Every refusal of a write.
pub fn set(
    handle: &ConfigHandle,
    params: &Value,
    writer: &Writer,
    now_ms: i64,
) -> Result<ConfigReply, ConfigRpcError> {
    let _one_writer = handle.lock();
    let before = handle.on_disk();
    let repair = params.get("repair").and_then(Value::as_bool).unwrap_or(false);
    let allow = Allow { loss: repair, repair };
    let changed = replace_whole(handle, "config.set", params, &before, allow, (writer, now_ms))?;
    Ok(reply(&changed, "config.set", writer))
}

/// `config.apply {raw, baseHash, sessionKey?, note?, restartDelayMs?}`: like set, with a restart.
///
/// # Errors
/// Every refusal of a write.
pub fn apply(
    handle: &ConfigHandle,
    params: &Value,
    writer: &Writer,
    now_ms: i64,
) -> Result<ConfigReply, ConfigRpcError> {
    let _one_writer = handle.lock();
    let before = handle.on_disk();
    let changed = replace_whole(handle, "config.apply", params, &before, Allow::default(), (writer, now_ms))?;
    Ok(with_restart(handle, &changed, "config.apply", params, (writer, now_ms)))
}

/// `config.patch {raw, baseHash, …}`: a merge patch in JSON5, with a restart.
///
/// # Errors
/// Every refusal of a write.
pub fn patch(
    handle: &ConfigHandle,
    params: &Value,
    writer: &Writer,
    now_ms: i64,
) -> Result<ConfigReply, ConfigRpcError> {
    let _one_writer = handle.lock();
    let before = handle.on_disk();
    let raw = raw_param("config.patch", params)?;
    check_base_hash(&before, params)?;
    if !before.is_valid() {
        return Err(ConfigRpcError::invalid("invalid config; fix before patching"));
    }
    let patch = parse(raw)?.to_value();
    if !patch.is_object() {
        return Err(ConfigRpcError::invalid("config.patch raw must be an object"));
    }
    let mut wanted = before.parsed.clone();
    merge_patch(&mut wanted, &patch);
    restore(&mut wanted, &before.parsed)?;
    let changed = handle
        .change(&before, NewText::Values(wanted), Allow { loss: true, repair: false }, now_ms)
        .map_err(|error| refused(error, writer.protocol))?;
    Ok(with_restart(handle, &changed, "config.patch", params, (writer, now_ms)))
}

fn raw_param<'a>(method: &str, params: &'a Value) -> Result<&'a str, ConfigRpcError> {
    params
        .get("raw")
        .and_then(Value::as_str)
        .ok_or_else(|| ConfigRpcError::invalid(format!("invalid {method} params: raw (string) required")))
}

/// Writes are refused when the file is not the one that the client saw.
fn check_base_hash(before: &ConfigFile, params: &Value) -> Result<(), ConfigRpcError> {
    if !before.source.exists {
        return Ok(());
    }
    if before.source.hash.is_empty() {
        return Err(ConfigRpcError::invalid("config base hash unavailable; re-run config.get and retry"));
    }
    let base = params.get("baseHash").and_then(Value::as_str).map(str::trim).filter(|hash| !hash.is_empty());
    match base {
        None => Err(ConfigRpcError::invalid("config base hash required; re-run config.get and retry")),
        Some(hash) if hash != before.source.hash => Err(ConfigRpcError::invalid(CHANGED_MEANWHILE)),
        Some(_) => Ok(()),
    }
}

fn replace_whole(
    handle: &ConfigHandle,
    method: &str,
    params: &Value,
    before: &ConfigFile,
    allow: Allow,
    (writer, now_ms): (&Writer, i64),
) -> Result<Changed, ConfigRpcError> {
    let raw = raw_param(method, params)?;
    check_base_hash(before, params)?;
    let tree: Node = parse(raw)?;
    if !matches!(tree.kind, Kind::Object(_)) {
        return Err(ConfigRpcError::invalid(format!("{method} raw must be an object")));
    }
    let text = restore_text(raw, &tree, &before.parsed)?;
    handle
        .change(before, NewText::Whole(&text), allow, now_ms)
        .map_err(|error| refused(error, writer.protocol))
}

fn refused(error: ChangeError, protocol: u8) -> ConfigRpcError {
    match error {
        ChangeError::Invalid(issues) => ConfigRpcError::issues(&issues, protocol),
        ChangeError::Included(_) | ChangeError::Write(super::write::WriteError::Anomaly { .. }) => {
            ConfigRpcError::invalid(error.to_string())
        }
        ChangeError::Write(_) => {
            ConfigRpcError { code: "UNAVAILABLE", ..ConfigRpcError::invalid(error.to_string()) }
        }
    }
}

fn reply(changed: &Changed, method: &str, writer: &Writer) -> ConfigReply {
    let file = &changed.file;
    let log = changed.written.as_ref().map(|_| {
        format!(
            "{method} write actor={} device={} ip={} conn={} changedPaths={} restartReason={method}",
            writer.client_id,
            writer.device_id.as_deref().unwrap_or("unknown-device"),
            writer.ip.as_deref().unwrap_or("unknown-ip"),
            writer.connection,
            summary(&changed.paths),
        )
    });
    let mut payload = json!({"ok": true, "path": file.source.path});
    if writer.protocol >= 4 {
        payload["hash"] = json!(file.source.hash);
    }
    payload["config"] = redact(&file.with_defaults());
    let event = changed.written.as_ref().map(|_| json!({"path": file.source.path, "hash": file.source.hash}));
    ConfigReply { payload, restart: None, log, event }
}

/// What apply and patch answer: as set and more, and the note that the next start turns into a message.
fn with_restart(
    handle: &ConfigHandle,
    changed: &Changed,
    method: &str,
    params: &Value,
    (writer, now_ms): (&Writer, i64),
) -> ConfigReply {
    let mut reply = reply(changed, method, writer);
    let plan = planned(handle, &changed.file);
    let needed = match &plan {
        Some((plan, mode)) => {
            reply.payload["plan"] = plan.to_value(*mode);
            // Without a restart these would not take effect, and who applies a configuration wants it to.
            matches!(plan.decide(*mode), Decision::Restart | Decision::ApplyHot | Decision::Wait)
        }
        None => changed.paths.iter().any(|path| reach(path) != Reach::None),
    };
    let needed = needed && changed.written.is_some();
    let mut sentinel = sentinel(handle, method, params, needed, now_ms);
    if writer.protocol >= 4 {
        reply.payload["changedPaths"] = json!(changed.paths);
    } else if let Some(map) = sentinel.as_object_mut() {
        map.shift_remove("persisted");
    }
    reply.payload["restart"] = Value::Null;
    reply.payload["sentinel"] = sentinel;
    if needed {
        handle.restart_planned(&changed.file);
        let delay_ms = params.get("restartDelayMs").and_then(Value::as_i64);
        reply.restart = Some(RestartRequest { delay_ms, reason: method.to_owned() });
    }
    reply
}

/// What a file does to the gateway that runs, and the mode that it asks for.
fn planned(handle: &ConfigHandle, file: &Arc<ConfigFile>) -> Option<(ConfigPlan, ReloadMode)> {
    let after = ConfigSnapshot::new(Arc::clone(file), ConfigSource::File).ok()?;
    let mode = after.gateway.reload.mode;
    Some((ConfigPlan::of(&handle.current(), &after, handle.paths()), mode))
}

fn sentinel(handle: &ConfigHandle, method: &str, params: &Value, needed: bool, now_ms: i64) -> Value {
    let text =
        |key: &str| params.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let mut payload = Map::new();
    payload.insert("kind".to_owned(), json!(method.replace('.', "-")));
    payload.insert("status".to_owned(), json!("ok"));
    payload.insert("ts".to_owned(), json!(now_ms));
    if let Some(key) = text("sessionKey") {
        payload.insert("sessionKey".to_owned(), json!(key));
    }
    payload.insert("message".to_owned(), json!(text("note")));
    payload.insert("doctorHint".to_owned(), json!("Run: openclaw doctor --non-interactive"));
    payload.insert(
        "stats".to_owned(),
        json!({"mode": method, "root": handle.paths().config_file, "requiresRestart": needed}),
    );
    let path = handle.paths().restart_sentinel();
    let document = json!({"version": 1, "payload": payload});
    let persisted = needed
        && put_private(&path, &document.to_string())
            .inspect_err(|error| tracing::warn!("restart sentinel was not written: {error}"))
            .is_ok();
    json!({"path": path, "persisted": persisted, "payload": payload})
}

pub use plan::plan;

#[cfg(test)]
mod tests;
