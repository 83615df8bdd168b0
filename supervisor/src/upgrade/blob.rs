//! The state in its envelope: a sealed memory file that no one can change between the two images.
//!
//! ```text
//! "OCUP" | schema u32 LE | readable by u32 LE | SHA-256 of the rest | MessagePack map of State
//! ```

use super::state::{READABLE_BY, SCHEMA, SCHEMA_MIN, State};
use proto::wire::{decode_payload, encode_payload};
use rustix::fs::{MemfdFlags, SealFlags};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 4] = b"OCUP";
/// Code given to decode errors; no frame has it.
const STATE: u16 = 0;
const HASH_AT: usize = 12;
const BODY_AT: usize = HASH_AT + 32;
/// The connections may hold 64 MiB; the rest is far below.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("the state cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is no state of an upgrade")]
    Foreign,
    #[error("its checksum is wrong")]
    Damaged,
    #[error(
        "it was written by a release with state schema {schema} (readable from {readable_by}); this one reads {SCHEMA_MIN} to {SCHEMA}"
    )]
    Schema { schema: u32, readable_by: u32 },
    #[error("its content is not as it should be: {0}")]
    Content(String),
    #[error("it has {0} bytes; at most {BYTES_MAX} are taken over")]
    TooLarge(usize),
    #[error("it belongs to process {0}")]
    OtherProcess(u32),
}

/// Whether this release reads a state of that schema.
pub fn is_readable(schema: u32, readable_by: u32) -> bool {
    schema >= SCHEMA_MIN && readable_by <= SCHEMA
}

/// Bytes of the envelope; `schema` and `readable_by` differ from ours only in tests of what another release does.
pub fn encode(state: &State, schema: u32, readable_by: u32) -> Vec<u8> {
    let body = encode_payload(state);
    let mut bytes = Vec::with_capacity(BODY_AT + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&schema.to_le_bytes());
    bytes.extend_from_slice(&readable_by.to_le_bytes());
    bytes.extend_from_slice(&Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    bytes
}

pub fn decode(bytes: &[u8]) -> Result<State, Unusable> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (Some(MAGIC), Some(schema), Some(readable_by)) = (bytes.first_chunk(), word(4), word(8)) else {
        return Err(Unusable::Foreign);
    };
    if !is_readable(schema, readable_by) {
        return Err(Unusable::Schema { schema, readable_by });
    }
    let (Some(hash), Some(body)) = (bytes.get(HASH_AT..BODY_AT), bytes.get(BODY_AT..)) else {
        return Err(Unusable::Damaged);
    };
    if Sha256::digest(body)[..] != *hash {
        return Err(Unusable::Damaged);
    }
    decode_payload(STATE, body).map_err(|error| Unusable::Content(error.to_string()))
}

/// Writes the state into a memory file and seals it.
///
/// # Errors
/// The state is larger than [`read`] takes, or there is no memory for it.
pub fn write(state: &State) -> Result<OwnedFd, Unusable> {
    if let Some(why) = proto::runtime::failpoint::refusal("sv.up.state_write") {
        return Err(Unusable::Content(why));
    }
    seal(&encode(state, SCHEMA, READABLE_BY), BYTES_MAX)
}

fn seal(bytes: &[u8], max: u64) -> Result<OwnedFd, Unusable> {
    if bytes.len() as u64 > max {
        return Err(Unusable::TooLarge(bytes.len()));
    }
    let fd = rustix::fs::memfd_create("openclaw-upgrade", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(std::io::Error::from)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(std::io::Error::from)?;
    Ok(file.into())
}

/// Reads what [`write`] made in this process, before its exec.
pub fn read(fd: OwnedFd) -> Result<State, Unusable> {
    let file = File::from(fd);
    let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| Unusable::Foreign)?;
    let length = file.metadata()?.len();
    if !seals.contains(SealFlags::WRITE | SealFlags::SEAL) || length > BYTES_MAX {
        return Err(Unusable::Foreign);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Unusable::Foreign)?];
    file.read_exact_at(&mut bytes, 0)?;
    let state = decode(&bytes)?;
    if state.pid != std::process::id() {
        return Err(Unusable::OtherProcess(state.pid));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State { pid: std::process::id(), reason: "test".into(), ..State::default() }
    }

    #[test]
    fn what_is_written_reads_back_once_sealed() {
        let fd = write(&state()).unwrap();
        let copy = fd.try_clone().unwrap();
        assert_eq!(read(fd).unwrap().reason, "test");
        assert!(File::from(copy).write_at(b"x", 0).is_err(), "sealed");
    }

    /// The next image would refuse it, and the one before is gone by then.
    #[test]
    fn what_would_not_be_read_is_not_written() {
        assert!(seal(b"1234", 4).is_ok());
        assert!(matches!(seal(b"12345", 4), Err(Unusable::TooLarge(5))));
    }

    #[test]
    fn releases_that_are_too_far_apart_refuse_each_other() {
        let with = |schema, readable_by| decode(&encode(&state(), schema, readable_by));
        assert!(with(SCHEMA, READABLE_BY).is_ok());
        // A newer release that says that we may read its state, with fields that we do not know.
        assert!(with(SCHEMA + 1, SCHEMA).is_ok());
        assert!(matches!(with(SCHEMA + 1, SCHEMA + 1), Err(Unusable::Schema { .. })));
        assert!(matches!(with(SCHEMA_MIN - 1, SCHEMA_MIN - 1), Err(Unusable::Schema { .. })));
    }

    #[test]
    fn unknown_fields_are_passed_over_and_missing_ones_default() {
        #[derive(serde::Serialize)]
        struct Newer {
            pid: u32,
            hat: &'static str,
        }
        let body = encode_payload(&Newer { pid: 7, hat: "bowler" });
        let mut bytes = encode(&State::default(), SCHEMA, READABLE_BY);
        bytes.truncate(HASH_AT);
        bytes.extend_from_slice(&Sha256::digest(&body));
        bytes.extend_from_slice(&body);
        let state = decode(&bytes).unwrap();
        assert_eq!((state.pid, state.runs.len()), (7, 0));
        bytes.pop();
        assert!(matches!(decode(&bytes), Err(Unusable::Damaged)));
        assert!(matches!(decode(b"OCU"), Err(Unusable::Foreign)));
    }
}
