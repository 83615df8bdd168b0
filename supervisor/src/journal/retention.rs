//! Housekeeping: bodies go first, then the rows that only guard against repetition.

use rusqlite::{Connection, params};

use super::types::{JournalStats, Trimmed};
use super::{JournalError, ledger, outbox, sql};

const DAY_US: i64 = 24 * 3600 * 1_000_000;
/// Text of handled messages: long enough to look into a complaint, not an archive.
const BODY_KEPT_US: i64 = 7 * DAY_US;
/// A network does not deliver again what is a month old.
const DEDUPE_KEPT_US: i64 = 30 * DAY_US;
/// Same guard by number, for busy hosts (about 150 MB).
const DEDUPE_ROWS_MAX: i64 = 500_000;
const DELIVERED_KEPT_US: i64 = 7 * DAY_US;
const DEAD_KEPT_US: i64 = 30 * DAY_US;
/// Rows touched per table and pass, so that housekeeping never holds up a commit for long.
const PASS_ROWS_MAX: i64 = 2000;

pub fn trim(conn: &Connection, now_us: i64) -> Result<Trimmed, JournalError> {
    let pass = |sql: &str, before: i64| -> Result<u64, JournalError> {
        let n = conn.prepare_cached(sql)?.execute(params![before, PASS_ROWS_MAX])?;
        Ok(n as u64)
    };
    let mut done = Trimmed {
        bodies: pass(
            "UPDATE inbound SET body = NULL WHERE seq IN (SELECT seq FROM inbound
               WHERE state IN (3, 4) AND body IS NOT NULL AND recv_us < ?1 LIMIT ?2)",
            now_us - BODY_KEPT_US,
        )?,
        inbound: pass(
            "DELETE FROM inbound WHERE seq IN (SELECT seq FROM inbound
               WHERE state IN (3, 4, 5) AND recv_us < ?1 LIMIT ?2)",
            now_us - DEDUPE_KEPT_US,
        )?,
        runs: pass(
            "DELETE FROM run WHERE run_id IN (SELECT run_id FROM run WHERE ended_us IS NOT NULL AND ended_us < ?1 LIMIT ?2)",
            now_us - DEDUPE_KEPT_US,
        )?,
        outbox: pass(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox
               WHERE state = 4 AND created_us < ?1 LIMIT ?2)",
            now_us - DELIVERED_KEPT_US,
        )? + pass(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox
               WHERE state IN (4, 5, 6) AND created_us < ?1 LIMIT ?2)",
            now_us - DEAD_KEPT_US,
        )?,
        dedupe: pass(
            "DELETE FROM rpc_dedupe WHERE (method, key) IN (SELECT method, key FROM rpc_dedupe
               WHERE expires_us < ?1 LIMIT ?2)",
            now_us,
        )?,
        dead_letters: pass(
            "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE at_us < ?1 LIMIT ?2)",
            now_us - DEAD_KEPT_US,
        )?,
        more: false,
    };
    done.inbound += trim_by_number(conn)?;
    let most = [done.bodies, done.inbound, done.runs, done.outbox, done.dedupe, done.dead_letters];
    done.more = most.into_iter().max().unwrap_or(0) >= PASS_ROWS_MAX.unsigned_abs();
    Ok(done)
}

fn trim_by_number(conn: &Connection) -> Result<u64, JournalError> {
    let rows: i64 = conn
        .prepare_cached("SELECT count(*) FROM inbound WHERE state IN (3, 4, 5)")?
        .query_row([], |r| r.get(0))?;
    let excess = (rows - DEDUPE_ROWS_MAX).clamp(0, PASS_ROWS_MAX);
    if excess == 0 {
        return Ok(0);
    }
    let n = conn
        .prepare_cached(
            "DELETE FROM inbound WHERE seq IN (SELECT seq FROM inbound WHERE state IN (3, 4, 5) ORDER BY recv_us LIMIT ?1)",
        )?
        .execute([excess])?;
    Ok(n as u64)
}

/// The counts of [`JournalStats`]; what the writer knows is filled in by it.
pub fn stats(conn: &Connection) -> Result<JournalStats, JournalError> {
    let count = |sql: &str| -> Result<u64, JournalError> {
        Ok(conn.prepare_cached(sql)?.query_row([], |r| sql::u64_at(r, 0))?)
    };
    Ok(JournalStats {
        inbound_waiting: count("SELECT count(*) FROM inbound WHERE state IN (0, 1)")?,
        inbound_claimed: count("SELECT count(*) FROM inbound WHERE state = 2")?,
        runs_open: count("SELECT count(*) FROM run WHERE state IN (0, 1, 2)")?,
        outbox_open: count("SELECT count(*) FROM outbox WHERE state IN (0, 1, 2, 3)")?,
        outbox_unknown: count("SELECT count(*) FROM outbox WHERE state IN (0, 1, 2, 3) AND state = 3")?,
        outbox_failed: count("SELECT count(*) FROM outbox WHERE state = 5")?,
        maybe_dup: ledger::counter(conn, outbox::COUNT_MAYBE_DUP)?,
        orphan_placeholders: ledger::counter(conn, outbox::COUNT_ORPHANS)?,
        dead_letters: count("SELECT count(*) FROM dead_letter")?,
        ..JournalStats::default()
    })
}
