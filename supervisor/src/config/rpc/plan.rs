//! `config.plan`: what a change would do, without doing it.

use super::super::handle::{ConfigHandle, NewText};
use super::super::patch::merge_patch;
use super::super::plan::ConfigPlan;
use super::super::read::ConfigFile;
use super::super::redact::{restore, restore_text};
use super::super::syntax::parse;
use super::super::{ConfigSnapshot, ConfigSource};
use super::{ConfigRpcError, refused};
use serde_json::{Value, json};
use std::sync::Arc;

/// `config.plan {raw?, patch?}`: of a whole text, of a merge patch on the file, or of the file as it is. Compares with
/// what runs. An invalid text gives `valid: false` and its issues, not an error. `config.patch` and `config.apply` need
/// no `baseHash` here: nothing is written.
///
/// # Errors
/// Both or wrong parameters, hidden values that stand for nothing, a change in an included file.
pub fn plan(handle: &ConfigHandle, params: &Value, protocol: u8) -> Result<Value, ConfigRpcError> {
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    let disk = handle.on_disk();
    let file = match (text("raw"), text("patch")) {
        (Some(_), Some(_)) => {
            return Err(ConfigRpcError::invalid("config.plan takes raw or patch, not both"));
        }
        (Some(raw), None) => whole(handle, &disk, raw, protocol)?,
        (None, Some(patch)) => {
            let patch = parse(patch)?.to_value();
            let mut wanted = disk.parsed.clone();
            merge_patch(&mut wanted, &patch);
            restore(&mut wanted, &disk.parsed)?;
            let judged = handle.judged(&disk, &NewText::Values(wanted));
            Arc::new(judged.map_err(|error| refused(error, protocol))?)
        }
        (None, None) => disk,
    };
    Ok(answer(handle, &file))
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
    let mut out = json!({
        "path": file.source.path, "valid": true, "activeHash": before.hash(), "hash": file.source.hash,
        "issues": [], "warnings": file.findings.warnings,
    });
    let snapshot = match ConfigSnapshot::new(Arc::clone(file), ConfigSource::File) {
        Ok(snapshot) => snapshot,
        Err(issues) => {
            out["valid"] = json!(false);
            out["issues"] = json!(issues);
            return out;
        }
    };
    let refused = handle.refused_of(&before.file, file);
    out["valid"] = json!(refused.is_empty());
    out["issues"] = json!(refused);
    let mode = snapshot.gateway.reload.mode;
    out["mode"] = json!(mode);
    let plan = ConfigPlan::of(&before, &snapshot, handle.paths()).to_value(mode);
    if let (Some(out), Value::Object(plan)) = (out.as_object_mut(), plan) {
        out.extend(plan);
    }
    out
}
