//! Runs: C2, their attempts, and C8 with everything that ends with them.

pub mod state;

use proto::wire::id::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::types::{
    FinishRun, Finished, InboundEnd, NewRun, RunCounts, RunOrigin, RunRow, RunStart, RunTimes,
};
use super::{JournalError, inbound, ledger, noted, outbox, session_index, sql};
use state::{InterruptCause, RunEvent, RunState};

const COLUMNS: &str = "run_id, client_run_id, session_key, agent, lane, origin, state, attempt, crashes, \
                       interruptions, epoch, created_us, started_us, ended_us, deadline_us, active_us, spec, outcome";

fn read(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        run_id: sql::id_at(row, 0)?,
        client_run_id: row.get(1)?,
        session_key: row.get(2)?,
        agent: row.get(3)?,
        lane: row.get(4)?,
        origin: row.get::<_, RunOrigin>(5)?,
        state: row.get(6)?,
        counts: RunCounts { attempt: row.get(7)?, crashes: row.get(8)?, interruptions: row.get(9)? },
        epoch: sql::u64_at(row, 10)?,
        times: RunTimes {
            created_us: row.get(11)?,
            started_us: row.get(12)?,
            ended_us: row.get(13)?,
            deadline_us: row.get(14)?,
            active_us: row.get(15)?,
        },
        spec: row.get(16)?,
        outcome: row.get(17)?,
    })
}

pub fn create(conn: &Connection, run: &NewRun) -> Result<(), JournalError> {
    sql::check_body("run", &run.spec)?;
    let inserted = conn
        .prepare_cached(
            "INSERT INTO run(run_id, client_run_id, session_key, agent, lane, origin, state, created_us, deadline_us, spec)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(run_id) DO NOTHING",
        )?
        .execute(params![
            run.run_id.as_bytes(),
            run.client_run_id,
            run.session_key,
            run.agent,
            run.lane,
            run.origin,
            RunState::Pending,
            run.created_us,
            run.deadline_us,
            run.spec
        ])?;
    if inserted == 0 {
        return Ok(());
    }
    noted::run(run.run_id, "claimed", json!({"messages": run.inbound.len(), "lane": run.lane}));
    inbound::claim(conn, &run.inbound, run.run_id)
}

pub fn get(conn: &Connection, run_id: Id) -> Result<Option<RunRow>, JournalError> {
    Ok(conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM run WHERE run_id = ?1"))?
        .query_row([run_id.as_bytes()], read)
        .optional()?)
}

pub fn by_client_id(conn: &Connection, client_run_id: &str) -> Result<Option<RunRow>, JournalError> {
    Ok(conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM run WHERE client_run_id = ?1 ORDER BY created_us DESC, run_id DESC LIMIT 1"
        ))?
        .query_row([client_run_id], read)
        .optional()?)
}

pub fn open(conn: &Connection, agent: Option<&str>) -> Result<Vec<RunRow>, JournalError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM run WHERE state IN (0, 1, 2) AND (?1 IS NULL OR agent = ?1) ORDER BY created_us, run_id"
    ))?;
    let rows = query.query_map([agent], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

fn known(conn: &Connection, run_id: Id) -> Result<RunRow, JournalError> {
    get(conn, run_id)?.ok_or_else(|| JournalError::NoSuch { what: "run", id: run_id.to_string() })
}

pub fn mark_started(
    conn: &Connection,
    run_id: Id,
    epoch: u64,
    now_us: i64,
) -> Result<RunStart, JournalError> {
    let row = known(conn, run_id)?;
    let state = row.state.on(RunEvent::Start).map_err(|illegal| illegal.of("run", run_id))?;
    let attempt = row.counts.attempt.saturating_add(1);
    let done = conn
        .prepare_cached(
            "UPDATE run SET state = ?2, attempt = ?3, epoch = ?4, started_us = ?5 WHERE run_id = ?1",
        )?
        .execute(params![run_id.as_bytes(), state, attempt, sql::as_i64(epoch), now_us]);
    match done {
        Ok(_) => {
            noted::run(run_id, "started", json!({"attempt": attempt, "epoch": epoch}));
            Ok(RunStart {
                attempt,
                interruptions: row.counts.interruptions,
                active_us: row.times.active_us,
                events: ledger::system_event_take(conn, &row.session_key, run_id)?,
                parts: outbox::of_run(conn, run_id)?,
            })
        }
        // The unique index over started runs: serialisation per session is a fact of the database.
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Err(JournalError::SessionBusy { session_key: row.session_key })
        }
        Err(e) => Err(e.into()),
    }
}

