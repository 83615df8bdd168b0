//! Deliveries: C9, C10, C12. The rules are in [`state`]; here they meet the rows.

pub mod draft;
pub mod operator;
pub mod state;

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::types::{DeadKind, NewDeadLetter, NewOutbox, OutboxRow, SendOutcome, Settled};
use super::{JournalError, dead_letter, ledger, noted, run, sql};
use state::{Effect, Facts, OnUnknown, OutEvent, OutState, Step, WireKind};

/// Counter of sends that may show twice.
pub const COUNT_MAYBE_DUP: &str = "count/maybe_dup";
/// Counter of placeholders that may stand empty.
pub const COUNT_ORPHANS: &str = "count/orphan_placeholders";
/// Pause before a send whose answer was lost is tried again (1 s): a network that cuts one connection cuts the next too.
const UNKNOWN_PAUSE_US: i64 = 1_000_000;
/// How long a delivery that was put back by hand may wait (1 h, as a new one).
const REVIVE_TTL_US: i64 = 3600 * 1_000_000;

const COLUMNS: &str = "seq, out_id, run_id, part, account, chat, body, idem_key, class, on_unknown, prior_ext, \
                       created_us, expires_us, state, wire, attempts, epoch, next_us, maybe_dup, ext_ids, err";

/// The namespace of ids derived from a message that made no run (pairing replies, dead-letter notes).
pub fn origin_of(account: &str, ext_id: &str) -> Id {
    Id::derived(&Id::NIL, &format!("{account}|{ext_id}"), 0)
}

fn read(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let ext_ids: String = row.get(19)?;
    Ok(OutboxRow {
        seq: row.get(0)?,
        item: NewOutbox {
            out_id: sql::id_at(row, 1)?,
            run_id: sql::opt_id_at(row, 2)?,
            part: row.get(3)?,
            account: row.get(4)?,
            chat: row.get(5)?,
            body: row.get(6)?,
            idem_key: row.get(7)?,
            class: row.get(8)?,
            on_unknown: row.get(9)?,
            prior_ext: row.get(10)?,
            created_us: row.get(11)?,
            expires_us: row.get(12)?,
        },
        state: row.get(13)?,
        wire: row.get(14)?,
        attempts: row.get(15)?,
        epoch: sql::u64_at(row, 16)?,
        next_us: row.get(17)?,
        maybe_dup: row.get(18)?,
        ext_ids: serde_json::from_str(&ext_ids).unwrap_or_default(),
        err: row.get(20)?,
    })
}

/// Adds a row unless it exists. A placeholder that stands for it makes it an edit.
pub fn insert(conn: &Connection, new: &NewOutbox) -> Result<bool, JournalError> {
    sql::check_body("delivery", &new.body)?;
    let prior = match &new.prior_ext {
        Some(prior) => Some(prior.clone()),
        None => draft::ext_of(conn, new.out_id)?,
    };
    let n = conn
        .prepare_cached(
            "INSERT INTO outbox(out_id, run_id, part, account, chat, body, idem_key, class, on_unknown, prior_ext,
               created_us, expires_us, state, next_us)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?11) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            new.out_id.as_bytes(),
            new.run_id.as_ref().map(Id::as_bytes),
            new.part,
            new.account,
            new.chat,
            new.body,
            new.idem_key,
            new.class,
            new.on_unknown,
            prior,
            new.created_us,
            new.expires_us,
            OutState::Pending
        ])?;
    if n > 0 {
        noted::queued(new);
    }
    Ok(n > 0)
}

pub fn add(conn: &Connection, rows: &[NewOutbox]) -> Result<Vec<Id>, JournalError> {
    let mut new = Vec::new();
    for row in rows {
        if insert(conn, row)? {
            new.push(row.out_id);
        }
    }
    Ok(new)
}

pub fn get(conn: &Connection, out_id: Id) -> Result<Option<OutboxRow>, JournalError> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE out_id = ?1"))?
        .query_row([out_id.as_bytes()], read)
        .optional()?)
}

