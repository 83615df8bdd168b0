//! Placeholders that are sent before their row exists, while a run is still speaking.

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{COUNT_ORPHANS, ledger};
use crate::journal::types::{Draft, DraftStart};
use crate::journal::{JournalError, sql};

fn read(row: &Row<'_>) -> rusqlite::Result<Draft> {
    Ok(Draft {
        out_id: sql::id_at(row, 0)?,
        run_id: sql::id_at(row, 1)?,
        account: row.get(2)?,
        chat: row.get(3)?,
        ext_id: row.get(4)?,
    })
}

fn get(conn: &Connection, out_id: Id) -> Result<Option<Draft>, JournalError> {
    Ok(conn
        .prepare_cached("SELECT out_id, run_id, account, chat, ext_id FROM draft WHERE out_id = ?1")?
        .query_row([out_id.as_bytes()], read)
        .optional()?)
}

pub fn ext_of(conn: &Connection, out_id: Id) -> Result<Option<String>, JournalError> {
    Ok(get(conn, out_id)?.and_then(|draft| draft.ext_id))
}

pub fn open(conn: &Connection, draft: &Draft) -> Result<DraftStart, JournalError> {
    if let Some(known) = get(conn, draft.out_id)? {
        if known.ext_id.is_some() {
            return Ok(DraftStart::Stands(known));
        }
        ledger::count(conn, COUNT_ORPHANS)?;
        return Ok(DraftStart::Send);
    }
    if !is_next(conn, draft)? {
        return Ok(DraftStart::TooEarly);
    }
    conn.prepare_cached(
        "INSERT INTO draft(out_id, run_id, account, chat, ext_id) VALUES(?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        draft.out_id.as_bytes(),
        draft.run_id.as_bytes(),
        draft.account,
        draft.chat,
        draft.ext_id
    ])?;
    Ok(DraftStart::Send)
}

/// Nothing of the chat waits for its place in it: neither the reply itself (the run was quicker than its placeholder) nor
/// an earlier one, in front of which the placeholder would stand. Topics of a chat count as the chat.
fn is_next(conn: &Connection, draft: &Draft) -> Result<bool, JournalError> {
    let waits = conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM outbox WHERE out_id = ?1) OR EXISTS(
               SELECT 1 FROM outbox INDEXED BY outbox_open WHERE state IN (0, 1, 2, 3) AND account = ?2
               AND (chat = ?3 OR substr(chat, 1, length(?3) + 1) = ?3 || '#') AND prior_ext IS NULL)",
        )?
        .query_row(params![draft.out_id.as_bytes(), draft.account, draft.chat], |row| {
            row.get::<_, bool>(0)
        })?;
    Ok(!waits)
}

/// The id is known. The row may have been made meanwhile: then it becomes an edit as well.
pub fn placed(conn: &Connection, out_id: Id, ext_id: &str) -> Result<(), JournalError> {
    let n = conn
        .prepare_cached("UPDATE draft SET ext_id = ?2 WHERE out_id = ?1")?
        .execute(params![out_id.as_bytes(), ext_id])?;
    if n == 0 {
        return Err(JournalError::NoSuch { what: "placeholder", id: out_id.to_string() });
    }
    conn.prepare_cached(
        "UPDATE outbox SET prior_ext = ?2 WHERE out_id = ?1 AND prior_ext IS NULL AND state IN (0, 1, 2, 3)",
    )?
    .execute(params![out_id.as_bytes(), ext_id])?;
    Ok(())
}

fn select<P: rusqlite::Params>(
    conn: &Connection,
    condition: &str,
    params: P,
) -> Result<Vec<Draft>, JournalError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT out_id, run_id, account, chat, ext_id FROM draft d WHERE {condition}"
    ))?;
    let rows = query.query_map(params, read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub fn of_run(conn: &Connection, run_id: Id) -> Result<Vec<Draft>, JournalError> {
    select(conn, "run_id = ?1", [run_id.as_bytes()])
}

/// Placeholders that no row will fill.
pub fn unused(conn: &Connection, run_id: Id) -> Result<Vec<Draft>, JournalError> {
    select(
        conn,
        "run_id = ?1 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.out_id = d.out_id)",
        [run_id.as_bytes()],
    )
}

/// Its time is over. One whose id never became known was refused, or stands in its chat for ever because the network's answer
/// was lost: nobody can tell, so it counts.
pub fn gone(conn: &Connection, out_id: Id) -> Result<(), JournalError> {
    if get(conn, out_id)?.is_some_and(|draft| draft.ext_id.is_none()) {
        ledger::count(conn, COUNT_ORPHANS)?;
    }
    conn.prepare_cached("DELETE FROM draft WHERE out_id = ?1")?.execute([out_id.as_bytes()])?;
    Ok(())
}

/// The worker that sent them is gone: those without an id may stand in their chat for ever.
pub fn orphan(conn: &Connection, account: Option<&str>) -> Result<(), JournalError> {
    for draft in select(conn, "ext_id IS NULL AND (?1 IS NULL OR account = ?1)", [account])? {
        gone(conn, draft.out_id)?;
    }
    Ok(())
}
