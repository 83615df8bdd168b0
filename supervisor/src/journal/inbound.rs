//! Accepted messages: C1, the waiting line of each session, and what became of them.

pub mod state;

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::types::{AcceptInbound, Accepted, DeadKind, Disposition, InboundEnd, InboundRow, NewDeadLetter};
use super::{JournalError, dead_letter, dedupe, ledger, outbox, sql};
use state::{InboundEvent, InboundState};

const COLUMNS: &str = "seq, account, ext_id, chat, session_key, agent, client_run_id, recv_us, net_ts_us, state, \
                       run_id, attempts, body";

fn read(row: &Row<'_>) -> rusqlite::Result<InboundRow> {
    Ok(InboundRow {
        seq: row.get(0)?,
        account: row.get(1)?,
        ext_id: row.get(2)?,
        chat: row.get(3)?,
        session_key: row.get(4)?,
        agent: row.get(5)?,
        client_run_id: row.get(6)?,
        recv_us: row.get(7)?,
        net_ts_us: row.get(8)?,
        state: row.get(9)?,
        run_id: sql::opt_id_at(row, 10)?,
        attempts: row.get(11)?,
        body: row.get::<_, Option<Vec<u8>>>(12)?.unwrap_or_default(),
    })
}

pub fn accept(conn: &Connection, accept: &AcceptInbound) -> Result<Accepted, JournalError> {
    let new = &accept.inbound;
    sql::check_message(&new.body)?;
    if let Some(claim) = &accept.dedupe
        && let Some(known) = dedupe::claim(conn, claim)?
    {
        return Ok(Accepted::Replayed(known));
    }
    let state = match new.disposition {
        Disposition::Receive => InboundState::Received,
        Disposition::Queue => InboundState::Queued,
        Disposition::Suppress => InboundState::Suppressed,
    };
    let inserted = conn
        .prepare_cached(
            "INSERT INTO inbound(account, ext_id, chat, session_key, agent, client_run_id, recv_us, net_ts_us, state,
               body, raw_hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT(account, ext_id) DO NOTHING RETURNING seq",
        )?
        .query_row(
            params![
                new.account,
                new.ext_id,
                new.chat,
                new.session_key,
                new.agent,
                new.client_run_id,
                new.recv_us,
                new.net_ts_us,
                state,
                new.body,
                new.raw_hash.as_ref().map(<[u8; 32]>::as_slice)
            ],
            |r| r.get::<_, i64>(0),
        )
        .optional()?;
    if let Some(cursor) = &accept.cursor {
        ledger::cursor_put(conn, cursor)?;
    }
    let accepted = match inserted {
        Some(seq) => {
            outbox::add(conn, &accept.notes)?;
            Accepted::New { seq }
        }
        None => Accepted::Duplicate(by_ext_id(conn, &new.account, &new.ext_id)?),
    };
    if let Some(claim) = &accept.dedupe {
        let seq = match &accepted {
            Accepted::New { seq } => *seq,
            Accepted::Duplicate(row) => row.seq,
            Accepted::Replayed(_) => return Ok(accepted),
        };
        dedupe::attach(conn, &claim.method, &claim.key, seq)?;
    }
    Ok(accepted)
}

/// Why something is kept unread.
pub const UNREAD_WHY: &str = "its channel worker died by its own doing each time it read this (3 times)";

/// Accepts something that is not read, as a dead letter.
pub fn bury(conn: &Connection, new: &AcceptInbound) -> Result<Accepted, JournalError> {
    let accepted = accept(conn, new)?;
    if let Accepted::New { seq } = &accepted {
        conn.prepare_cached("UPDATE inbound SET state = ?2 WHERE seq = ?1")?
            .execute(params![seq, InboundState::Dead])?;
        let inbound = &new.inbound;
        dead_letter::add(
            conn,
            &NewDeadLetter {
                kind: DeadKind::Inbound,
                reference: seq.to_string(),
                account: inbound.account.clone(),
                chat: inbound.chat.clone(),
                why: UNREAD_WHY.to_owned(),
                at_us: inbound.recv_us,
            },
        )?;
    }
    Ok(accepted)
}

/// It was kept unread: no session waits for it.
pub fn is_unread(row: &InboundRow) -> bool {
    row.session_key.is_empty()
}

fn by_ext_id(conn: &Connection, account: &str, ext_id: &str) -> Result<InboundRow, JournalError> {
    let found = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM inbound WHERE account = ?1 AND ext_id = ?2"))?
        .query_row(params![account, ext_id], read)?;
    Ok(found)
}

/// Whether the network's message is stored already.
pub fn knows(conn: &Connection, account: &str, ext_id: &str) -> Result<bool, JournalError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM inbound WHERE account = ?1 AND ext_id = ?2")?
        .exists(params![account, ext_id])?)
}