fn known(conn: &Connection, out_id: Id) -> Result<OutboxRow, JournalError> {
    get(conn, out_id)?.ok_or_else(|| JournalError::NoSuch { what: "delivery", id: out_id.to_string() })
}

fn select<P: rusqlite::Params>(
    conn: &Connection,
    tail: &str,
    params: P,
) -> Result<Vec<OutboxRow>, JournalError> {
    let mut query = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox {tail}"))?;
    let rows = query.query_map(params, read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub fn of_run(conn: &Connection, run_id: Id) -> Result<Vec<OutboxRow>, JournalError> {
    select(conn, "WHERE run_id = ?1 ORDER BY part", [run_id.as_bytes()])
}

pub fn open(conn: &Connection, account: Option<&str>) -> Result<Vec<OutboxRow>, JournalError> {
    select(
        conn,
        "INDEXED BY outbox_open WHERE state IN (0, 1, 2, 3) AND (?1 IS NULL OR account = ?1) ORDER BY seq",
        [account],
    )
}

/// Rows of a dead or unknown lease holder; of one account, or of all.
pub fn in_flight(conn: &Connection, account: Option<&str>) -> Result<Vec<OutboxRow>, JournalError> {
    select(
        conn,
        "INDEXED BY outbox_open WHERE state IN (0, 1, 2, 3) AND state > 0 AND (?1 IS NULL OR account = ?1) ORDER BY seq",
        [account],
    )
}

pub fn overdue(conn: &Connection, now_us: i64) -> Result<Vec<OutboxRow>, JournalError> {
    select(
        conn,
        "INDEXED BY outbox_expiry WHERE state IN (0, 1, 3) AND expires_us < ?1 ORDER BY seq",
        [now_us],
    )
}

/// In the way of a row: anything open and earlier in its chat.
const NOTHING_BEFORE: &str = "NOT EXISTS (SELECT 1 FROM outbox e WHERE e.account = o.account AND e.chat = o.chat \
                              AND e.seq < o.seq AND e.state IN (0, 1, 2, 3))";

pub fn due(
    conn: &Connection,
    account: &str,
    now_us: i64,
    limit: u32,
) -> Result<Vec<OutboxRow>, JournalError> {
    select(
        conn,
        &format!(
            "AS o INDEXED BY outbox_due WHERE account = ?1 AND state = 0 AND next_us <= ?2 AND expires_us >= ?2 AND {NOTHING_BEFORE}
             ORDER BY seq LIMIT ?3"
        ),
        params![account, now_us, limit],
    )
}

pub fn next_due(conn: &Connection) -> Result<Vec<(String, i64)>, JournalError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT account, min(next_us) FROM outbox o INDEXED BY outbox_due WHERE state = 0 AND {NOTHING_BEFORE} GROUP BY account"
    ))?;
    let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub fn has_open(conn: &Connection, run_id: Id) -> Result<bool, JournalError> {
    Ok(conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM outbox WHERE run_id = ?1 AND state IN (0, 1, 2, 3))")?
        .query_row([run_id.as_bytes()], |r| r.get(0))?)
}

fn facts(row: &OutboxRow, now_us: i64) -> Facts {
    Facts {
        class: row.item.class,
        on_unknown: row.item.on_unknown,
        wire: row.wire,
        is_edit: row.item.prior_ext.is_some(),
        maybe_dup: row.maybe_dup,
        age_us: now_us.saturating_sub(row.item.created_us),
    }
}

fn decide(row: &OutboxRow, event: OutEvent, now_us: i64) -> Result<Step, JournalError> {
    row.state.on(event, facts(row, now_us)).map_err(|illegal| illegal.of("delivery", row.item.out_id))
}

