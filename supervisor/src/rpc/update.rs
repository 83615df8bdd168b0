//! `update.run`: brings a new release in and goes on with it in place.

use super::config::{refusal, writer};
use super::params::Params;
use super::{Answer, RpcError};
use crate::config::rpc::ConfigRpcError;
use crate::front::caller::Caller;
use crate::gateway::{Handles, sentinel};
use crate::scheduler::shared::now_ms;
use crate::update::place::Place;
use crate::update::{COMMAND_WITHIN, Origin, Outcome, Status, Wish, run};
use crate::upgrade::{image, preflight};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Shortest time limit of a command that makes sense.
const TIMEOUT_MS_MIN: u64 = 1000;

/// One update at a time, from its first step until its restart is planned.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

struct UnderWay;

impl UnderWay {
    fn begin() -> Result<Self, RpcError> {
        match UNDER_WAY.swap(true, Ordering::SeqCst) {
            true => Err(RpcError::unavailable("another update is under way")),
            false => Ok(Self),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.store(false, Ordering::SeqCst);
    }
}

/// Whether an update is being brought in. A restart would cut it off.
pub fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst)
}

/// `update.run {sessionKey?, note?, restartDelayMs?, timeoutMs?, from?, checksum?, restart?, dryRun?}`: installs the release
/// that `update.command` or `from` (a directory or an archive on this host) gives and restarts in place.
///
/// # Errors
/// Malformed params, too many of them, an update under way, an invalid configuration file.
pub async fn run_update(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("update.run", &params);
    let delay_ms = read.count("restartDelayMs")?.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let within =
        read.count("timeoutMs")?.map_or(COMMAND_WITHIN, |ms| Duration::from_millis(ms.max(TIMEOUT_MS_MIN)));
    let restart = read.flag("restart")?.unwrap_or(true);
    let origin = match read.text("from")? {
        Some(path) => Some(Origin::Path(PathBuf::from(path))),
        None => command(gw).map(Origin::Command),
    };
    let checksum = read.flag("checksum")?.unwrap_or(true);
    let dry_run = read.flag("dryRun")?.unwrap_or(false);
    let counted = gw.config.count_write(&writer(caller), "update.run", now_ms());
    counted.map_err(|limited| refusal(ConfigRpcError::limited("update.run", &limited)))?;
    let place = Place::of(&image::path());
    let Some(origin) = origin else {
        let result = json!({"status": "skipped", "mode": "unknown", "root": place.dir, "reason": "no-command",
            "before": {"sha": null, "version": gw.about.version}, "after": null, "steps": [], "durationMs": 0});
        return Ok(json!({"ok": true, "result": result, "restart": null, "sentinel": null}).into());
    };
    let wish = Wish { origin, checksum, dry_run, within: within.min(COMMAND_WITHIN) };
    let config = gw.config.clone();
    let under_way = UnderWay::begin()?;
    if let Some((target, due_ms)) = gw.restarts.waits_for().filter(|_| !dry_run) {
        return Err(still_waits(&target, due_ms - now_ms()));
    }
    let done = tokio::task::spawn_blocking(move || {
        let state = config.state();
        if state.state == "invalid" {
            let why = state.errors.join("; ");
            return Err(RpcError::unavailable(format!(
                "the configuration file is invalid; mend it first: {why}"
            )));
        }
        let outcome = run(&place, &wish, &|program| preflight::ask(program, false));
        if let Some(dir) = outcome.installed.as_ref().filter(|_| !restart) {
            place
                .point_at(dir)
                .map_err(|error| RpcError::unavailable(format!("{}: {error}", dir.display())))?;
        }
        // Goes on with the work, also when the caller is gone.
        Ok((outcome, under_way))
    });
    let done = done.await.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let (outcome, _until_planned) = done?;
    Ok(finish(gw, &params, outcome, restart, delay_ms).await.into())
}

/// An update that waits for its restart is not replaced by another: who asked for it was told that it comes.
fn still_waits(target: &Path, wait_ms: i64) -> RpcError {
    let release =
        target.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let seconds = wait_ms.max(0) / 1000 + 1;
    RpcError::unavailable(format!(
        "the update to {release} is installed and waits {seconds} s for its restart; ask again after it"
    ))
}

/// Plans the restart and writes the note that the next start tells.
async fn finish(
    gw: &Handles,
    params: &Value,
    outcome: Outcome,
    restart: bool,
    delay_ms: Option<i64>,
) -> Value {
    if let Some(why) = outcome.trouble() {
        tracing::error!(why, reason = outcome.reason, "update failed; everything goes on as it was");
    }
    let target = outcome.installed.as_ref().filter(|_| restart).map(|dir| dir.join(crate::update::NAMES[0]));
    let mut answer =
        json!({"ok": outcome.status != Status::Error, "result": outcome, "restart": null, "sentinel": null});
    let Some(target) = target else { return answer };
    tracing::info!(release = %target.display(), "update installed");
    let text = |key: &str| params[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    let mut payload = json!({"kind": "update", "status": "ok", "ts": now_ms(), "message": text("note"),
        "doctorHint": "Run: openclaw doctor --non-interactive",
        "stats": {"mode": "update.run", "root": outcome.root, "before": outcome.before, "after": outcome.after,
            "durationMs": outcome.duration_ms}});
    if let Some(key) = text("sessionKey") {
        payload["sessionKey"] = json!(key);
    }
    let path = gw.config.paths().restart_sentinel();
    let persisted = sentinel::leave(&gw.config, &payload).await;
    answer["sentinel"] = json!({"path": path, "persisted": persisted, "payload": payload});
    answer["restart"] = gw.restarts.request_to(target, delay_ms, "update.run").to_value(gw.about.pid);
    answer
}

/// `update.command` of the configuration.
fn command(gw: &Handles) -> Option<Vec<String>> {
    let config = gw.config.current();
    let words = config.config.pointer("/update/command")?.as_array()?;
    let words: Vec<String> = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}
