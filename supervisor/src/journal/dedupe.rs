//! RPC dedupe: whether `(method, key)` is new, and the answer that was given. Nothing else decides that.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::types::{DedupeClaim, DedupeRow};
use super::{DEDUPE_TTL_US, JournalError, sql};

fn read(row: &Row<'_>) -> rusqlite::Result<DedupeRow> {
    Ok(DedupeRow {
        method: row.get(0)?,
        key: row.get(1)?,
        req_hash: sql::hash_at(row, 2)?,
        res: row.get(3)?,
        inbound_seq: row.get(4)?,
        expires_us: row.get(5)?,
    })
}

pub fn get(
    conn: &Connection,
    method: &str,
    key: &str,
    now_us: i64,
) -> Result<Option<DedupeRow>, JournalError> {
    Ok(conn
        .prepare_cached(
            "SELECT method, key, req_hash, res, inbound_seq, expires_us FROM rpc_dedupe
             WHERE method = ?1 AND key = ?2 AND expires_us > ?3",
        )?
        .query_row(params![method, key, now_us], read)
        .optional()?)
}

/// `Some` = claimed before. An expired claim is taken over.
pub fn claim(conn: &Connection, claim: &DedupeClaim) -> Result<Option<DedupeRow>, JournalError> {
    if let Some(known) = get(conn, &claim.method, &claim.key, claim.now_us)? {
        return Ok(Some(known));
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO rpc_dedupe(method, key, req_hash, expires_us) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        claim.method,
        claim.key,
        claim.req_hash.as_ref().map(<[u8; 32]>::as_slice),
        claim.now_us.saturating_add(DEDUPE_TTL_US)
    ])?;
    Ok(None)
}

pub fn attach(conn: &Connection, method: &str, key: &str, inbound_seq: i64) -> Result<(), JournalError> {
    conn.prepare_cached("UPDATE rpc_dedupe SET inbound_seq = ?3 WHERE method = ?1 AND key = ?2")?
        .execute(params![method, key, inbound_seq])?;
    Ok(())
}

pub fn put(conn: &Connection, method: &str, key: &str, res: &[u8]) -> Result<(), JournalError> {
    sql::check_body("stored answer", res)?;
    let n = conn
        .prepare_cached("UPDATE rpc_dedupe SET res = ?3 WHERE method = ?1 AND key = ?2")?
        .execute(params![method, key, res])?;
    if n == 0 {
        return Err(JournalError::NoSuch { what: "claimed key", id: format!("{method}:{key}") });
    }
    Ok(())
}

/// Only unanswered claims can be given back.
pub fn release(conn: &Connection, method: &str, key: &str) -> Result<(), JournalError> {
    conn.prepare_cached("DELETE FROM rpc_dedupe WHERE method = ?1 AND key = ?2 AND res IS NULL")?
        .execute(params![method, key])?;
    Ok(())
}