/// `on_unknown` is the operator's choice as it stands now, for this try.
pub fn lease(
    conn: &Connection,
    out_id: Id,
    epoch: u64,
    on_unknown: OnUnknown,
    now_us: i64,
) -> Result<OutboxRow, JournalError> {
    let row = known(conn, out_id)?;
    let step = decide(&row, OutEvent::Lease, now_us)?;
    let first: bool = conn
        .prepare_cached(&format!("SELECT {NOTHING_BEFORE} FROM outbox o WHERE out_id = ?1"))?
        .query_row([out_id.as_bytes()], |r| r.get(0))?;
    if !first {
        return Err(JournalError::OutOfOrder { id: out_id.to_string() });
    }
    conn.prepare_cached(
        "UPDATE outbox SET state = ?2, epoch = ?3, on_unknown = ?4, attempts = attempts + 1 WHERE out_id = ?1",
    )?
    .execute(params![out_id.as_bytes(), step.to, sql::as_i64(epoch), on_unknown])?;
    let row = known(conn, out_id)?;
    noted::delivery(&row, "leased");
    Ok(row)
}

/// Only the holder of the lease may speak about what is in flight.
fn fence(row: &OutboxRow, epoch: u64) -> Result<(), JournalError> {
    let held = matches!(row.state, OutState::Leased | OutState::Wire);
    if held && row.epoch != epoch {
        let id = row.item.out_id.to_string();
        return Err(JournalError::StaleEpoch { id, held: row.epoch, asked: epoch });
    }
    Ok(())
}

pub fn wire(conn: &Connection, out_id: Id, epoch: u64, kind: WireKind) -> Result<(), JournalError> {
    let row = known(conn, out_id)?;
    fence(&row, epoch)?;
    if row.state == OutState::Wire && kind == WireKind::Plain {
        // Its texts were edits; what follows can be told apart by nobody.
        conn.prepare_cached("UPDATE outbox SET wire = ?2 WHERE out_id = ?1")?
            .execute(params![out_id.as_bytes(), kind])?;
        return Ok(());
    }
    let step = decide(&row, OutEvent::SendStarted, row.item.created_us)?;
    conn.prepare_cached("UPDATE outbox SET state = ?2, wire = ?3 WHERE out_id = ?1")?.execute(params![
        out_id.as_bytes(),
        step.to,
        kind
    ])?;
    noted::delivery(&row, "wire");
    Ok(())
}

pub fn placed(conn: &Connection, out_id: Id, epoch: u64, ext_id: &str) -> Result<(), JournalError> {
    let row = known(conn, out_id)?;
    fence(&row, epoch)?;
    if !row.state.open() {
        return Err(sql::Illegal { from: row.state.name(), event: "placed" }.of("delivery", out_id));
    }
    conn.prepare_cached("UPDATE outbox SET prior_ext = ?2 WHERE out_id = ?1")?
        .execute(params![out_id.as_bytes(), ext_id])?;
    noted::delivery(&row, "placed");
    Ok(())
}

pub fn settle(
    conn: &Connection,
    out_id: Id,
    epoch: u64,
    outcome: &SendOutcome,
    now_us: i64,
) -> Result<Settled, JournalError> {
    let row = known(conn, out_id)?;
    let (event, ext_ids, next_us, err) = match outcome {
        SendOutcome::Delivered { ext_ids } => (OutEvent::Delivered, Some(ext_ids), None, None),
        SendOutcome::Retry { next_us, why } => (OutEvent::Retry, None, Some(*next_us), Some(why)),
        SendOutcome::Permanent { why } => (OutEvent::Permanent, None, None, Some(why)),
        SendOutcome::Unknown { why } => {
            (OutEvent::Unknown, None, Some(now_us.saturating_add(UNKNOWN_PAUSE_US)), Some(why))
        }
        SendOutcome::NotSent => (OutEvent::NotSent, None, None, None),
    };
    if event != OutEvent::Delivered {
        fence(&row, epoch)?;
    }
    if event == OutEvent::Delivered && row.state == OutState::Delivered {
        return Ok(Settled { row, tell_user: false, reconcile: false });
    }
    apply(
        conn,
        &row,
        event,
        Change { ext_ids: ext_ids.map(Vec::as_slice), next_us, err: err.map(String::as_str), now_us },
    )
}

