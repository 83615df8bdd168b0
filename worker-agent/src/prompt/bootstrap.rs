//! The workspace files that go into the prompt: which, in what order, and how they are cut. `load` reads, `fit` is
//! pure.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Cap of one file when nothing is configured.
pub const FILE_CHARS_MAX: usize = 20_000;
/// Cap of all files together when nothing is configured.
pub const TOTAL_CHARS_MAX: usize = 150_000;
/// A file above this is treated as missing: nobody means to put it into a prompt.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Below this the rest of the budget is not worth a file.
const REMAINING_CHARS_MIN: usize = 64;

/// Files of a normal session, in order of injection.
pub const FILES: &[&str] =
    &["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md"];
/// Injected only if present.
pub const MEMORY_FILES: &[&str] = &["MEMORY.md", "memory.md"];
/// Files of sub-agent and scheduled sessions.
const REDUCED: &[&str] = &["AGENTS.md", "TOOLS.md", "SOUL.md", "IDENTITY.md", "USER.md"];

/// A file as found. `content` is None when it is missing or not readable under the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub path: PathBuf,
    pub content: Option<String>,
}

/// A file as it stands in the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    pub name: String,
    pub path: String,
    pub content: String,
    pub missing: bool,
    pub raw_chars: usize,
    pub truncated: bool,
}

/// Caps in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub file: usize,
    pub total: usize,
}

impl Caps {
    /// One figure alone caps each file and the sum; none at all means the defaults.
    pub fn resolve(file: Option<usize>, total: Option<usize>) -> Self {
        let total = total.or(file).unwrap_or(TOTAL_CHARS_MAX);
        Self { file: file.unwrap_or(FILE_CHARS_MAX), total }
    }
}

/// Whether a session gets the reduced set.
pub fn is_reduced(session_key: &str) -> bool {
    session_key.contains(":subagent:") || session_key.contains(":cron:")
}

/// Reads the files of a workspace. Blocks.
pub fn load(workspace: &Path, reduced: bool) -> Vec<Found> {
    let root = fs::canonicalize(workspace).unwrap_or_else(|_| workspace.to_owned());
    let wanted = if reduced { REDUCED } else { FILES };
    let mut found: Vec<Found> = wanted.iter().map(|name| read(&root, workspace, name)).collect();
    if !reduced {
        let mut seen: Option<PathBuf> = None;
        for name in MEMORY_FILES {
            let file = read(&root, workspace, name);
            let real = fs::canonicalize(&file.path).ok();
            // On a file system that ignores case both names are one file.
            if file.content.is_some() && real != seen {
                seen = real;
                found.push(file);
            }
        }
    }
    found
}

fn read(root: &Path, workspace: &Path, name: &str) -> Found {
    let path = workspace.join(name);
    let content = fs::canonicalize(&path).ok().filter(|real| real.starts_with(root)).and_then(|real| {
        let file = fs::File::open(real).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    });
    Found { name: name.to_owned(), path, content }
}

/// Cuts the files to the caps, in order, and says what was cut.
pub fn fit(found: Vec<Found>, caps: Caps) -> (Vec<Injected>, Vec<String>) {
    let mut remaining = caps.total;
    let mut injected = Vec::new();
    let mut warnings = Vec::new();
    for file in found {
        if remaining < REMAINING_CHARS_MIN {
            warnings.push(format!(
                "{} and what follows left out: the total cap of {} characters is used up",
                file.name, caps.total
            ));
            break;
        }
        let path = file.path.display().to_string();
        let Some(raw) = file.content else {
            let content = clamp(format!("[MISSING] Expected at: {path}"), remaining);
            remaining -= content.chars().count();
            injected.push(Injected {
                name: file.name,
                path,
                content,
                missing: true,
                raw_chars: 0,
                truncated: false,
            });
            continue;
        };
        let raw_chars = raw.chars().count();
        let text = raw.trim_end();
        let limit = caps.file.min(remaining);
        let kept = cut(&file.name, text, limit);
        let truncated = kept.is_some();
        let content = clamp(kept.unwrap_or_else(|| text.to_owned()), remaining);
        remaining -= content.chars().count();
        if truncated {
            let cause = if limit < caps.file { "total" } else { "per-file" };
            warnings.push(format!(
                "{} cut by the {cause} cap ({raw_chars} → {} characters)",
                file.name,
                content.chars().count()
            ));
        }
        injected.push(Injected { name: file.name, path, content, missing: false, raw_chars, truncated });
    }
    (injected, warnings)
}

/// First 70 % and last 20 % of the limit around a marker; None when the text fits.
fn cut(name: &str, text: &str, limit: usize) -> Option<String> {
    let count = text.chars().count();
    if count <= limit {
        return None;
    }
    let (head, tail) = (limit * 7 / 10, limit * 2 / 10);
    let first: String = text.chars().take(head).collect();
    let last: String = text.chars().skip(count - tail).collect();
    Some(format!(
        "{first}\n[...truncated, read {name} for full content...]\n…(truncated {name}: kept {head}+{tail} chars of \
         {count})…\n{last}"
    ))
}

fn clamp(text: String, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text;
    }
    let mut cut: String = text.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
