//! How commands print: tables for people, one JSON document for programs.

use super::Failure;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use std::io::Write;

/// Prints one JSON document, indented.
pub fn json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    line(&text)
}

/// Prints one line. A closed pipe ends the command without a complaint: the reader has seen enough.
pub fn line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::output)
}

/// Waits, but no longer than somebody reads the output. `false`: nobody does.
pub fn wait_while_read(pause: std::time::Duration) -> bool {
    let stdout = std::io::stdout();
    let mut watched = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::empty())];
    let pause = rustix::event::Timespec::try_from(pause).ok();
    match rustix::event::poll(&mut watched, pause.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => true,
        Ok(_) | Err(_) => false,
    }
}

/// A table that fits the terminal.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !header.is_empty() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// `3m`, `2h`, `5d`: how long ago.
pub fn age(then_ms: i64, now_ms: i64) -> String {
    let seconds = (now_ms - then_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Memory in megabytes, one decimal.
pub fn megabytes(kilobytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let megabytes = kilobytes as f64 / 1024.0;
    format!("{megabytes:.1} MB")
}

/// Memory of a process in a row with `pssKb` and `rssKb`; `rss` says that pages which it shares are counted in full, since
/// the share is told to root alone.
pub fn memory(row: &Value) -> String {
    let size = |key: &str| row[key].as_u64().filter(|kilobytes| *kilobytes > 0).map(megabytes);
    size("pssKb")
        .or_else(|| size("rssKb").map(|size| format!("{size} rss")))
        .unwrap_or_else(|| "-".to_owned())
}

/// Text of a JSON field, empty when it is absent.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ages_are_short() {
        let shown: Vec<String> = [5_000, 65_000, 7_200_000, 200_000_000].map(|ms| super::age(0, ms)).into();
        assert_eq!(shown, ["5s", "1m", "2h", "2d"]);
        assert_eq!(super::age(10, 0), "0s");
    }
}
