//! The tables, and how an older file becomes the newest schema.

use proto::runtime::failpoint;
use rusqlite::Connection;

use super::JournalError;

/// `PRAGMA user_version` of the tables below.
pub const SCHEMA_VERSION: i64 = 1;

/// The oldest build that can work with a file of [`SCHEMA_VERSION`], kept in the file as `PRAGMA application_id`: a build that is
/// put back after an update must be able to open what the newer one left. Steps that only add leave it as it is.
pub const READABLE_BY: i64 = 1;

/// One script per step; step `n` brings version `n` to `n + 1`. Steps that were released are never edited.
const STEPS: &[&str] = &[V1];

const V1: &str = "
CREATE TABLE inbound(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, ext_id TEXT NOT NULL, chat TEXT NOT NULL,
  session_key TEXT NOT NULL, agent TEXT NOT NULL, client_run_id TEXT, recv_us INTEGER NOT NULL, net_ts_us INTEGER,
  state INTEGER NOT NULL, run_id BLOB, attempts INTEGER NOT NULL DEFAULT 0, body BLOB, raw_hash BLOB,
  UNIQUE(account, ext_id)) STRICT;
CREATE INDEX inbound_waiting ON inbound(session_key, seq) WHERE state IN (0, 1);
CREATE INDEX inbound_claimed ON inbound(seq) WHERE state = 2;
CREATE INDEX inbound_run ON inbound(run_id, seq) WHERE run_id IS NOT NULL;
CREATE INDEX inbound_age ON inbound(recv_us) WHERE state IN (3, 4, 5);
CREATE INDEX inbound_body ON inbound(recv_us) WHERE state IN (3, 4) AND body IS NOT NULL;

CREATE TABLE run(
  run_id BLOB PRIMARY KEY, client_run_id TEXT NOT NULL, session_key TEXT NOT NULL, agent TEXT NOT NULL,
  lane TEXT NOT NULL, origin INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL DEFAULT 0,
  created_us INTEGER NOT NULL, started_us INTEGER, ended_us INTEGER, deadline_us INTEGER,
  active_us INTEGER NOT NULL DEFAULT 0, spec BLOB NOT NULL, outcome BLOB) STRICT;
CREATE UNIQUE INDEX run_started ON run(session_key) WHERE state = 1;
CREATE INDEX run_open ON run(created_us) WHERE state IN (0, 1, 2);
CREATE INDEX run_client ON run(client_run_id, created_us);
CREATE INDEX run_ended ON run(ended_us) WHERE ended_us IS NOT NULL;

CREATE TABLE outbox(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, out_id BLOB NOT NULL UNIQUE, run_id BLOB, part INTEGER NOT NULL,
  account TEXT NOT NULL, chat TEXT NOT NULL, body BLOB NOT NULL, idem_key TEXT NOT NULL, class INTEGER NOT NULL,
  on_unknown INTEGER NOT NULL, prior_ext TEXT, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,
  state INTEGER NOT NULL, wire INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0, next_us INTEGER NOT NULL, maybe_dup INTEGER NOT NULL DEFAULT 0,
  ext_ids TEXT NOT NULL DEFAULT '[]', err TEXT, UNIQUE(run_id, part)) STRICT;
CREATE INDEX outbox_open ON outbox(account, chat, seq) WHERE state IN (0, 1, 2, 3);
CREATE INDEX outbox_due ON outbox(next_us) WHERE state = 0;
CREATE INDEX outbox_expiry ON outbox(expires_us) WHERE state IN (0, 1, 3);
CREATE INDEX outbox_failed ON outbox(created_us) WHERE state = 5;
CREATE INDEX outbox_delivered ON outbox(created_us) WHERE state = 4;
CREATE INDEX outbox_age ON outbox(created_us) WHERE state IN (4, 5, 6);

CREATE TABLE draft(
  out_id BLOB PRIMARY KEY, run_id BLOB NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, ext_id TEXT)
  STRICT, WITHOUT ROWID;
CREATE INDEX draft_run ON draft(run_id);

CREATE TABLE session_index(
  session_key TEXT PRIMARY KEY, agent TEXT NOT NULL, session_id TEXT NOT NULL, updated_ms INTEGER NOT NULL,
  label TEXT, spawned_by TEXT, search TEXT NOT NULL, title TEXT, last_message TEXT, entry TEXT NOT NULL) STRICT;
CREATE INDEX session_recent ON session_index(updated_ms);

CREATE TABLE rpc_dedupe(
  method TEXT NOT NULL, key TEXT NOT NULL, req_hash BLOB, res BLOB, inbound_seq INTEGER, expires_us INTEGER NOT NULL,
  PRIMARY KEY(method, key)) STRICT;
CREATE INDEX dedupe_expiry ON rpc_dedupe(expires_us);

CREATE TABLE cursor(
  account TEXT NOT NULL, scope TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(account, scope)) STRICT, WITHOUT ROWID;
CREATE TABLE kv(k TEXT PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE system_event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT NOT NULL, at_us INTEGER NOT NULL, text TEXT NOT NULL,
  context_key TEXT, run_id BLOB) STRICT;
CREATE INDEX system_event_session ON system_event(session_key, seq);
CREATE INDEX system_event_run ON system_event(run_id) WHERE run_id IS NOT NULL;

CREATE TABLE usage_day(
  day TEXT NOT NULL, agent TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, input INTEGER NOT NULL,
  output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, cost_micros INTEGER NOT NULL,
  turns INTEGER NOT NULL, PRIMARY KEY(day, agent, provider, model)) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter(
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, reference TEXT NOT NULL, account TEXT NOT NULL,
  chat TEXT NOT NULL, why TEXT NOT NULL, at_us INTEGER NOT NULL, UNIQUE(kind, reference)) STRICT;
";

/// Brings the file to [`SCHEMA_VERSION`], each step in a transaction of its own.
pub fn migrate(conn: &Connection) -> Result<(), JournalError> {
    let found = pragma(conn, "user_version")?;
    if found > SCHEMA_VERSION {
        if is_readable(conn)? {
            return Ok(());
        }
        return Err(JournalError::NewerSchema { found, known: SCHEMA_VERSION });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (step, script) in STEPS.iter().enumerate().skip(done) {
        let next = step + 1;
        failpoint::hit("sv.migrate.mid");
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {script} PRAGMA user_version = {next}; COMMIT;"))?;
    }
    if pragma(conn, "application_id")? != READABLE_BY {
        conn.pragma_update(None, "application_id", READABLE_BY)?;
    }
    Ok(())
}

/// Whether a newer build said that this one can work with the file.
pub fn is_readable(conn: &Connection) -> Result<bool, JournalError> {
    Ok((1..=SCHEMA_VERSION).contains(&pragma(conn, "application_id")?))
}

fn pragma(conn: &Connection, name: &str) -> Result<i64, JournalError> {
    Ok(conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_file_is_opened_if_its_build_says_that_this_one_can() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn).unwrap();
        assert_eq!(pragma(&conn, "application_id"), Ok(READABLE_BY));
        conn.execute_batch("ALTER TABLE run ADD COLUMN later TEXT; PRAGMA user_version = 7").unwrap();
        migrate(&conn).unwrap();
        assert_eq!(pragma(&conn, "user_version"), Ok(7), "nothing is taken back");
        conn.execute_batch("PRAGMA application_id = 7").unwrap();
        assert_eq!(migrate(&conn), Err(JournalError::NewerSchema { found: 7, known: SCHEMA_VERSION }));
    }
}
