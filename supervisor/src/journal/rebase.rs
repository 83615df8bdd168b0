//! The host's clock was set: everything that is still open moves along, so that nothing is late or early because of it.

use rusqlite::{Connection, params};

use super::{JournalError, ledger};

/// Adds `by_us` to the times of open rows and keeps `basis` under `key`, both in the transaction of the caller: a death in
/// between moves nothing twice. Rows that are closed keep the times that they were closed at.
pub fn rebase(conn: &Connection, by_us: i64, key: &str, basis: &[u8]) -> Result<u64, JournalError> {
    let mut moved = 0;
    for sql in [
        "UPDATE outbox SET created_us = created_us + ?1, expires_us = expires_us + ?1, next_us = next_us + ?1
         WHERE state IN (0, 1, 2, 3)",
        "UPDATE run SET created_us = created_us + ?1, started_us = started_us + ?1, deadline_us = deadline_us + ?1
         WHERE state IN (0, 1, 2)",
        "UPDATE rpc_dedupe SET expires_us = expires_us + ?1",
    ] {
        moved += conn.prepare_cached(sql)?.execute(params![by_us])? as u64;
    }
    ledger::kv_put(conn, key, Some(basis))?;
    Ok(moved)
}
