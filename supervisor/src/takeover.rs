//! What a state directory holds from before this start, be it ours or the original's: session stores, Telegram's position,
//! replies that were never sent. Read, never written: the original must still be able to open its files.

use crate::gateway::Handles;
use crate::journal::{CursorUpdate, DeadKind, Journal, NewDeadLetter, SessionRow};
use crate::scheduler::shared::now_us;
use serde_json::Value;
use std::path::Path;

/// A larger store is not ours.
const STORE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows handed to the journal at once.
const ROWS_AT_ONCE: usize = 500;

/// Largest file of the original's delivery queue that is looked into.
const QUEUED_BYTES_MAX: u64 = 1024 * 1024;
/// Leftover replies that are listed; a larger heap says the same.
const QUEUED_FILES_MAX: usize = 500;

/// Everything that a start takes over.
pub async fn run(handles: &Handles) {
    sessions(handles).await;
    telegram_positions(handles).await;
    leftover_replies(handles).await;
    if handles.front.paths.state_dir.join("cron/jobs.json").exists() {
        tracing::warn!("cron/jobs.json is there, but scheduled jobs are not built yet: none of them runs");
    }
}

/// The original's `telegram/update-offset-<account>.json`, for accounts whose position we do not know: polling goes on
/// where it ended.
async fn telegram_positions(handles: &Handles) {
    let config = handles.config.current();
    let Some(channel) = config.view.channels.get("telegram") else { return };
    for account in channel.accounts.keys() {
        let file = handles.front.paths.state_dir.join(format!("telegram/update-offset-{account}.json"));
        let Some(value) = std::fs::read(&file).ok().and_then(|text| position(&text)) else { continue };
        let (account, scope) = (format!("telegram:{account}"), "updates".to_owned());
        let known = handles.journal.cursor_get(account.clone(), scope.clone()).await;
        if matches!(known, Ok(None)) {
            tracing::info!(account, "going on at the position of {}", file.display());
            let update = CursorUpdate { account, scope, value };
            if let Err(error) = handles.journal.cursor_put(update).await {
                tracing::warn!(%error, "position not taken over; old updates may be offered again");
            }
        }
    }
}

/// `{version: 2, lastUpdateId, botId}` → `<bot id>:<first update that is not ours yet>`.
fn position(text: &[u8]) -> Option<String> {
    let file: Value = serde_json::from_slice(text).ok()?;
    let last = file["lastUpdateId"].as_i64()?;
    let bot = file["botId"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| file["botId"].as_i64().map(|id| id.to_string()))?;
    Some(format!("{bot}:{}", last.checked_add(1)?))
}

/// Replies that the original wrote down and never sent: nobody knows whether they went out, so they are listed for the
/// operator and not sent.
async fn leftover_replies(handles: &Handles) {
    let dir = handles.front.paths.state_dir.join("delivery-queue");
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let files =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut found = 0;
    for path in files.take(QUEUED_FILES_MAX) {
        let small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= QUEUED_BYTES_MAX);
        let parsed = small.then(|| std::fs::read(&path).ok()).flatten();
        let entry: Value = parsed.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let account = Some(text("accountId")).filter(|account| !account.is_empty());
        let letter = NewDeadLetter {
            kind: DeadKind::Imported,
            reference: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            account: format!("{}:{}", text("channel"), account.as_deref().unwrap_or("default")),
            chat: text("to"),
            why: "left in delivery-queue/ by an earlier gateway; whether it was sent is not known".to_owned(),
            // From now on, not from then: old letters are forgotten, and nobody has seen this one.
            at_us: now_us(),
        };
        found += usize::from(handles.journal.dead_add(letter).await.is_ok());
    }
    if found > 0 {
        tracing::warn!(found, "replies of an earlier gateway are listed as dead letters; they are not sent");
    }
}

/// The text of such a reply, read from its file: `None` when that is gone or holds none. Blocks on the disk.
pub fn leftover_text(state_dir: &Path, reference: &str) -> Option<String> {
    let path = state_dir.join("delivery-queue").join(Path::new(reference).file_name()?);
    if !std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= QUEUED_BYTES_MAX) {
        return None;
    }
    let entry: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let payloads = entry["payloads"].as_array()?.iter();
    let texts = payloads.filter_map(|payload| payload["text"].as_str().or(payload["mediaUrl"].as_str()));
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// Reads every `sessions.json` below the state directory into the index. What is newer there wins.
async fn sessions(handles: &Handles) {
    let agents = handles.front.paths.state_dir.join("agents");
    let rows = tokio::task::spawn_blocking(move || all_rows(&agents)).await.unwrap_or_default();
    for rows in rows.chunks(ROWS_AT_ONCE) {
        if let Err(error) = handles.journal.session_put(rows.to_vec()).await {
            tracing::warn!(%error, "session index not filled; lists may miss sessions until they are used");
            return;
        }
    }
}

fn all_rows(agents: &Path) -> Vec<SessionRow> {
    let entries = std::fs::read_dir(agents).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let agent = entry.file_name().to_string_lossy().into_owned();
            rows_of(&agent, &entry.path().join("sessions/sessions.json"))
        })
        .collect()
}

fn rows_of(agent: &str, store: &Path) -> Vec<SessionRow> {
    if !std::fs::metadata(store).is_ok_and(|meta| meta.len() <= STORE_BYTES_MAX) {
        return Vec::new();
    }
    let parsed: Option<Value> =
        std::fs::read(store).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(Value::Object(entries)) = parsed else {
        tracing::warn!(store = %store.display(), "session store cannot be read; its agent repairs or reports it");
        return Vec::new();
    };
    let row = |(key, entry): (String, Value)| SessionRow {
        agent_id: agent.to_owned(),
        session_id: entry["sessionId"].as_str().unwrap_or_default().to_owned(),
        updated_ms: entry["updatedAt"].as_i64().unwrap_or_default(),
        entry_json: entry.to_string(),
        key: key.to_lowercase(),
        ..SessionRow::default()
    };
    entries.into_iter().filter(|(_, entry)| entry.is_object()).map(row).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_position_of_the_original_is_the_update_after_its_last() {
        let position = |text: &str| super::position(text.as_bytes());
        assert_eq!(position(r#"{"version":2,"lastUpdateId":41,"botId":"77"}"#).as_deref(), Some("77:42"));
        assert_eq!(position(r#"{"version":1,"lastUpdateId":41}"#), None);
        assert_eq!(position("garbage"), None);
    }

    #[test]
    fn every_entry_of_a_store_becomes_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = dir.path().join("main/sessions");
        std::fs::create_dir_all(&sessions).unwrap();
        std::fs::write(
            sessions.join("sessions.json"),
            r#"{"agent:main:Main":{"sessionId":"s","updatedAt":7},"bad":3}"#,
        )
        .unwrap();
        let rows = super::all_rows(dir.path());
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].key.as_str(), rows[0].session_id.as_str(), rows[0].updated_ms),
            ("agent:main:main", "s", 7)
        );
    }
}
