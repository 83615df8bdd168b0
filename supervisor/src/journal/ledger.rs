//! The small ledgers: cursors, keys and counters, usage per day, system events.

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, params};

use super::types::{CursorUpdate, SystemEvent, UsageDay, UsageDelta};
use super::{JournalError, SYSTEM_EVENTS_PER_SESSION_MAX, sql};

pub fn cursor_get(conn: &Connection, account: &str, scope: &str) -> Result<Option<String>, JournalError> {
    Ok(conn
        .prepare_cached("SELECT value FROM cursor WHERE account = ?1 AND scope = ?2")?
        .query_row(params![account, scope], |r| r.get(0))
        .optional()?)
}

pub fn cursor_put(conn: &Connection, cursor: &CursorUpdate) -> Result<(), JournalError> {
    conn.prepare_cached("INSERT OR REPLACE INTO cursor(account, scope, value) VALUES(?1, ?2, ?3)")?
        .execute(params![cursor.account, cursor.scope, cursor.value])?;
    Ok(())
}

pub fn kv_get(conn: &Connection, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
    Ok(conn.prepare_cached("SELECT v FROM kv WHERE k = ?1")?.query_row([key], |r| r.get(0)).optional()?)
}

/// Keys that begin with `prefix`, in order.
pub fn kv_keys(conn: &Connection, prefix: &str) -> Result<Vec<String>, JournalError> {
    let mut found = conn.prepare_cached("SELECT k FROM kv WHERE substr(k, 1, length(?1)) = ?1 ORDER BY k")?;
    let keys = found.query_map([prefix], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

pub fn kv_put(conn: &Connection, key: &str, value: Option<&[u8]>) -> Result<(), JournalError> {
    match value {
        Some(value) => {
            sql::check_body("value", value)?;
            conn.prepare_cached("INSERT OR REPLACE INTO kv(k, v) VALUES(?1, ?2)")?
                .execute(params![key, value])?;
        }
        None => {
            conn.prepare_cached("DELETE FROM kv WHERE k = ?1")?.execute([key])?;
        }
    }
    Ok(())
}

/// Adds one to a counter and gives the new value. Counters are 8 bytes, little endian.
pub fn increment(conn: &Connection, key: &str) -> Result<u64, JournalError> {
    let next = counter(conn, key)?.saturating_add(1);
    kv_put(conn, key, Some(&next.to_le_bytes()))?;
    Ok(next)
}

pub fn count(conn: &Connection, key: &str) -> Result<(), JournalError> {
    increment(conn, key).map(|_| ())
}

pub fn counter(conn: &Connection, key: &str) -> Result<u64, JournalError> {
    let bytes = kv_get(conn, key)?.and_then(|v| <[u8; 8]>::try_from(v.as_slice()).ok());
    Ok(bytes.map_or(0, u64::from_le_bytes))
}

pub fn next_epoch(conn: &Connection, worker: &str) -> Result<u64, JournalError> {
    increment(conn, &format!("epoch/{worker}"))
}

/// Most that one run can add to a day, and most that a day can hold. A run's numbers come from a model's server; whatever
/// they are, they must not keep the end of a run from being stored (a column of a STRICT table refuses a sum that does not fit).
const USAGE_OF_RUN_MAX: u64 = 1_000_000_000_000_000;
const USAGE_OF_DAY_MAX: i64 = 4_000_000_000_000_000_000;

pub fn usage_add(conn: &Connection, d: &UsageDelta) -> Result<(), JournalError> {
    conn.prepare_cached(
        "INSERT INTO usage_day(day, agent, provider, model, input, output, cache_read, cache_write, cost_micros, turns)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1)
         ON CONFLICT(day, agent, provider, model) DO UPDATE SET input = min(input + excluded.input, ?10),
           output = min(output + excluded.output, ?10), cache_read = min(cache_read + excluded.cache_read, ?10),
           cache_write = min(cache_write + excluded.cache_write, ?10),
           cost_micros = min(cost_micros + excluded.cost_micros, ?10), turns = turns + 1",
    )?
    .execute(params![
        d.day,
        d.agent,
        d.provider,
        d.model,
        stored(d.input),
        stored(d.output),
        stored(d.cache_read),
        stored(d.cache_write),
        stored(d.cost_micros),
        USAGE_OF_DAY_MAX
    ])?;
    Ok(())
}

fn stored(count: u64) -> i64 {
    sql::as_i64(count.min(USAGE_OF_RUN_MAX))
}

pub fn usage_list(conn: &Connection, from: &str, to: &str) -> Result<Vec<UsageDay>, JournalError> {
    let mut query = conn.prepare_cached(
        "SELECT day, agent, provider, model, input, output, cache_read, cache_write, cost_micros, turns
         FROM usage_day WHERE day BETWEEN ?1 AND ?2 ORDER BY day, agent, provider, model",
    )?;
    let rows = query.query_map([from, to], |row| {
        Ok(UsageDay {
            sum: UsageDelta {
                day: row.get(0)?,
                agent: row.get(1)?,
                provider: row.get(2)?,
                model: row.get(3)?,
                input: sql::u64_at(row, 4)?,
                output: sql::u64_at(row, 5)?,
                cache_read: sql::u64_at(row, 6)?,
                cache_write: sql::u64_at(row, 7)?,
                cost_micros: sql::u64_at(row, 8)?,
            },
            turns: sql::u64_at(row, 9)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub fn system_event_push(
    conn: &Connection,
    session_key: &str,
    text: &str,
    context_key: Option<&str>,
    now_us: i64,
) -> Result<(), JournalError> {
    let last: Option<String> = conn
        .prepare_cached(
            "SELECT text FROM system_event WHERE session_key = ?1 AND run_id IS NULL ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([session_key], |r| r.get(0))
        .optional()?;
    if last.as_deref() == Some(text) {
        return Ok(());
    }
    conn.prepare_cached(
        "DELETE FROM system_event WHERE session_key = ?1 AND context_key = ?2 AND run_id IS NULL",
    )?
    .execute(params![session_key, context_key])?;
    conn.prepare_cached(
        "INSERT INTO system_event(session_key, at_us, text, context_key) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute(params![session_key, now_us, text, context_key])?;
    conn.prepare_cached(
        "DELETE FROM system_event WHERE session_key = ?1 AND run_id IS NULL AND seq NOT IN
           (SELECT seq FROM system_event WHERE session_key = ?1 AND run_id IS NULL ORDER BY seq DESC LIMIT ?2)",
    )?
    .execute(params![session_key, SYSTEM_EVENTS_PER_SESSION_MAX])?;
    Ok(())
}

pub fn system_event_take(
    conn: &Connection,
    session_key: &str,
    run_id: Id,
) -> Result<Vec<SystemEvent>, JournalError> {
    conn.prepare_cached("UPDATE system_event SET run_id = ?2 WHERE session_key = ?1 AND run_id IS NULL")?
        .execute(params![session_key, run_id.as_bytes()])?;
    let mut query = conn.prepare_cached(
        "SELECT seq, session_key, at_us, text, context_key FROM system_event WHERE run_id = ?1 ORDER BY seq",
    )?;
    let rows = query.query_map([run_id.as_bytes()], |row| {
        Ok(SystemEvent {
            seq: row.get(0)?,
            session_key: row.get(1)?,
            at_us: row.get(2)?,
            text: row.get(3)?,
            context_key: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The run told its model: they are done.
pub fn system_event_drop(conn: &Connection, run_id: Id) -> Result<(), JournalError> {
    conn.prepare_cached("DELETE FROM system_event WHERE run_id = ?1")?.execute([run_id.as_bytes()])?;
    Ok(())
}

/// The run never began: they wait for the next one.
pub fn system_event_untake(conn: &Connection, run_id: Id) -> Result<(), JournalError> {
    conn.prepare_cached("UPDATE system_event SET run_id = NULL WHERE run_id = ?1")?
        .execute([run_id.as_bytes()])?;
    Ok(())
}
