//! `config.plan`: what a change would do, without doing it.

use super::super::handle::{ConfigHandle, NewText};
use super::super::patch::merge_patch;
use super::super::plan::ConfigPlan;
use super::super::read::ConfigFile;
use super::super::redact::{restore, restore_text};
use super::super::syntax::parse;
use super::super::{ConfigSnapshot, ConfigSource, Issue};
use super::{ConfigRpcError, refused};
use serde_json::{Value, json};
use std::sync::Arc;

/// `config.plan {raw?, patch?}`: of a whole text (`raw`), of a merge patch on the file (`patch`: an object, or JSON5 of
/// one), or of the file as it is. Compares with what runs. What the reload would refuse gives `valid: false` and the very
/// same issues, not an error; `unresolved` are references to variables without a value, whoever needs them. `config.patch`
/// and `config.apply` need no `baseHash` here: nothing is written.
///
/// # Errors
/// Both or wrong parameters, hidden values that stand for nothing, a change in an included file.
pub fn plan(handle: &ConfigHandle, params: &Value, protocol: u8) -> Result<Value, ConfigRpcError> {
    let given = |key: &str| params.get(key).filter(|value| !value.is_null());
    let disk = handle.on_disk();
    let file = match (given("raw"), given("patch")) {
        (Some(_), Some(_)) => {
            return Err(ConfigRpcError::invalid("config.plan takes raw or patch, not both"));
        }
        (Some(Value::String(raw)), None) => whole(handle, &disk, raw, protocol)?,
        (Some(_), None) => {
            return Err(ConfigRpcError::invalid("config.plan raw must be a text: a whole configuration"));
        }
        // `config.patch` refuses it too: nothing can be merged into what is not understood.
        (None, Some(_)) if !disk.is_valid() => disk,
        (None, Some(patch)) => patched(handle, &disk, patch, protocol)?,
        (None, None) => disk,
    };
    Ok(answer(handle, &file))
}

fn patched(
    handle: &ConfigHandle,
    disk: &Arc<ConfigFile>,
    patch: &Value,
    protocol: u8,
) -> Result<Arc<ConfigFile>, ConfigRpcError> {
    let patch = match patch {
        Value::String(text) => parse(text)?.to_value(),
        other => other.clone(),
    };
    if !patch.is_object() {
        return Err(ConfigRpcError::invalid("config.plan patch must be an object, or a text that is one"));
    }
    let mut wanted = disk.parsed.clone();
    merge_patch(&mut wanted, &patch);
    restore(&mut wanted, &disk.parsed)?;
    let judged = handle.judged(disk, &NewText::Values(wanted));
    Ok(Arc::new(judged.map_err(|error| refused(error, protocol))?))
}

fn whole(
    handle: &ConfigHandle,
    disk: &Arc<ConfigFile>,
    raw: &str,
    protocol: u8,
) -> Result<Arc<ConfigFile>, ConfigRpcError> {
    // What cannot be parsed is told with its place, like everything else that is wrong with it.
    let restored = match parse(raw) {
        Ok(tree) => restore_text(raw, &tree, &disk.parsed)?,
        Err(_) => raw.to_owned(),
    };
    let judged = handle.judged(disk, &NewText::Whole(&restored));
    Ok(Arc::new(judged.map_err(|error| refused(error, protocol))?))
}

fn answer(handle: &ConfigHandle, file: &Arc<ConfigFile>) -> Value {
    let before = handle.current();
    let issues = handle.verdict(file).err().unwrap_or_default();
    let mut out = json!({
        "path": file.source.path, "valid": issues.is_empty(), "activeHash": before.hash(),
        "hash": file.source.hash, "issues": issues, "warnings": file.findings.warnings,
        "unresolved": unresolved(handle, file),
    });
    // A file that is gone would plan everything away.
    let gone = !file.source.exists && before.file.source.exists;
    let Ok(snapshot) = ConfigSnapshot::new(Arc::clone(file), ConfigSource::File) else { return out };
    if gone {
        return out;
    }
    let mode = snapshot.gateway.reload.mode;
    out["mode"] = json!(mode);
    let plan = ConfigPlan::of(&before, &snapshot, handle.paths()).to_value(mode);
    if let (Some(out), Value::Object(plan)) = (out.as_object_mut(), plan) {
        out.extend(plan);
    }
    out
}

/// References without a value, secrets with their remedy.
fn unresolved(handle: &ConfigHandle, file: &ConfigFile) -> Vec<Issue> {
    let mut found = file.missing_secrets(&handle.paths().state_dir);
    let rest = file.findings.missing_env.iter();
    found.extend(
        rest.filter(|issue| !found.iter().any(|told| told.path == issue.path)).cloned().collect::<Vec<_>>(),
    );
    found
}
