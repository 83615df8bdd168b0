//! `sessions.patch`, `reset`, `delete`, `compact`, `preview`: changes of one session, and a look into several.

use std::time::Duration;

use proto::wire::WireError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, blocking, failed};
use crate::agent::row;
use crate::clock::now_ms;
use crate::provider::ThinkingLevel;
use crate::session::entry::iso;
use crate::session::history;
use crate::session::store::SessionEntry;

/// A run has this long to end before a reset or delete is refused.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Sessions of one preview (wire protocol, `sessions.preview.keys`).
const PREVIEW_KEYS_MAX: usize = 64;
const PREVIEW_ITEMS_DEFAULT: usize = 12;
const PREVIEW_CHARS_DEFAULT: usize = 240;
const PREVIEW_CHARS_MIN: usize = 20;
/// Lines that `sessions.compact` keeps.
const COMPACT_LINES_DEFAULT: usize = 400;
/// Longest label.
const LABEL_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyParams {
    key: String,
    reason: Option<String>,
    delete_transcript: Option<bool>,
    max_lines: Option<usize>,
}

/// Sets or (with null) clears settings of a session; creates its entry when there is none.
pub async fn patch(call: &Call<'_>) -> Result<Value, WireError> {
    let params: KeyParams = call.params()?;
    let key = params.key;
    let wishes = call.params.as_object().cloned().unwrap_or_default();
    if let Some(label) = wishes.get("label").and_then(Value::as_str) {
        let taken = call.agent.sessions.entries().await.map_err(failed)?;
        if taken.iter().any(|(other, entry)| *other != key && entry.str("label") == Some(label)) {
            return Err(WireError::invalid(format!("label already in use: {label}")));
        }
    }
    let model = match wishes.get("model") {
        Some(Value::String(text)) => {
            let wanted =
                call.active.models.permitted(text).map_err(|error| WireError::invalid(error.to_string()))?;
            Some(Value::String(wanted.to_string()))
        }
        Some(Value::Null) => Some(Value::Null),
        _ => None,
    };
    let changed = call
        .agent
        .sessions
        .update(&key, move |entry| {
            if entry.session_id().is_none() {
                entry.set("sessionId", uuid::Uuid::new_v4().to_string());
            }
            for (field, value) in &wishes {
                apply(entry, field, value)?;
            }
            if let Some(model) = model {
                entry.set("modelOverride", model);
                entry.set("providerOverride", Value::Null);
            }
            entry.set("updatedAt", now_ms());
            Ok::<(), WireError>(())
        })
        .await
        .map_err(failed)?;
    let entry = changed?;
    call.agent.session_changed(row(call.agent_id(), &key, &entry), "patch").await;
    let mut answer = json!({
        "ok": true,
        "path": call.agent.sessions.store_path(),
        "key": key,
        "entry": public(&entry),
    });
    add_resolved(call, &entry, &mut answer);
    Ok(answer)
}

/// One field of a patch.
fn apply(entry: &mut SessionEntry, field: &str, value: &Value) -> Result<(), WireError> {
    let refuse = |words: &str| Err(WireError::invalid(format!("invalid {field}: {words}")));
    let text = value.as_str().map(str::trim);
    match field {
        "label" => match text {
            Some(label) if label.is_empty() || label.chars().count() > LABEL_CHARS_MAX => {
                return refuse(&format!("1 to {LABEL_CHARS_MAX} characters"));
            }
            _ => {}
        },
        "thinkingLevel" => {
            if let Some(level) = text {
                let Some(level) = ThinkingLevel::parse(level) else {
                    return refuse("use off, minimal, low, medium, high or xhigh");
                };
                entry.set(field, level.as_str());
                return Ok(());
            }
        }
        "verboseLevel" => one_of(field, text, &["off", "on", "full"])?,
        "reasoningLevel" => one_of(field, text, &["off", "on", "stream"])?,
        "elevatedLevel" => one_of(field, text, &["off", "on", "ask", "full"])?,
        "responseUsage" => one_of(field, text, &["off", "tokens", "full", "on"])?,
        "sendPolicy" => one_of(field, text, &["allow", "deny"])?,
        "groupActivation" => one_of(field, text, &["mention", "always"])?,
        "execHost" => one_of(field, text, &["sandbox", "gateway", "node"])?,
        "execSecurity" => one_of(field, text, &["deny", "allowlist", "full"])?,
        "execAsk" => one_of(field, text, &["off", "on-miss", "always"])?,
        "spawnedBy" | "execNode" => {}
        "spawnDepth" if value.is_u64() || value.is_null() => {}
        // The rest is not a setting of the session.
        _ => return Ok(()),
    }
    if !value.is_null() && text.is_none() && field != "spawnDepth" {
        return refuse("expected a string or null");
    }
    entry.set(field, value.clone());
    Ok(())
}

