//! The session index at start: session stores that agents left are listed without waking an agent.

use crate::gateway::Handles;
use crate::journal::{Journal, SessionRow};
use serde_json::Value;
use std::path::Path;

/// A larger store is not ours.
const STORE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows handed to the journal at once.
const ROWS_AT_ONCE: usize = 500;

/// Reads every `sessions.json` below the state directory into the index. What is newer there wins.
pub async fn run(handles: &Handles) {
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
