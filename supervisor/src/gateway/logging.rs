//! The gateway's log: JSON lines in a file, readable lines on standard error, or lines with fields in systemd's journal when
//! standard error leads there. Writing never blocks who logs: lines go through a bounded queue, and what does not fit is
//! counted.

use super::journald::{self, Journald};
use crate::config::logging::{ConsoleStyle, Logging};
use proto::runtime::telemetry::redact;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Lines that wait for the disk. A blocked sink costs lines, never the gateway.
const QUEUE_LINES_MAX: usize = 4096;
/// A longer line is cut: one runaway value must not fill the file.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Where the log goes, and a way to wait until it is there.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Line>,
    pub file: PathBuf,
    levels: Arc<Levels>,
}

/// What is written, and how that changes while the gateway runs.
struct Levels {
    /// `--log-level` or the environment: beats the file's levels for the life of the process.
    fixed: Option<LevelFilter>,
    console: RwLock<LevelFilter>,
    filter: reload::Handle<Targets, Registry>,
}

/// Of the log file and of the console.
fn wanted(logging: &Logging, fixed: Option<LevelFilter>) -> (LevelFilter, LevelFilter) {
    let named = |name| fixed.unwrap_or_else(|| proto::runtime::telemetry::level(name));
    (named(logging.level.name()), named(logging.console_level.name()))
}

enum Line {
    Event { json: String, console: Option<Console> },
    Flush(SyncSender<()>),
}

/// What an operator sees as it happens.
enum Console {
    /// A line on standard error.
    Text(String),
    /// A datagram for systemd's journal.
    Journal(Vec<u8>),
}

/// Path of today's log file below the state directory, unless the configuration names one.
pub fn file_of(logging: &Logging, logs_dir: &Path, expand: impl Fn(&str) -> PathBuf) -> PathBuf {
    match &logging.file {
        Some(file) => expand(file),
        None => logs_dir.join("gateway.log"),
    }
}

/// Whether the log can be written there.
///
/// # Errors
/// Why not.
pub fn try_file(file: &Path) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        crate::lock::create_private_dir(dir)?;
    }
    open(file).map(drop)
}

/// Starts the log. `level` (flag or environment) beats the file's levels; `journal` takes the place of standard error.
pub fn start(
    logging: &Logging,
    file: PathBuf,
    level: Option<&str>,
    journal: Option<Journald>,
) -> std::io::Result<Log> {
    if let Some(dir) = file.parent() {
        crate::lock::create_private_dir(dir)?;
    }
    let sink = open(&file)?;
    let (lines, inbox) = sync_channel(QUEUE_LINES_MAX);
    let (path, bytes_max) = (file.clone(), logging.max_file_bytes);
    let style = if journal.is_some() { Style::Journal } else { Style::Text(logging.console_style) };
    std::thread::Builder::new().name("log".into()).spawn(move || {
        super::stop::leave_signals_to_main();
        write_lines(&inbox, sink, &path, bytes_max, journal.as_ref());
    })?;
    let fixed = level.map(proto::runtime::telemetry::level);
    let (file_level, console_level) = wanted(logging, fixed);
    let max = file_level.max(console_level);
    let (filter, handle) = reload::Layer::new(proto::runtime::telemetry::targets(max));
    let levels = Arc::new(Levels { fixed, console: RwLock::new(console_level), filter: handle });
    let layer = Lines { lines: lines.clone(), levels: levels.clone(), style, dropped: Arc::default() };
    // A second start in one process (tests) keeps the first subscriber.
    let _set = Registry::default().with(layer.with_filter(filter)).try_init();
    Ok(Log { lines, file, levels })
}

impl Log {
    /// The levels of a new configuration hold from now on.
    pub fn set_levels(&self, logging: &Logging) {
        let (file, console) = wanted(logging, self.levels.fixed);
        *self.levels.console.write().unwrap_or_else(PoisonError::into_inner) = console;
        let targets = proto::runtime::telemetry::targets(file.max(console));
        let _gone = self.levels.filter.modify(|filter| *filter = targets);
    }

    /// Waits until everything logged before is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.send(Line::Flush(done)).is_ok() {
            let _written = wait.recv_timeout(std::time::Duration::from_secs(1));
        }
    }
}

