//! The `logging` section: as written and as meant.

use schemars::JsonSchema;
use serde::Deserialize;

/// A log file is rotated before it grows beyond this.
const FILE_BYTES_MAX_DEFAULT: u64 = 524_288_000;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoggingFile {
    /// Level of the log file.
    pub level: Option<Level>,
    /// Path of the log file; absent: `<state>/logs`.
    pub file: Option<String>,
    pub max_file_bytes: Option<u64>,
    /// Level of the console.
    pub console_level: Option<Level>,
    pub console_style: Option<ConsoleStyle>,
    /// Whether known forms of secrets are masked in tool output.
    pub redact_sensitive: Option<Redact>,
    /// Further patterns to mask.
    pub redact_patterns: Option<Vec<String>>,
    /// Accepted, not used.
    pub audit: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Silent,
    Fatal,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    /// As workers are told: `error`, `warn`, `info`, `debug` or `trace`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent | Self::Fatal | Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleStyle {
    #[default]
    Pretty,
    Compact,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Redact {
    #[default]
    Tools,
    Off,
}

/// The section as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    pub level: Level,
    pub file: Option<String>,
    pub max_file_bytes: u64,
    pub console_level: Level,
    pub console_style: ConsoleStyle,
    pub redact: Redact,
    pub redact_patterns: Vec<String>,
}

impl From<LoggingFile> for Logging {
    fn from(file: LoggingFile) -> Self {
        Self {
            level: file.level.unwrap_or_default(),
            file: file.file,
            max_file_bytes: file.max_file_bytes.unwrap_or(FILE_BYTES_MAX_DEFAULT),
            console_level: file.console_level.unwrap_or_default(),
            console_style: file.console_style.unwrap_or_default(),
            redact: file.redact_sensitive.unwrap_or_default(),
            redact_patterns: file.redact_patterns.unwrap_or_default(),
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        LoggingFile::default().into()
    }
}
