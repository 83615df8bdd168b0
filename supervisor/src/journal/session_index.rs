//! The session index: what lists and pages need without waking an agent. Rebuildable; the agents' stores are the truth.

use proto::wire::agent::SessionRow;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::types::SessionFilter;
use super::{JournalError, SESSION_LIST_ROWS_MAX, sql};

const COLUMNS: &str = "session_key, agent, session_id, updated_ms, entry, title, last_message";

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        key: row.get(0)?,
        agent_id: row.get(1)?,
        session_id: row.get(2)?,
        updated_ms: row.get(3)?,
        entry_json: row.get(4)?,
        deleted: false,
        title: row.get(5)?,
        last_message: row.get(6)?,
    })
}

/// Fields of the entry that lists filter by. An entry that is not JSON is kept and simply not found by them.
struct Facets {
    label: Option<String>,
    spawned_by: Option<String>,
    search: String,
}

fn facets(row: &SessionRow) -> Facets {
    let entry: serde_json::Value = serde_json::from_str(&row.entry_json).unwrap_or_default();
    let text = |name: &str| entry.get(name).and_then(|v| v.as_str()).map(str::to_owned);
    let searched = [
        Some(row.key.clone()),
        Some(row.session_id.clone()),
        text("label"),
        text("displayName"),
        text("subject"),
        row.title.clone(),
    ];
    let search = searched.into_iter().flatten().collect::<Vec<_>>().join("\n").to_lowercase();
    Facets { label: text("label"), spawned_by: text("spawnedBy"), search }
}

/// Rows are told within this of their making, in whatever order they arrive (10 s). One that is older by more was not
/// overtaken: the host's clock was set back.
const OVERTAKEN_MS_MAX: i64 = 10_000;

/// What a worker says now of its sessions. One that was overtaken by a newer one changes nothing.
pub fn changed(conn: &Connection, rows: &[SessionRow]) -> Result<(), JournalError> {
    write(conn, rows, OVERTAKEN_MS_MAX)
}

/// What a file says of sessions: newer `updated_ms` wins.
pub fn put(conn: &Connection, rows: &[SessionRow]) -> Result<(), JournalError> {
    write(conn, rows, i64::MAX)
}

fn write(conn: &Connection, rows: &[SessionRow], overtaken_ms_max: i64) -> Result<(), JournalError> {
    for row in rows {
        if row.deleted {
            delete(conn, &row.key)?;
            continue;
        }
        sql::check_body("session entry", row.entry_json.as_bytes())?;
        let facets = facets(row);
        conn.prepare_cached(
            "INSERT INTO session_index(session_key, agent, session_id, updated_ms, label, spawned_by, search, title,
               last_message, entry) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT(session_key) DO UPDATE SET agent = excluded.agent, session_id = excluded.session_id,
               updated_ms = excluded.updated_ms, label = excluded.label, spawned_by = excluded.spawned_by,
               search = excluded.search, title = coalesce(excluded.title, title),
               last_message = coalesce(excluded.last_message, last_message), entry = excluded.entry
             WHERE excluded.updated_ms >= updated_ms OR updated_ms - excluded.updated_ms > ?11",
        )?
        .execute(params![
            row.key,
            row.agent_id,
            row.session_id,
            row.updated_ms,
            facets.label,
            facets.spawned_by,
            facets.search,
            row.title,
            row.last_message,
            row.entry_json,
            overtaken_ms_max
        ])?;
    }
    Ok(())
}

pub fn get(conn: &Connection, session_key: &str) -> Result<Option<SessionRow>, JournalError> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM session_index WHERE session_key = ?1"))?
        .query_row([session_key], read)
        .optional()?)
}

pub fn list(conn: &Connection, filter: &SessionFilter) -> Result<Vec<SessionRow>, JournalError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM session_index
         WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR updated_ms >= ?2) AND (?3 IS NULL OR label = ?3)
           AND (?4 IS NULL OR spawned_by = ?4) AND (?5 IS NULL OR instr(search, ?5) > 0)
         ORDER BY updated_ms DESC, session_key LIMIT ?6"
    ))?;
    let limit = filter.limit.unwrap_or(SESSION_LIST_ROWS_MAX).min(SESSION_LIST_ROWS_MAX);
    let search = filter.search.as_ref().map(|s| s.to_lowercase());
    let rows = query.query_map(
        params![filter.agent, filter.updated_since_ms, filter.label, filter.spawned_by, search, limit],
        read,
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub fn delete(conn: &Connection, session_key: &str) -> Result<bool, JournalError> {
    Ok(conn.prepare_cached("DELETE FROM session_index WHERE session_key = ?1")?.execute([session_key])? > 0)
}

pub fn counts(conn: &Connection) -> Result<Vec<(String, u64)>, JournalError> {
    let mut query =
        conn.prepare_cached("SELECT agent, count(*) FROM session_index GROUP BY agent ORDER BY agent")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, sql::u64_at(row, 1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