fn open(file: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

fn write_lines(
    inbox: &Receiver<Line>,
    mut sink: File,
    path: &Path,
    bytes_max: u64,
    journal: Option<&Journald>,
) {
    let mut written = sink.metadata().map_or(0, |meta| meta.len());
    let mut lost = 0u64;
    while let Ok(line) = inbox.recv() {
        match line {
            Line::Event { json, console } => {
                match console {
                    Some(Console::Text(line)) => {
                        let _closed = writeln!(std::io::stderr(), "{line}");
                    }
                    Some(Console::Journal(entry)) => tell(journal, &entry, &mut lost),
                    None => {}
                }
                if written >= bytes_max.max(LINE_BYTES_MAX as u64) {
                    let _kept = std::fs::rename(path, path.with_extension("log.1"));
                    if let Ok(fresh) = open(path) {
                        sink = fresh;
                        written = 0;
                    }
                }
                if writeln!(sink, "{json}").is_ok() {
                    written += json.len() as u64 + 1;
                }
            }
            Line::Flush(done) => {
                let _flushed = sink.flush();
                let _gone = done.send(());
            }
        }
    }
}

/// Counts the lines that the journal had no room for, and says so with the next one that it takes.
fn tell(journal: Option<&Journald>, entry: &[u8], lost: &mut u64) {
    let Some(journal) = journal else { return };
    if *lost > 0 {
        let note = format!("{lost} lines dropped");
        if journal.send(&journald::entry(tracing::Level::WARN, "log", &note, &Map::new())).is_ok() {
            *lost = 0;
        }
    }
    if journal.send(entry).is_err() {
        *lost += 1;
    }
}

#[derive(Clone, Copy)]
enum Style {
    Text(ConsoleStyle),
    Journal,
}

struct Lines {
    lines: SyncSender<Line>,
    levels: Arc<Levels>,
    style: Style,
    dropped: Arc<AtomicU64>,
}

/// Field with the fields of a worker's line, as a JSON object: they become fields of the line.
pub const WORKERS_FIELDS: &str = "fields_of_worker";

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _infallible = write!(self.message, "{value:?}");
        } else {
            self.rest.insert(field.name().to_owned(), Value::String(format!("{value:?}")));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else if field.name() == WORKERS_FIELDS {
            if let Ok(Value::Object(fields)) = serde_json::from_str(value) {
                for (name, value) in fields {
                    self.rest.entry(name).or_insert(value);
                }
            }
        } else {
            self.rest.insert(field.name().to_owned(), Value::String(value.to_owned()));
        }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.insert(field.name().to_owned(), json!(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.insert(field.name().to_owned(), json!(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.insert(field.name().to_owned(), json!(value));
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let subsystem = subsystem(event.metadata().target());
        let message = redact(&fields.message).into_owned();
        let time = jiff::Timestamp::now().to_string();
        let mut rest = String::new();
        for (name, value) in &fields.rest {
            let _infallible = match value {
                Value::String(text) if text.is_empty() => Ok(()),
                Value::String(text) => write!(rest, " {name}={text}"),
                value => write!(rest, " {name}={value}"),
            };
        }
        let rest = redact(&rest).into_owned();
        let shown = *self.levels.console.read().unwrap_or_else(PoisonError::into_inner);
        let console = (shown >= level).then(|| match self.style {
            Style::Journal => {
                Console::Journal(journald::entry(level, subsystem, &message, &redacted(&fields.rest)))
            }
            Style::Text(ConsoleStyle::Compact) => Console::Text(format!("[{subsystem}] {message}{rest}")),
            Style::Text(_) => Console::Text(format!("{time} [{subsystem}] {message}{rest}")),
        });
        let json = json_line(&time, level, subsystem, &message, fields.rest);
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = json!({"time": time, "level": "WARN", "subsystem": "log", "message": format!("{lost} lines dropped")});
            let _full = self.lines.try_send(Line::Event { json: note.to_string(), console: None });
        }
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Event { json, console }) {
            self.dropped.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn redacted(fields: &Map<String, Value>) -> Map<String, Value> {
    let masked = |value: &Value| match value {
        Value::String(text) => Value::String(redact(text).into_owned()),
        other => other.clone(),
    };
    fields.iter().map(|(name, value)| (name.clone(), masked(value))).collect()
}

/// `supervisor::front::ws` → `front`; a worker's lines say `worker`.
fn subsystem(target: &str) -> &str {
    let mut parts = target.split("::");
    let first = parts.next().unwrap_or(target);
    let name =
        if matches!(first, "openclaw" | "supervisor") { parts.next().unwrap_or("gateway") } else { first };
    if matches!(name, "gateway" | "main" | "cli") { "gateway" } else { name }
}

fn json_line(
    time: &str,
    level: tracing::Level,
    subsystem: &str,
    message: &str,
    rest: Map<String, Value>,
) -> String {
    let id = match level {
        tracing::Level::TRACE => 1,
        tracing::Level::DEBUG => 2,
        tracing::Level::INFO => 3,
        tracing::Level::WARN => 4,
        tracing::Level::ERROR => 5,
    };
    let name = json!({"subsystem": subsystem}).to_string();
    let mut line = json!({
        "0": name, "1": message, "time": time, "level": level.as_str(), "subsystem": subsystem, "message": message,
        "pid": std::process::id(),
        "_meta": {"runtime": "rust", "name": name, "date": time, "logLevelId": id, "logLevelName": level.as_str()},
    });
    if let Some(map) = line.as_object_mut() {
        for (key, value) in rest {
            map.entry(key).or_insert(value);
        }
    }
    let mut text = redact(&line.to_string()).into_owned();
    if text.len() > LINE_BYTES_MAX {
        let cut = json!({"time": time, "level": level.as_str(), "subsystem": subsystem,
            "message": message.chars().take(2000).collect::<String>(), "cut": true});
        text = cut.to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_that_readers_of_the_original_know() {
        let line = json_line("2026-01-01T00:00:00Z", tracing::Level::WARN, "front", "hello", Map::new());
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["_meta"]["logLevelName"], "WARN");
        assert_eq!(line["1"], "hello");
        assert_eq!(line["0"], r#"{"subsystem":"front"}"#);
        assert_eq!(subsystem("openclaw::front::ws"), "front");
        assert_eq!(subsystem("openclaw::gateway::start"), "gateway");
    }
}
