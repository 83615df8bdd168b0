//! What a person may do with deliveries: look at them, send one now, give one up.

use proto::wire::id::Id;
use rusqlite::{Connection, params};

use super::state::OutEvent;
use super::{Change, JournalError, OutboxRow, apply, known, select};
use crate::journal::types::OutboxFilter;

/// Rows of one list; more are never looked at together.
pub const LIST_ROWS_MAX: u32 = 1_000;

/// In creation order: what is to be delivered, and what failed or went out of date; with `delivered` what is done too.
pub fn list(conn: &Connection, filter: &OutboxFilter) -> Result<Vec<OutboxRow>, JournalError> {
    let limit = filter.limit.unwrap_or(LIST_ROWS_MAX).min(LIST_ROWS_MAX);
    select(
        conn,
        "WHERE (state != 4 OR ?2) AND (?1 IS NULL OR account = ?1) ORDER BY seq LIMIT ?3",
        params![filter.account, filter.delivered, limit],
    )
}

/// It is due now: a pause ends, a dead letter lives again, an unknown outcome is risked once more.
pub fn retry(conn: &Connection, out_id: Id, now_us: i64) -> Result<OutboxRow, JournalError> {
    let row = known(conn, out_id)?;
    Ok(apply(conn, &row, OutEvent::Revive, Change { now_us, ..Change::default() })?.row)
}

/// Nobody shall get it. It stays on record, without a dead letter.
pub fn discard(conn: &Connection, out_id: Id, now_us: i64) -> Result<OutboxRow, JournalError> {
    let row = known(conn, out_id)?;
    let change = Change { now_us, err: Some("given up by hand"), ..Change::default() };
    Ok(apply(conn, &row, OutEvent::Discard, change)?.row)
}