fn one_of(field: &str, text: Option<&str>, allowed: &[&str]) -> Result<(), WireError> {
    match text {
        Some(word) if !allowed.contains(&word) => {
            Err(WireError::invalid(format!("invalid {field} \"{word}\" (use {})", allowed.join("|"))))
        }
        _ => Ok(()),
    }
}

/// The entry without its bulky parts.
fn public(entry: &SessionEntry) -> Value {
    let mut shown = entry.0.clone();
    for bulky in ["systemPromptReport", "skillsSnapshot"] {
        shown.shift_remove(bulky);
    }
    Value::Object(shown)
}

fn add_resolved(call: &Call<'_>, entry: &SessionEntry, answer: &mut Value) {
    let chain = call.active.models.chain(entry.str("modelOverride"));
    if let Some(first) = chain.ok().and_then(|chain| chain.first().cloned())
        && let Some(map) = answer.as_object_mut()
    {
        map.insert("resolved".into(), json!({"modelProvider": first.provider, "model": first.id}));
    }
}

/// A new session under the same key; the old transcript is put aside.
pub async fn reset(call: &Call<'_>) -> Result<Value, WireError> {
    let params: KeyParams = call.params()?;
    let reason = match params.reason.as_deref() {
        None | Some("reset") => "reset",
        Some("new") => "new",
        Some(other) => {
            return Err(WireError::invalid(format!("invalid sessions.reset params: reason \"{other}\"")));
        }
    };
    stop(call, &params.key).await?;
    let entry = call.agent.reset_session(&call.active, &params.key, true, reason).await.map_err(failed)?;
    let mut answer = json!({"ok": true, "key": params.key, "entry": public(&entry)});
    if call.protocol >= 4 {
        add_resolved(call, &entry, &mut answer);
    }
    Ok(answer)
}

async fn stop(call: &Call<'_>, key: &str) -> Result<(), WireError> {
    if call.agent.stop_run(key, "rpc", STOP_LIMIT).await {
        return Ok(());
    }
    Err(WireError::unavailable(format!("session {key} is still active; try again in a moment")))
}

/// Forgets a session; its transcript is put aside unless the caller wants to keep it in place.
pub async fn delete(call: &Call<'_>) -> Result<Value, WireError> {
    let params: KeyParams = call.params()?;
    let key = params.key;
    if key == format!("agent:{}:main", call.agent_id()) {
        return Err(WireError::invalid(format!("Cannot delete the main session ({key}).")));
    }
    stop(call, &key).await?;
    let entry = call.agent.sessions.remove(&key).await.map_err(failed)?;
    let mut archived = Vec::new();
    if let Some(entry) = &entry {
        if params.delete_transcript != Some(false) {
            let stamp = iso(now_ms()).replace(':', "-");
            let path = call.agent.sessions.path_of(&key, entry);
            archived.extend(
                call.agent.sessions.archive(&path, format!("deleted.{stamp}")).await.map_err(failed)?,
            );
        }
        let mut gone = row(call.agent_id(), &key, entry);
        gone.deleted = true;
        call.agent.session_changed(gone, "delete").await;
    }
    Ok(json!({"ok": true, "key": key, "deleted": entry.is_some(), "archived": archived}))
}

