//! Opening the store: the directory, the connection, the mark of the last stop, and the check after an unclean one.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::recover::{KV_BOOT, KV_CLEAN};
use super::types::Integrity;
use super::writer::{BUSY_WAIT, CACHE_KIB, Shared, SyncLevel, WAL_BYTES_MAX};
use super::{JournalError, JournalHandle, disk, ledger, schema};

/// A disk without room shows itself as whatever SQLite was about to do.
pub(super) fn not_opened(dir: &Path, error: JournalError) -> JournalError {
    let path = dir.display().to_string();
    let why = match error {
        JournalError::ReadOnly { why } | JournalError::Sqlite(why) => why,
        other => return other,
    };
    let place = dir.ancestors().find(|place| place.exists()).unwrap_or(dir);
    match disk::free_bytes(place) {
        Some(free) if free < disk::START_BYTES_MIN => JournalError::NoSpace { path, free, why },
        _ => JournalError::Open { path, why },
    }
}

/// A store that is made in a corner of the disk could take nothing.
pub(super) fn has_room(dir: &Path) -> Result<(), JournalError> {
    match disk::free_bytes(dir) {
        Some(free) if free < disk::START_BYTES_MIN => {
            let path = dir.display().to_string();
            Err(JournalError::NoSpace { path, free, why: "the journal is not made yet".to_owned() })
        }
        _ => Ok(()),
    }
}

impl JournalHandle {
    /// What kept the first steps of a start from being stored, with place and remedy: the process that would go on by itself
    /// when there is room ends.
    pub fn not_begun(&self, error: JournalError) -> JournalError {
        not_opened(self.shared.db.parent().unwrap_or(Path::new("/")), error)
    }
}

pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

pub(super) fn open(db: &Path, sync: SyncLevel) -> Result<Connection, JournalError> {
    let conn = Connection::open(db)?;
    let level = match sync {
        SyncLevel::Full => "FULL",
        SyncLevel::Normal => "NORMAL",
    };
    conn.set_prepared_statement_cache_capacity(128);
    conn.busy_timeout(BUSY_WAIT)?;
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {level}; PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {WAL_BYTES_MAX}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;"
    ))?;
    schema::migrate(&conn)?;
    Ok(conn)
}

/// Counts the start and takes the mark of the clean stop away. Gives whether it was there.
pub(super) fn begin_life(conn: &Connection, fresh: bool) -> Result<bool, JournalError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let clean = fresh || ledger::kv_get(conn, KV_CLEAN)?.is_some();
    ledger::kv_put(conn, KV_CLEAN, None)?;
    ledger::count(conn, KV_BOOT)?;
    conn.execute_batch("COMMIT")?;
    Ok(clean)
}

pub(super) fn check_in_background(shared: &Arc<Shared>) -> std::io::Result<()> {
    let shared = shared.clone();
    std::thread::Builder::new().name("journal-check".into()).spawn(move || {
        let found = match Connection::open_with_flags(&shared.db, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        {
            Ok(conn) => quick_check(&conn),
            Err(e) => Integrity::Bad(e.to_string()),
        };
        if let Integrity::Bad(why) = &found {
            tracing::error!(
                why,
                "the journal is damaged: stop the gateway and restore journal.db from a backup"
            );
        }
        shared.set_integrity(found);
    })?;
    Ok(())
}

pub(super) fn quick_check(conn: &Connection) -> Integrity {
    match conn.query_row("PRAGMA quick_check(1)", [], |r| r.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => Integrity::Good,
        Ok(answer) => Integrity::Bad(answer),
        Err(e) => Integrity::Bad(e.to_string()),
    }
}
