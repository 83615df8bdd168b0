//! What is wrong with a configuration, where, and what to do about it.

use super::syntax::Position;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// One finding. On the wire only `path` and `message` are promised; the rest is extra.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// Dotted; empty for the root.
    pub path: String,
    pub message: String,
    /// What to do, where we know better than to repeat the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The key below `path` that nobody knows, for who removes it.
    #[serde(skip)]
    pub unknown_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// 1-based; 0 when the place is not in a file.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub column: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Issue {
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), ..Self::default() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn at(mut self, at: Position, files: &[PathBuf]) -> Self {
        if at.line > 0 {
            self.file = files.get(usize::from(at.file)).cloned();
            (self.line, self.column) = (at.line, at.column);
        }
        self
    }

    /// The whole path of a key that nobody knows.
    #[must_use]
    pub fn unknown_path(&self) -> Option<String> {
        let key = self.unknown_key.as_ref()?;
        Some(if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) })
    }

    /// `<root>` stands for the empty path.
    #[must_use]
    pub fn shown_path(&self) -> &str {
        if self.path.is_empty() { "<root>" } else { &self.path }
    }
}

/// `openclaw.json:14:7 gateway.port: expected integer, got "x" (use …)`
impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.file.as_deref().and_then(Path::file_name) {
            write!(f, "{}:{}:{} ", name.to_string_lossy(), self.line, self.column)?;
        }
        write!(f, "{}: {}", self.shown_path(), self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// `<path>: <message>` joined by newlines, as the start-up refusal prints it, with the place in front.
#[must_use]
pub fn lines(issues: &[Issue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
