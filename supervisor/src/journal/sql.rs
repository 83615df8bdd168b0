//! The little that every table file needs: enums as integers, ids as blobs, sizes checked before they are stored.

use proto::wire::id::Id;
use rusqlite::types::Type;

use super::{BODY_BYTES_MAX, JournalError};

/// An enum whose number is what the database holds. Numbers are for ever: add at the end, never renumber.
macro_rules! int_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $n:literal $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant = $n,)+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number in the database.
            pub const fn code(self) -> i64 { self as i64 }

            /// The word for people and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub fn from_code(code: i64) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.code() == code)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.name()) }
        }

        impl rusqlite::types::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> { Ok(self.code().into()) }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                let code = value.as_i64()?;
                Self::from_code(code).ok_or(rusqlite::types::FromSqlError::OutOfRange(code))
            }
        }
    };
}
pub(super) use int_enum;

/// An event that a state does not allow. The pure tables give it, the drivers name the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal {
    pub from: &'static str,
    pub event: &'static str,
}

impl Illegal {
    pub fn of(self, what: &'static str, id: impl ToString) -> JournalError {
        JournalError::Illegal { what, id: id.to_string(), from: self.from, event: self.event }
    }
}

pub fn id_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Id> {
    opt_id_at(row, column)?.ok_or(rusqlite::Error::InvalidColumnType(column, "id".into(), Type::Null))
}

pub fn opt_id_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Id>> {
    let Some(bytes) = row.get_ref(column)?.as_blob_or_null()? else { return Ok(None) };
    match Id::from_slice(bytes) {
        Some(id) => Ok(Some(id)),
        None => Err(rusqlite::Error::InvalidColumnType(column, "id".into(), Type::Blob)),
    }
}

pub fn hash_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; 32]>> {
    Ok(row.get_ref(column)?.as_blob_or_null()?.and_then(|b| b.try_into().ok()))
}

/// Counters are unsigned here and signed in SQLite; none can reach the sign bit.
pub fn u64_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).unsigned_abs())
}

pub fn as_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What a run adds to its one message (ids, where the reply goes): such a run's row fits, too.
const RUN_ADDS_BYTES: usize = 16 << 10;

pub fn check_message(bytes: &[u8]) -> Result<(), JournalError> {
    let max = BODY_BYTES_MAX - RUN_ADDS_BYTES;
    if bytes.len() > max {
        return Err(JournalError::TooLarge { what: "message", bytes: bytes.len(), max });
    }
    Ok(())
}

pub fn check_body(what: &'static str, bytes: &[u8]) -> Result<(), JournalError> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(JournalError::TooLarge { what, bytes: bytes.len(), max: BODY_BYTES_MAX });
    }
    Ok(())
}
