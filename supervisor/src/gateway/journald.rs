//! Log lines for systemd's journal with their fields, by its own protocol: one datagram per line. A journal that is slow
//! costs lines, never the gateway.

use super::log_event;
use crate::config::Environment;
use serde_json::{Map, Value};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

const SOCKET: &str = "/run/systemd/journal/socket";
/// A datagram must fit the socket's buffer (about 200 KiB); a longer value is cut.
const VALUE_BYTES_MAX: usize = 48 * 1024;
/// Longest name of a field, as the journal demands.
const NAME_BYTES_MAX: usize = 64;
/// Prefix of our fields.
const PREFIX: &str = "OPENCLAW_";

/// The way to the journal.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journald {
    /// `Some` when standard error leads to the journal: then lines on it would lose their fields.
    pub fn of_stderr(env: &Environment) -> Option<Self> {
        let stderr = rustix::fs::fstat(io::stderr()).ok()?;
        let ours = is_stream(env.get("JOURNAL_STREAM")?, stderr.st_dev, stderr.st_ino);
        // Tests put a socket of their own in its place.
        let path = env.get("OPENCLAW_JOURNAL_SOCKET").unwrap_or(SOCKET).into();
        ours.then(|| Self::open(path)).and_then(Result::ok)
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// Sends one line made by [`entry`].
    ///
    /// # Errors
    /// The journal is not there, or has no room now.
    pub fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(|_| ())
    }
}

/// `JOURNAL_STREAM` is `<device>:<inode>` of the stream that the service was given.
fn is_stream(text: &str, device: u64, inode: u64) -> bool {
    text.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// One line in the journal's form. `fields` are redacted already.
pub fn entry(level: tracing::Level, subsystem: &str, message: &str, fields: &Map<String, Value>) -> Vec<u8> {
    let priority = match level {
        tracing::Level::ERROR => "3",
        tracing::Level::WARN => "4",
        tracing::Level::INFO => "6",
        tracing::Level::DEBUG | tracing::Level::TRACE => "7",
    };
    let mut out = Vec::with_capacity(256 + message.len());
    put(&mut out, "MESSAGE", message);
    put(&mut out, "PRIORITY", priority);
    put(&mut out, "SYSLOG_IDENTIFIER", "openclaw");
    put(&mut out, "OPENCLAW_BUILD", env!("CARGO_PKG_VERSION"));
    put(&mut out, "OPENCLAW_SUBSYSTEM", subsystem);
    for (name, value) in fields {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if name == log_event::FIELD
            && let Some(id) = log_event::message_id(&text)
        {
            put(&mut out, "MESSAGE_ID", &id);
        }
        put(&mut out, &field_name(name), &text);
    }
    out
}

/// `errorCode` and `error_code` → `OPENCLAW_ERROR_CODE`.
fn field_name(name: &str) -> String {
    let mut out = PREFIX.to_owned();
    let mut before = '_';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            out.push('_');
        }
        out.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
        before = letter;
    }
    out.truncate(NAME_BYTES_MAX);
    out
}

/// `NAME=value`, or for values of several lines the name, the length and the bytes.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or_default();
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_have_fields_and_long_values_their_length() {
        let fields = json!({"worker": "agent:main", "lagMs": 7, "why": "a\nb", "event": "worker.crash"});
        let entry = entry(tracing::Level::WARN, "worker", "it died", fields.as_object().unwrap());
        let text = String::from_utf8_lossy(&entry);
        for line in ["MESSAGE=it died", "PRIORITY=4", "OPENCLAW_WORKER=agent:main", "OPENCLAW_LAG_MS=7"] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        let id = log_event::message_id("worker.crash").unwrap();
        assert!(text.contains(&format!("MESSAGE_ID={id}\n")), "{text}");
        assert!(entry.windows(22).any(|w| w == b"OPENCLAW_WHY\n\x03\0\0\0\0\0\0\0a"), "{text:?}");
    }

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        assert!(is_stream("8:12", 8, 12));
        assert!(!is_stream("8:12", 8, 13));
        assert!(!is_stream("812", 8, 12));
    }
}