/// Keeps the newest lines of a transcript in a new file, whose branch begins at the first of them; the old file stays
/// as `.bak.<ts>`.
pub async fn compact(call: &Call<'_>) -> Result<Value, WireError> {
    let params: KeyParams = call.params()?;
    let key = params.key;
    let wanted = params.max_lines.unwrap_or(COMPACT_LINES_DEFAULT).max(1);
    let entry = call.agent.sessions.entry(&key).await.map_err(failed)?.unwrap_or_default();
    let log = call.agent.sessions.log(&key, &entry, &call.active.setup.workspace_text());
    if entry.session_id().is_none() || !log.exists().await {
        return Ok(json!({"ok": true, "key": key, "compacted": false, "reason": "no transcript"}));
    }
    stop(call, &key).await?;
    let path = log.path().to_owned();
    let (kept, archived) = log
        .with(move |transcript| {
            let Some((lines, kept)) = crate::session::rewrite::newest(&path, wanted) else {
                return Ok((transcript.len(), None));
            };
            let now = now_ms();
            let backup = transcript.rewrite(&lines, &format!("bak.{now}"), now)?;
            Ok((kept, Some(backup)))
        })
        .await
        .map_err(failed)?;
    let Some(archived) = archived else {
        return Ok(json!({"ok": true, "key": key, "compacted": false, "kept": kept}));
    };
    let changed = call
        .agent
        .sessions
        .update(&key, |entry| {
            for counter in ["inputTokens", "outputTokens", "totalTokens", "totalTokensFresh"] {
                entry.set(counter, Value::Null);
            }
            entry.set("updatedAt", now_ms());
            Ok::<(), std::convert::Infallible>(())
        })
        .await
        .map_err(failed)?;
    let Ok(entry) = changed;
    call.agent.session_changed(row(call.agent_id(), &key, &entry), "compact").await;
    Ok(json!({"ok": true, "key": key, "compacted": true, "archived": archived, "kept": kept}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreviewParams {
    keys: Vec<String>,
    limit: Option<usize>,
    max_chars: Option<usize>,
}

/// The last lines of several sessions.
pub async fn preview(call: &Call<'_>) -> Result<Value, WireError> {
    let params: PreviewParams = call.params()?;
    let limit = params.limit.unwrap_or(PREVIEW_ITEMS_DEFAULT).clamp(1, history::MESSAGES_MAX);
    let chars = params.max_chars.unwrap_or(PREVIEW_CHARS_DEFAULT).max(PREVIEW_CHARS_MIN);
    let mut previews = Vec::new();
    for key in params.keys.into_iter().take(PREVIEW_KEYS_MAX) {
        let entry = call.agent.sessions.entry(&key).await.map_err(failed)?;
        let Some(entry) = entry.filter(|entry| entry.session_id().is_some()) else {
            previews.push(json!({"key": key, "status": "missing", "items": []}));
            continue;
        };
        let path = call.agent.sessions.path_of(&key, &entry);
        // Tool results and silent answers show nothing: some more messages are read than lines are wanted.
        let read = blocking(move || {
            disk_read(&path, limit.saturating_mul(4)).map(|shown| history::preview(&shown, limit, chars))
        });
        previews.push(match read.await {
            Ok(items) if items.is_empty() => json!({"key": key, "status": "empty", "items": []}),
            Ok(items) => json!({"key": key, "status": "ok", "items": items}),
            Err(_) => json!({"key": key, "status": "error", "items": []}),
        });
    }
    Ok(json!({"ts": now_ms(), "previews": previews}))
}

fn disk_read(path: &std::path::Path, limit: usize) -> Result<Vec<history::Shown>, WireError> {
    let read = history::read(path, limit);
    read.map(|(shown, _)| shown).map_err(|error| WireError::unavailable(error.to_string()))
}
