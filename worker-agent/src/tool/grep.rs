//! `grep`: lines that match a pattern, below a directory or in one file, `.gitignore` respected.
//!
//! Bounded in time, in memory (one line at a time) and in output; patterns run in linear time.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Instant,
};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    find::{PATTERN_BYTES_MAX, WALK_LIMIT, glob, walk},
    ls::{directory, limit, page},
    output,
    read::Target,
};

/// Matches when the call names no limit, and at most.
const MATCHES_DEFAULT: usize = 100;
const MATCHES_MAX: usize = 10_000;
/// Characters shown of one line; minified files have lines of megabytes.
const LINE_CHARS_MAX: usize = 500;
/// Bytes searched of one line; the rest of a longer one is skipped.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Bytes looked at to tell text from binary.
const SNIFF_BYTES: u64 = 1024;
/// Lines of context on each side, at most.
const CONTEXT_MAX: u64 = 50;

pub struct Grep;

impl Tool for Grep {
    fn name(&self) -> &'static str {
        "grep"
    }

    fn description(&self) -> String {
        format!(
            "Search files for a regular expression. Shows path:line: text. Hidden files are included, binary files and what \
             .gitignore names are not. At most {MATCHES_DEFAULT} matches; long lines are cut to {LINE_CHARS_MAX} characters."
        )
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["pattern"],
            "properties": {
                "pattern": {"type": "string", "description": "Regular expression, or plain text with literal"},
                "path": {"type": "string", "description": "Directory or file (default: the workspace)"},
                "glob": {"type": "string", "description": "Only files that match, for example '*.rs'"},
                "ignoreCase": {"type": "boolean", "description": "Ignore case"},
                "literal": {"type": "boolean", "description": "Take the pattern as plain text"},
                "context": {"type": "integer", "description": "Lines to show before and after each match"},
                "limit": {"type": "integer", "description": "Matches to show (default 100)"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("query", "pattern"), ("ignore_case", "ignoreCase"), ("include", "glob")]
    }

    fn effect(&self, _args: &Value) -> Effect {
        Effect::Read
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let target = directory(&call.args, env)?;
            let search = Search::of(&call.args, env.cancel.clone())?;
            let meta = call.args.get("pattern").and_then(Value::as_str).unwrap_or_default().to_owned();
            let outcome = confined::blocking(move || search.run(&target)).await?;
            Ok(outcome.with_meta(meta))
        })
    }
}

struct Search {
    regex: Regex,
    glob: Option<globset::GlobMatcher>,
    context: usize,
    limit: usize,
    cancel: CancellationToken,
}

/// What was found so far.
struct Found {
    lines: Vec<String>,
    matches: usize,
    long_lines: bool,
    until: Instant,
    stopped: Option<String>,
}

