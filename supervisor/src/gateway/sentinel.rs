//! What the last start left for this one: a note that a configuration write, an update or the agent's tool asked for the
//! restart. It becomes a line of the next prompt of the session that asked, so that the agent learns how it went.

use super::Handles;
use crate::config::ConfigHandle;
use crate::config::write::put_private;
use crate::router::session_key;
use serde_json::{Value, json};
use std::path::Path;

/// A note is a few lines of JSON; a larger file is not ours.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Tells the note, then removes it: a crash in between tells it twice rather than never.
pub async fn tell(handles: Handles) {
    let path = handles.config.paths().restart_sentinel();
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || read(&path)).await
    };
    let Ok(Some(mut payload)) = read else { return };
    if let Some(last) = handles.restarts.last().filter(|last| !last.ok) {
        payload["status"] = "error".into();
        payload["stats"]["reason"] = last.why.into();
    }
    let config = handles.config.current();
    let asked = payload["sessionKey"].as_str().unwrap_or("main");
    let session = session_key::canonical(asked, config.view.agents.default_id(), &config.view.session);
    if let Err(refusal) = handles.scheduler.system_event(&session, &text(&payload), false).await {
        tracing::warn!(session, ?refusal, "the reason of the restart was not told; {} stays", path.display());
        return;
    }
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "restart note not removed; the next start tells it again");
    }
}

/// Writes the note for the next start. False: it was not written, and nobody is told.
pub async fn leave(config: &ConfigHandle, payload: &Value) -> bool {
    let (path, document) =
        (config.paths().restart_sentinel(), json!({"version": 1, "payload": payload}).to_string());
    let written = tokio::task::spawn_blocking(move || put_private(&path, &document)).await;
    let persisted = matches!(written, Ok(Ok(())));
    if !persisted {
        tracing::warn!(
            "{} was not written: nobody is told how the restart went",
            config.paths().restart_sentinel().display()
        );
    }
    persisted
}

/// The restart does not happen: there is nothing to tell.
pub async fn take_back(config: &ConfigHandle) {
    let path = config.paths().restart_sentinel();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "restart note not removed; the next start tells it");
    }
}

/// `None`: there is none, or it cannot be read, which is nothing to stop for.
fn read(path: &Path) -> Option<Value> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > NOTE_BYTES_MAX {
        tracing::warn!("{} is no restart note; left alone", path.display());
        return None;
    }
    let document: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    document.get("payload").filter(|payload| payload.is_object()).cloned()
}

/// As the original puts it: what happened, the caller's note, the hint.
fn text(payload: &Value) -> String {
    let field = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).map(str::trim);
    let mode = field("/stats/mode").map_or_else(String::new, |mode| format!(" ({mode})"));
    let what = format!(
        "Gateway restart {} {}{mode}",
        field("/kind").unwrap_or("restart"),
        field("/status").unwrap_or("ok")
    );
    let lines = [Some(what.as_str()), field("/stats/reason"), field("/message"), field("/doctorHint")];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_short_text() {
        let payload = json!({"kind": "config-patch", "status": "ok", "message": "n", "doctorHint": "Run: x",
            "stats": {"mode": "config.patch"}});
        assert_eq!(text(&payload), "Gateway restart config-patch ok (config.patch)\nn\nRun: x");
        assert_eq!(text(&json!({})), "Gateway restart restart ok");
    }

    #[test]
    fn what_is_no_note_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        assert_eq!(read(&path), None);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read(&path), None);
    }
}
