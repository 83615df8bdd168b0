//! One run with everything that belongs to it, found by whatever id a person has at hand.

use super::types::{InboundRow, OutboxRow, RunRow};
use super::{JournalError, JournalHandle, inbound, outbox, run};
use crate::trace::book::Book;
use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, params};

/// What an id led to. A message that started no run stands alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub run: Option<RunRow>,
    pub inbound: Vec<InboundRow>,
    pub outbox: Vec<OutboxRow>,
}

impl JournalHandle {
    /// Where steps of runs are told that are not the journal's own.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// See [`find`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn find(&self, wanted: String) -> impl Future<Output = Result<Option<Found>, JournalError>> + Send {
        self.call(false, move |conn| find(conn, &wanted))
    }
}

/// `last`, a run's id (the caller's or ours), a delivery's id, or the network's id of a message or of a reply.
pub fn find(conn: &Connection, wanted: &str) -> Result<Option<Found>, JournalError> {
    if wanted == "last" {
        let last = one(conn, "SELECT run_id FROM run ORDER BY created_us DESC, run_id DESC LIMIT 1", "")?;
        return last.map(|run_id| of_run(conn, run_id)).transpose().map(Option::flatten);
    }
    if let Some(row) = run::by_client_id(conn, wanted)? {
        return of_run(conn, row.run_id);
    }
    if let Some(id) = Id::parse(wanted) {
        if let Some(found) = of_run(conn, id)? {
            return Ok(Some(found));
        }
        if let Some(run_id) = outbox::get(conn, id)?.and_then(|row| row.item.run_id) {
            return of_run(conn, run_id);
        }
    }
    if let Some(seq) = message(conn, wanted)?
        && let Some(row) = inbound::get(conn, seq)?
    {
        return match row.run_id {
            Some(run_id) => of_run(conn, run_id),
            None => Ok(Some(Found { inbound: vec![row], ..Found::default() })),
        };
    }
    let replied = one(
        conn,
        "SELECT run_id FROM outbox WHERE run_id IS NOT NULL
         AND EXISTS (SELECT 1 FROM json_each(ext_ids) WHERE value = ?1) ORDER BY seq DESC LIMIT 1",
        wanted,
    )?;
    replied.map(|run_id| of_run(conn, run_id)).transpose().map(Option::flatten)
}

fn one(conn: &Connection, query: &str, wanted: &str) -> Result<Option<Id>, JournalError> {
    let mut query = conn.prepare_cached(query)?;
    let read = |row: &rusqlite::Row<'_>| super::sql::id_at(row, 0);
    let found = match query.parameter_count() {
        0 => query.query_row([], read).optional()?,
        _ => query.query_row([wanted], read).optional()?,
    };
    Ok(found)
}

/// The newest message with this id: an adapter's id ends with the network's own, behind a bar. A look at all rows: a person
/// asks, and the table is trimmed.
fn message(conn: &Connection, wanted: &str) -> Result<Option<i64>, JournalError> {
    Ok(conn
        .prepare_cached(
            "SELECT seq FROM inbound WHERE ext_id = ?1 OR client_run_id = ?1 OR substr(ext_id, -length(?2)) = ?2
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![wanted, format!("|{wanted}")], |row| row.get(0))
        .optional()?)
}

fn of_run(conn: &Connection, run_id: Id) -> Result<Option<Found>, JournalError> {
    let Some(row) = run::get(conn, run_id)? else { return Ok(None) };
    let inbound = inbound::of_run(conn, run_id)?;
    Ok(Some(Found { run: Some(row), inbound, outbox: outbox::of_run(conn, run_id)? }))
}
