//! A look at the journal of a stopped gateway, for `doctor`. Changes nothing.

use super::{Integrity, schema};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// What is wrong with the database in `dir`; `None` when there is none yet or all is well. Blocks for as long as reading
/// the whole file takes. The caller holds the instance lock.
#[must_use]
pub fn fault(dir: &Path) -> Option<String> {
    let db = dir.join("journal.db");
    if !db.exists() {
        return None;
    }
    let conn = match Connection::open_with_flags(&db, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Ok(conn) => conn,
        Err(error) => return Some(error.to_string()),
    };
    if let Integrity::Bad(why) = super::open::quick_check(&conn) {
        return Some(why);
    }
    let version: i64 = match conn.query_row("PRAGMA user_version", [], |row| row.get(0)) {
        Ok(version) => version,
        Err(error) => return Some(error.to_string()),
    };
    let known = schema::SCHEMA_VERSION;
    let readable = schema::is_readable(&conn).unwrap_or(false);
    (version > known && !readable).then(|| {
        format!("written by a newer release (schema {version}, this one knows {known}); run that release")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_newer_releases_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fault(dir.path()), None);
        let db = dir.path().join("journal.db");
        let conn = Connection::open(&db).unwrap();
        schema::migrate(&conn).unwrap();
        assert_eq!(fault(dir.path()), None);
        conn.execute_batch("PRAGMA user_version = 99; PRAGMA application_id = 99").unwrap();
        drop(conn);
        assert!(fault(dir.path()).is_some_and(|why| why.contains("schema 99")));
        std::fs::write(&db, "not a database, and long enough to have a header of its own kind").unwrap();
        assert!(fault(dir.path()).is_some());
    }
}
