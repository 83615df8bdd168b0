//! Messages that nobody will get unless a person decides: poison, failed and expired deliveries, leftovers.

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::types::{DeadKind, DeadLetter, NewDeadLetter, Revived};
use super::{JournalError, inbound, outbox};

fn read(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        item: NewDeadLetter {
            kind: row.get(1)?,
            reference: row.get(2)?,
            account: row.get(3)?,
            chat: row.get(4)?,
            why: row.get(5)?,
            at_us: row.get(6)?,
        },
    })
}

pub fn add(conn: &Connection, new: &NewDeadLetter) -> Result<(), JournalError> {
    conn.prepare_cached(
        "INSERT INTO dead_letter(kind, reference, account, chat, why, at_us) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT(kind, reference) DO NOTHING",
    )?
    .execute(params![new.kind, new.reference, new.account, new.chat, new.why, new.at_us])?;
    Ok(())
}

pub fn list(conn: &Connection) -> Result<Vec<DeadLetter>, JournalError> {
    let mut query = conn.prepare_cached(
        "SELECT id, kind, reference, account, chat, why, at_us FROM dead_letter ORDER BY id",
    )?;
    let rows = query.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub fn get(conn: &Connection, id: i64) -> Result<DeadLetter, JournalError> {
    conn.prepare_cached(
        "SELECT id, kind, reference, account, chat, why, at_us FROM dead_letter WHERE id = ?1",
    )?
    .query_row([id], read)
    .optional()?
    .ok_or_else(|| JournalError::NoSuch { what: "dead letter", id: id.to_string() })
}

pub fn remove(conn: &Connection, kind: DeadKind, reference: &str) -> Result<(), JournalError> {
    conn.prepare_cached("DELETE FROM dead_letter WHERE kind = ?1 AND reference = ?2")?
        .execute(params![kind, reference])?;
    Ok(())
}

pub fn retry(conn: &Connection, id: i64, now_us: i64) -> Result<Revived, JournalError> {
    let letter = get(conn, id)?.item;
    let unknown = || JournalError::NoSuch { what: "message of dead letter", id: id.to_string() };
    let revived = match letter.kind {
        DeadKind::Imported => return Ok(Revived::Nothing),
        DeadKind::Inbound => {
            let seq = letter.reference.parse().map_err(|_| unknown())?;
            if inbound::get(conn, seq)?.is_some_and(|row| inbound::is_unread(&row)) {
                return Ok(Revived::Nothing);
            }
            inbound::revive(conn, seq)?;
            Revived::Message { seq }
        }
        DeadKind::Outbox => {
            let out_id = Id::parse(&letter.reference).ok_or_else(unknown)?;
            outbox::operator::retry(conn, out_id, now_us)?;
            Revived::Delivery { account: letter.account }
        }
    };
    remove(conn, letter.kind, &letter.reference)?;
    Ok(revived)
}

pub fn discard(conn: &Connection, id: i64) -> Result<bool, JournalError> {
    Ok(conn.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id])? > 0)
}
