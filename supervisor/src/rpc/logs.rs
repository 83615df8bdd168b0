//! `logs.tail`: the end of the gateway's log file, or what was added since the caller last looked.
//!
//! Not here: what is logged and how ([`crate::gateway::logging`]).

use super::params::Params;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use proto::runtime::telemetry::redact;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Lines of one answer when the caller names no number.
const LINES_DEFAULT: u64 = 500;
/// Lines of one answer: a page of a log, still below a frame.
const LINES_MAX: u64 = 5_000;
/// Bytes read for one answer when the caller names no number.
const BYTES_DEFAULT: u64 = 250_000;
/// Bytes read for one answer: bounds memory and the time on the blocking pool.
const BYTES_MAX: u64 = 1_000_000;

/// What the caller wants.
struct Wanted {
    /// Byte position that the last answer gave.
    cursor: Option<u64>,
    lines: usize,
    bytes: u64,
}

/// What a look at the file found.
#[derive(Debug, PartialEq, Eq)]
struct Tail {
    /// Where to go on: behind the last whole line.
    cursor: u64,
    /// Length of the file in bytes.
    size: u64,
    lines: Vec<String>,
    /// Older lines were left out.
    truncated: bool,
    /// The file is not the one that the cursor belongs to, or went on too far since.
    reset: bool,
}

/// `logs.tail {cursor?, limit?, maxBytes?}`: `{file, cursor, size, lines, truncated, reset}`; the lines are JSON as they
/// stand in the file.
///
/// # Errors
/// Malformed params, or a file that can't be read. A file that is not there is empty.
pub async fn tail(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("logs.tail", &params);
    let wanted = Wanted {
        cursor: read.count("cursor")?,
        lines: usize::try_from(within(&read, "limit", LINES_DEFAULT, LINES_MAX)?).unwrap_or(usize::MAX),
        bytes: within(&read, "maxBytes", BYTES_DEFAULT, BYTES_MAX)?,
    };
    let path = gw.front.paths.log_file.clone();
    let file = path.display().to_string();
    let looked = tokio::task::spawn_blocking(move || look(&path, &wanted)).await;
    let looked = looked.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let tail = looked.map_err(|error| RpcError::unavailable(format!("log file {file}: {error}")))?;
    Ok(json!({
        "file": file, "cursor": tail.cursor, "size": tail.size, "lines": tail.lines,
        "truncated": tail.truncated, "reset": tail.reset,
    })
    .into())
}

/// A number from 1 to `max`.
fn within(read: &Params<'_>, key: &str, default: u64, max: u64) -> Result<u64, RpcError> {
    match read.count(key)? {
        Some(0) => Err(read.refuse(&format!("at /{key}: must be >= 1"))),
        Some(n) if n > max => Err(read.refuse(&format!("at /{key}: must be <= {max}"))),
        Some(n) => Ok(n),
        None => Ok(default),
    }
}

fn look(path: &Path, wanted: &Wanted) -> io::Result<Tail> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reset = wanted.cursor.is_some_and(|cursor| cursor > 0);
            return Ok(Tail { cursor: 0, size: 0, lines: Vec::new(), truncated: false, reset });
        }
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    let newest = size.saturating_sub(wanted.bytes);
    let known = wanted.cursor.filter(|cursor| (newest..=size).contains(cursor));
    let (start, reset) = match (known, wanted.cursor) {
        (Some(cursor), _) => (cursor, false),
        (None, cursor) => (newest, cursor.is_some()),
    };
    // One byte before tells whether a line begins here.
    let from = start.saturating_sub(1);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(size - from).read_to_end(&mut bytes)?;
    let mut text = bytes.as_slice();
    if start > 0 {
        let line_start = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
        text = text.get(line_start..).unwrap_or_default();
    }
    // The line that is being written comes with the next look.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let unfinished = text.len() - whole;
    let whole = String::from_utf8_lossy(text.get(..whole).unwrap_or_default());
    let lines: Vec<&str> = whole.lines().collect();
    let skipped = lines.len().saturating_sub(wanted.lines);
    Ok(Tail {
        cursor: size - unfinished as u64,
        size,
        // Once more: a secret that became known after a line was written.
        lines: lines.into_iter().skip(skipped).map(|line| redact(line).into_owned()).collect(),
        truncated: (known.is_none() && start > 0) || skipped > 0,
        reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_at(text: &str, cursor: Option<u64>, lines: usize, bytes: u64) -> Tail {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.log");
        std::fs::write(&path, text).unwrap();
        look(&path, &Wanted { cursor, lines, bytes }).unwrap()
    }

    fn tail(cursor: u64, size: u64, lines: &[&str], truncated: bool, reset: bool) -> Tail {
        Tail { cursor, size, lines: lines.iter().map(|&line| line.to_owned()).collect(), truncated, reset }
    }

    #[test]
    fn the_end_of_the_file_in_whole_lines() {
        assert_eq!(look_at("", None, 9, 99), tail(0, 0, &[], false, false));
        assert_eq!(look_at("one\ntwo\n", None, 9, 99), tail(8, 8, &["one", "two"], false, false));
        assert_eq!(look_at("one\ntwo\nthr", None, 9, 99), tail(8, 11, &["one", "two"], false, false));
        assert_eq!(look_at("one\ntwo\n", None, 1, 99), tail(8, 8, &["two"], true, false));
        assert_eq!(look_at("one\ntwo\n", None, 9, 4), tail(8, 8, &["two"], true, false));
        assert_eq!(look_at("one\ntwo\n", None, 9, 5), tail(8, 8, &["two"], true, false), "half a line goes");
    }

    #[test]
    fn a_cursor_gives_what_is_new_and_a_foreign_one_starts_over() {
        assert_eq!(look_at("one\ntwo\n", Some(4), 9, 99), tail(8, 8, &["two"], false, false));
        assert_eq!(look_at("one\ntwo\n", Some(8), 9, 99), tail(8, 8, &[], false, false));
        assert_eq!(look_at("one\n", Some(8), 9, 99), tail(4, 4, &["one"], false, true), "a new file");
        assert_eq!(look_at("one\ntwo\n", Some(0), 9, 4), tail(8, 8, &["two"], true, true), "too far behind");
        assert_eq!(look_at("one\ntwo\n", Some(4), 9, 4), tail(8, 8, &["two"], false, false));
    }

    #[test]
    fn a_file_that_is_not_there_is_empty() {
        let wanted = Wanted { cursor: Some(7), lines: 9, bytes: 9 };
        assert_eq!(look(Path::new("/nonexistent/log"), &wanted).unwrap(), tail(0, 0, &[], false, true));
    }
}
