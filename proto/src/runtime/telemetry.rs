//! Structured log lines on standard error. The supervisor reads a worker's lines and puts the worker's name to them.
//!
//! Secrets never reach a line: known ones are cut out byte for byte on the way to the descriptor, whoever logged them.

use std::io::{self, Write};
use std::sync::{OnceLock, RwLock};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// What stands in a line where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// Shorter values are not treated as secrets: cutting out every `on` would only destroy the log.
const SECRET_BYTES_MIN: usize = 6;

static SECRETS: OnceLock<RwLock<Vec<String>>> = OnceLock::new();
/// The filter of a worker's log, for as long as the process lives.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

fn secrets() -> &'static RwLock<Vec<String>> {
    SECRETS.get_or_init(RwLock::default)
}

/// From now on no line of this process shows these values.
pub fn hide<'a>(values: impl IntoIterator<Item = &'a str>) {
    if let Ok(mut known) = secrets().write() {
        for value in values {
            if value.len() >= SECRET_BYTES_MIN && !known.iter().any(|held| held == value) {
                known.push(value.to_owned());
            }
        }
        // Longest first: a secret that contains another one goes as a whole.
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }
}

/// Cuts every known secret out of `text`.
pub fn redact(text: &str) -> std::borrow::Cow<'_, str> {
    let Ok(known) = secrets().read() else { return REDACTED.into() };
    let mut text = std::borrow::Cow::Borrowed(text);
    for secret in known.iter() {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), REDACTED).into();
        }
    }
    text
}

/// `off`, `error`, `warn`, `info`, `debug`, `trace` (also OpenClaw's `silent` and `fatal`); anything else is `info`.
pub fn level(name: &str) -> LevelFilter {
    match name.trim().to_ascii_lowercase().as_str() {
        "off" | "silent" => LevelFilter::OFF,
        "error" | "fatal" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    }
}

/// Our own targets at `max`; libraries at warnings unless somebody asked for a trace.
pub fn targets(max: LevelFilter) -> Targets {
    let libraries = if max == LevelFilter::TRACE { LevelFilter::DEBUG } else { max.min(LevelFilter::WARN) };
    Targets::new().with_default(max).with_targets(
        ["hyper", "hyper_util", "h2", "reqwest", "rustls", "tungstenite"].map(|name| (name, libraries)),
    )
}

/// A worker's log: one JSON object per line on standard error. A second call does nothing.
pub fn init(level_name: &str) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(Redacting);
    let (filter, handle) = reload::Layer::new(targets(level(level_name)));
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _first = FILTER.set(handle);
    }
}

/// `logging.level` of a new configuration holds from now on (`info` when it names none). Nothing while there is no log.
pub fn set_level_of(config_json: &str) {
    let config: serde_json::Value = serde_json::from_str(config_json).unwrap_or_default();
    let named = config.pointer("/logging/level").and_then(serde_json::Value::as_str).unwrap_or("info");
    // A worker that says nothing at all cannot be helped: errors are always told.
    let max = level(named).max(LevelFilter::ERROR);
    if let Some(handle) = FILTER.get() {
        let _gone = handle.modify(|filter| *filter = targets(max));
    }
}

/// Writer for any `fmt` layer: standard error without secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redacting;

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = RedactingLine;

    fn make_writer(&'a self) -> Self::Writer {
        RedactingLine
    }
}

/// One line on its way out. The formatter hands over whole lines.
#[derive(Debug)]
pub struct RedactingLine;

impl Write for RedactingLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(redact(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_out_known_secrets_longest_first() {
        hide(["tok-abcdef", "tok-abcdef-longer", "no"]);
        assert_eq!(redact("a tok-abcdef-longer b tok-abcdef no"), "a [redacted] b [redacted] no");
    }

    #[test]
    fn knows_both_families_of_level_names() {
        assert_eq!(level("silent"), LevelFilter::OFF);
        assert_eq!(level("WARN"), LevelFilter::WARN);
        assert_eq!(level("chatty"), LevelFilter::INFO);
    }
}