pub fn get(conn: &Connection, seq: i64) -> Result<Option<InboundRow>, JournalError> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM inbound WHERE seq = ?1"))?
        .query_row([seq], read)
        .optional()?)
}

/// `INDEXED BY`, here and elsewhere: these must never become a walk through all that was ever accepted.
pub fn waiting(conn: &Connection, session_key: Option<&str>) -> Result<Vec<InboundRow>, JournalError> {
    let condition = if session_key.is_some() { "session_key = ?1" } else { "?1 IS NULL" };
    let mut query = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM inbound INDEXED BY inbound_waiting WHERE state IN (0, 1) AND {condition} ORDER BY seq"
    ))?;
    let rows = query.query_map([session_key], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub fn of_run(conn: &Connection, run_id: Id) -> Result<Vec<InboundRow>, JournalError> {
    let mut query =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM inbound WHERE run_id = ?1 ORDER BY seq"))?;
    let rows = query.query_map([run_id.as_bytes()], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

/// Sessions with waiting messages, longest waiting first.
pub fn waiting_sessions(conn: &Connection) -> Result<Vec<String>, JournalError> {
    let mut query = conn.prepare_cached(
        "SELECT session_key FROM inbound INDEXED BY inbound_waiting WHERE state IN (0, 1) GROUP BY session_key ORDER BY min(seq)",
    )?;
    let keys = query.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(keys)
}

fn step(conn: &Connection, seq: i64, event: InboundEvent) -> Result<InboundState, JournalError> {
    let state: InboundState = conn
        .prepare_cached("SELECT state FROM inbound WHERE seq = ?1")?
        .query_row([seq], |r| r.get(0))
        .optional()?
        .ok_or_else(|| JournalError::NoSuch { what: "message", id: seq.to_string() })?;
    state.on(event).map_err(|illegal| illegal.of("message", seq))
}

fn set(conn: &Connection, seq: i64, event: InboundEvent, run_id: Option<Id>) -> Result<(), JournalError> {
    let state = step(conn, seq, event)?;
    conn.prepare_cached("UPDATE inbound SET state = ?2, run_id = coalesce(?3, run_id) WHERE seq = ?1")?
        .execute(params![seq, state, run_id.as_ref().map(Id::as_bytes)])?;
    Ok(())
}

pub fn enqueue(conn: &Connection, seq: i64) -> Result<(), JournalError> {
    set(conn, seq, InboundEvent::Enqueue, None)
}

pub fn suppress(conn: &Connection, seqs: &[i64]) -> Result<(), JournalError> {
    seqs.iter().try_for_each(|seq| set(conn, *seq, InboundEvent::Suppress, None))
}

/// C2's half: the messages belong to the run from here on.
pub fn claim(conn: &Connection, seqs: &[i64], run_id: Id) -> Result<(), JournalError> {
    for seq in seqs {
        let owner =
            get(conn, *seq)?.and_then(|row| row.run_id.filter(|_| row.state == InboundState::Claimed));
        if owner == Some(run_id) {
            continue;
        }
        set(conn, *seq, InboundEvent::Claim, Some(run_id))?;
    }
    Ok(())
}

/// Why a message of a poisoned run is a dead letter.
pub const POISON_WHY: &str = "its agent died by its own doing each time it worked on this (3 times)";

/// C8's half.
pub fn release(conn: &Connection, run_id: Id, end: InboundEnd, now_us: i64) -> Result<(), JournalError> {
    for row in of_run(conn, run_id)? {
        match end {
            InboundEnd::Done => set(conn, row.seq, InboundEvent::Finish, None)?,
            InboundEnd::Requeue => {
                step(conn, row.seq, InboundEvent::Requeue)?;
                conn.prepare_cached("UPDATE inbound SET state = ?2, run_id = NULL WHERE seq = ?1")?
                    .execute(params![row.seq, InboundState::Queued])?;
            }
            InboundEnd::Dead => {
                set(conn, row.seq, InboundEvent::Kill, None)?;
                dead_letter::add(
                    conn,
                    &NewDeadLetter {
                        kind: DeadKind::Inbound,
                        reference: row.seq.to_string(),
                        account: row.account,
                        chat: row.chat,
                        why: POISON_WHY.to_owned(),
                        at_us: now_us,
                    },
                )?;
            }
        }
    }
    Ok(())
}

/// A dead letter goes back into its queue, free of the run that it killed.
pub fn revive(conn: &Connection, seq: i64) -> Result<(), JournalError> {
    step(conn, seq, InboundEvent::Revive)?;
    conn.prepare_cached(
        "UPDATE inbound SET state = ?2, run_id = NULL, attempts = attempts + 1 WHERE seq = ?1",
    )?
    .execute(params![seq, InboundState::Queued])?;
    Ok(())
}