impl Search {
    fn of(args: &Value, cancel: CancellationToken) -> Result<Self, ToolError> {
        let flag = |name: &str| args.get(name).and_then(Value::as_bool).unwrap_or(false);
        let pattern = args.get("pattern").and_then(Value::as_str).unwrap_or_default();
        let source = if flag("literal") { regex::escape(pattern) } else { pattern.to_owned() };
        let regex = RegexBuilder::new(&source)
            .case_insensitive(flag("ignoreCase"))
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| ToolError::params(format!("Invalid parameter: pattern is not a regular expression: {error} (use literal for plain text)")))?;
        let only = args.get("glob").and_then(Value::as_str).filter(|glob| !glob.is_empty());
        let context = args.get("context").and_then(Value::as_u64).unwrap_or(0).min(CONTEXT_MAX);
        Ok(Self {
            regex,
            glob: only.map(glob).transpose()?,
            context: usize::try_from(context).unwrap_or_default(),
            limit: limit(args, MATCHES_DEFAULT, MATCHES_MAX),
            cancel,
        })
    }

    fn run(&self, target: &Target) -> Result<ToolOutcome, ToolError> {
        let root = target.checked()?;
        let meta = root.metadata().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ToolError::failed(format!("Path not found: {}", target.shown)),
            _ => target.error("search", &error),
        })?;
        let mut found = Found {
            lines: Vec::new(),
            matches: 0,
            long_lines: false,
            until: Instant::now() + WALK_LIMIT,
            stopped: None,
        };
        if meta.is_dir() {
            for entry in walk(&root).flatten() {
                if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                    continue;
                }
                let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
                if self.glob.as_ref().is_some_and(|glob| !glob.is_match(relative)) {
                    continue;
                }
                // A file that cannot be read is no reason to show nothing of the others.
                let _unreadable = self.file(entry.path(), &relative.display().to_string(), &mut found);
                self.check(&mut found)?;
                if found.stopped.is_some() {
                    break;
                }
            }
        } else if meta.is_file() {
            let name = root.file_name().map(PathBuf::from).unwrap_or_default();
            let searched = self.file(&root, &name.display().to_string(), &mut found);
            searched.map_err(|error| target.error("search", &error))?;
            self.check(&mut found)?;
        } else {
            return Err(ToolError::failed(format!("{} is not a regular file", target.shown)));
        }
        Ok(ToolOutcome::text(found.text()))
    }

    fn check(&self, found: &mut Found) -> Result<(), ToolError> {
        if self.cancel.is_cancelled() {
            return Err(ToolError::Aborted);
        }
        if found.stopped.is_none() && Instant::now() >= found.until {
            found.stopped =
                Some(format!("stopped after {} s; search a smaller directory", WALK_LIMIT.as_secs()));
        }
        Ok(())
    }

    /// Searches one file; binary files have no lines.
    fn file(&self, path: &Path, shown: &str, found: &mut Found) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(SNIFF_BYTES).read_to_end(&mut start)?;
        if start.contains(&0) {
            return Ok(());
        }
        let mut reader = BufReader::new(std::io::Cursor::new(start).chain(file));
        let mut before: std::collections::VecDeque<String> = std::collections::VecDeque::new();
        let (mut after, mut number, mut last_shown) = (0, 0u64, 0u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            number += 1;
            if number.is_multiple_of(4096) && (self.cancel.is_cancelled() || Instant::now() >= found.until) {
                return Ok(());
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if self.regex.is_match(text) {
                if found.matches == self.limit {
                    found.stopped = Some(format!(
                        "{} matches limit reached; use limit for more, or a narrower pattern",
                        self.limit
                    ));
                    return Ok(());
                }
                let gap = number - before.len() as u64 > last_shown + 1;
                if self.context > 0 && !found.lines.is_empty() && gap {
                    found.lines.push("--".to_owned());
                }
                found.lines.extend(before.drain(..));
                let shown_line = found.line(shown, ':', number, text);
                found.lines.push(shown_line);
                (found.matches, after, last_shown) = (found.matches + 1, self.context, number);
            } else if after > 0 {
                let shown_line = found.line(shown, '-', number, text);
                found.lines.push(shown_line);
                (after, last_shown) = (after - 1, number);
            } else if self.context > 0 {
                if before.len() == self.context {
                    before.pop_front();
                }
                before.push_back(found.line(shown, '-', number, text));
            }
        }
    }
}

impl Found {
    fn line(&mut self, shown: &str, mark: char, number: u64, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let cut = output::head_chars(&text, LINE_CHARS_MAX);
        let dots = if cut.len() < text.len() { "... [cut]" } else { "" };
        self.long_lines |= !dots.is_empty();
        format!("{shown}{mark}{number}{mark} {cut}{dots}")
    }

    fn text(self) -> String {
        if self.lines.is_empty() {
            let why = self.stopped.map_or_else(String::new, |why| format!("\n\n[{why}]"));
            return format!("No matches found{why}");
        }
        let long = self.long_lines.then(|| {
            format!("long lines are cut to {LINE_CHARS_MAX} characters; use read for all of a line")
        });
        let notices: Vec<String> = self.stopped.into_iter().chain(long).collect();
        page(&self.lines.join("\n"), (!notices.is_empty()).then(|| notices.join(". ")))
    }
}