pub fn claim_more(conn: &Connection, run_id: Id, seqs: &[i64]) -> Result<(), JournalError> {
    let row = known(conn, run_id)?;
    if row.state.ended() {
        return Err(sql::Illegal { from: row.state.name(), event: "claim" }.of("run", run_id));
    }
    noted::run(run_id, "steered", json!({"messages": seqs.len()}));
    inbound::claim(conn, seqs, run_id)
}

pub fn interrupt(
    conn: &Connection,
    run_id: Id,
    cause: InterruptCause,
    now_us: Option<i64>,
) -> Result<RunRow, JournalError> {
    let row = known(conn, run_id)?;
    let state = row.state.on(RunEvent::Interrupt).map_err(|illegal| illegal.of("run", run_id))?;
    if row.state == state {
        return Ok(row);
    }
    let crashes = i64::from(cause == InterruptCause::SelfInflicted);
    // A crash of the whole host tells no time: the attempt's active time is then not counted against the run.
    let active = match (now_us, row.times.started_us) {
        (Some(now), Some(started)) => now.saturating_sub(started).max(0),
        _ => 0,
    };
    conn.prepare_cached(
        "UPDATE run SET state = ?2, crashes = crashes + ?3, interruptions = interruptions + 1,
           active_us = active_us + ?4 WHERE run_id = ?1",
    )?
    .execute(params![run_id.as_bytes(), state, crashes, active])?;
    noted::interrupted(&row, cause.name());
    known(conn, run_id)
}

pub fn finish(conn: &Connection, end: &FinishRun) -> Result<Finished, JournalError> {
    sql::check_body("outcome", &end.outcome)?;
    let row = known(conn, end.run_id)?;
    if row.state.ended() {
        let drafts_left = outbox::draft::unused(conn, end.run_id)?;
        return Ok(Finished { inserted: Vec::new(), already: true, state: row.state, drafts_left });
    }
    let illegal = sql::Illegal { from: row.state.name(), event: end.state.name() };
    let event = end.state.ending().ok_or_else(|| illegal.of("run", end.run_id))?;
    let mut state = row.state.on(event).map_err(|illegal| illegal.of("run", end.run_id))?;
    let mut inserted = Vec::new();
    for out in &end.outbox {
        if outbox::insert(conn, out)? {
            inserted.push(out.out_id);
        }
    }
    if !outbox::has_open(conn, end.run_id)? {
        state = state.on(RunEvent::Close).unwrap_or(state);
    }
    let active = match (row.state, row.times.started_us) {
        (RunState::Started, Some(started)) => end.ended_us.saturating_sub(started).max(0),
        _ => 0,
    };
    conn.prepare_cached(
        "UPDATE run SET state = ?2, ended_us = ?3, outcome = ?4, active_us = active_us + ?5 WHERE run_id = ?1",
    )?
    .execute(params![end.run_id.as_bytes(), state, end.ended_us, end.outcome, active])?;
    noted::run(end.run_id, "ended", json!({"state": end.state.name(), "parts": inserted.len()}));
    inbound::release(conn, end.run_id, end.inbound, end.ended_us)?;
    if end.inbound == InboundEnd::Requeue {
        ledger::system_event_untake(conn, end.run_id)?;
    } else {
        ledger::system_event_drop(conn, end.run_id)?;
    }
    if let Some(session) = &end.session {
        session_index::changed(conn, std::slice::from_ref(session))?;
    }
    if let Some(usage) = &end.usage {
        ledger::usage_add(conn, usage)?;
    }
    let drafts_left = outbox::draft::unused(conn, end.run_id)?;
    Ok(Finished { inserted, already: false, state, drafts_left })
}

/// Called when a delivery of the run settled: the last one closes it.
pub fn close_if_settled(conn: &Connection, run_id: Id) -> Result<(), JournalError> {
    let Some(row) = get(conn, run_id)? else { return Ok(()) };
    let Ok(state) = row.state.on(RunEvent::Close) else { return Ok(()) };
    if !outbox::has_open(conn, run_id)? {
        conn.prepare_cached("UPDATE run SET state = ?2 WHERE run_id = ?1")?
            .execute(params![run_id.as_bytes(), state])?;
    }
    Ok(())
}