/// What an event brings besides itself.
#[derive(Default)]
pub struct Change<'a> {
    pub ext_ids: Option<&'a [String]>,
    pub next_us: Option<i64>,
    pub err: Option<&'a str>,
    pub now_us: i64,
}

/// The only place where a row ends or goes back: counts, dead letters, drafts and the run follow from it.
pub fn apply(
    conn: &Connection,
    row: &OutboxRow,
    event: OutEvent,
    change: Change<'_>,
) -> Result<Settled, JournalError> {
    let step = decide(row, event, change.now_us)?;
    let out_id = row.item.out_id;
    match step.effect {
        Effect::None => {}
        Effect::MaybeDup => ledger::count(conn, COUNT_MAYBE_DUP)?,
        Effect::OrphanPlaceholder => ledger::count(conn, COUNT_ORPHANS)?,
    }
    let (revived, given_up) = (event == OutEvent::Revive, event == OutEvent::Discard);
    let nothing_left = matches!(event, OutEvent::Retry | OutEvent::NotSent) && row.state != OutState::Unknown
        || event == OutEvent::NotSent
        || step.effect == Effect::OrphanPlaceholder;
    let wire = if nothing_left { WireKind::Nothing } else { row.wire };
    let err = match (step.to, change.err) {
        (OutState::Failed, _) if matches!(event, OutEvent::WorkerGone | OutEvent::Unknown) => {
            Some("outcome unknown")
        }
        (OutState::Expired, _) => Some("too old"),
        (OutState::Delivered, _) => None,
        (_, err) => err.or(row.err.as_deref()),
    };
    let ext_ids =
        serde_json::to_string(change.ext_ids.unwrap_or(&row.ext_ids)).unwrap_or_else(|_| "[]".into());
    let expires_us = if revived { change.now_us.saturating_add(REVIVE_TTL_US) } else { row.item.expires_us };
    conn.prepare_cached(
        "UPDATE outbox SET state = ?2, wire = ?3, next_us = ?4, maybe_dup = ?5, ext_ids = ?6, err = ?7, expires_us = ?8
         WHERE out_id = ?1",
    )?
    .execute(params![
        out_id.as_bytes(),
        step.to,
        wire,
        change.next_us.unwrap_or(if step.to == OutState::Pending { change.now_us } else { row.next_us }),
        row.maybe_dup || step.effect == Effect::MaybeDup,
        ext_ids,
        err,
        expires_us
    ])?;
    let ended_bad = matches!(step.to, OutState::Failed | OutState::Expired) && row.state.open() && !given_up;
    if ended_bad {
        let why = err.unwrap_or("refused by the network").to_owned();
        dead_letter::add(conn, &letter(row, why, change.now_us))?;
    } else if step.to == OutState::Delivered || revived || given_up {
        dead_letter::remove(conn, DeadKind::Outbox, &out_id.to_string())?;
    }
    if !step.to.open() {
        draft::gone(conn, out_id)?;
        if let Some(run_id) = row.item.run_id {
            run::close_if_settled(conn, run_id)?;
        }
    }
    let row = known(conn, out_id)?;
    noted::delivery(&row, word(event, step.to));
    let tell_user = step.to == OutState::Failed && ended_bad;
    Ok(Settled { tell_user, reconcile: step.to == OutState::Unknown, row })
}

/// What a trace calls it.
fn word(event: OutEvent, to: OutState) -> &'static str {
    match (event, to) {
        (_, OutState::Delivered) => "delivered",
        (OutEvent::Discard, _) => "discarded",
        (_, OutState::Unknown) => "unknown",
        (_, OutState::Failed) => "failed",
        (_, OutState::Expired) => "expired",
        (OutEvent::Revive, _) => "revived",
        (OutEvent::WorkerGone, _) => "released",
        _ => "putOff",
    }
}

fn letter(row: &OutboxRow, why: String, at_us: i64) -> NewDeadLetter {
    NewDeadLetter {
        kind: DeadKind::Outbox,
        reference: row.item.out_id.to_string(),
        account: row.item.account.clone(),
        chat: row.item.chat.clone(),
        why,
        at_us,
    }
}
