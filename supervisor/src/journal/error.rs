//! What the journal can refuse or fail with.

/// Each message names the thing, the place and, where a person can do something, the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Nothing was stored and nothing may be acknowledged. Retried every 5 s; worth trying again later.
    #[error("the journal cannot write ({why}): free some space or repair the disk; it goes on by itself")]
    ReadOnly { why: String },
    #[error("the journal is closed: the gateway is stopping")]
    Closed,
    #[error("session {session_key} already has a run in progress")]
    SessionBusy { session_key: String },
    #[error("no {what} {id} in the journal")]
    NoSuch { what: &'static str, id: String },
    #[error("{what} {id} is {from}: {event} is not possible")]
    Illegal { what: &'static str, id: String, from: &'static str, event: &'static str },
    /// A worker of an earlier life speaks.
    #[error("delivery {id} is leased to epoch {held}, not to {asked}")]
    StaleEpoch { id: String, held: u64, asked: u64 },
    #[error("delivery {id} has to wait: an earlier one of its chat is open")]
    OutOfOrder { id: String },
    #[error("{what} of {bytes} bytes is larger than {max}")]
    TooLarge { what: &'static str, bytes: usize, max: usize },
    #[error(
        "{path} is on {fs}, where SQLite locks and syncs cannot be trusted: move the state directory to a local disk or start with --unsafe-fs"
    )]
    UnsafeFilesystem { path: String, fs: &'static str },
    #[error(
        "the journal has schema {found}, this build knows up to {known}: run the newer build or restore a backup"
    )]
    NewerSchema { found: i64, known: i64 },
    #[error(
        "the disk is full: {} free at {path}, the gateway needs 1 MiB to start: free some space there, then start it again; nothing that was accepted is lost ({why})",
        crate::journal::disk::bytes_text(*free)
    )]
    NoSpace { path: String, free: u64, why: String },
    #[error("failed to open the journal {path}: {why}")]
    Open { path: String, why: String },
    #[error("journal: {0}")]
    Sqlite(String),
}

impl JournalError {
    /// Trying the same again later can help.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::ReadOnly { .. } | Self::SessionBusy { .. } | Self::OutOfOrder { .. })
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(e: rusqlite::Error) -> Self {
        if is_disk_trouble(&e) { Self::ReadOnly { why: e.to_string() } } else { Self::Sqlite(e.to_string()) }
    }
}

/// Full or failing disk, memory or a lock that is wanting now, as opposed to a mistake in a statement.
pub fn is_disk_trouble(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as C;
    matches!(
        e.sqlite_error_code(),
        Some(
            C::DiskFull
                | C::SystemIoFailure
                | C::ReadOnly
                | C::CannotOpen
                | C::NotADatabase
                | C::DatabaseCorrupt
                | C::OutOfMemory
                | C::DatabaseBusy
                | C::DatabaseLocked
        )
    )
}
