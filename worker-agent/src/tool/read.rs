//! `read`: one page of a text file, or an image.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{
    Block, BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    output::{self, PAGE_BYTES_MAX, PAGE_LINES_MAX},
    paths,
};

/// Bytes looked at to tell what a file is.
const SNIFF_BYTES: usize = 8192;
/// Bytes that one call reads through to reach an offset and to count the lines behind the page. A larger file is paged
/// without a total.
const SCAN_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub struct Read;

impl Tool for Read {
    fn name(&self) -> &'static str {
        "read"
    }

    fn description(&self) -> String {
        format!(
            "Read a file. Text comes in pages of at most {PAGE_LINES_MAX} lines or {}, whichever is reached first; use offset \
             and limit for more. Images (jpg, png, gif, webp) are shown as images.",
            output::size(PAGE_BYTES_MAX as u64)
        )
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["path"],
            "properties": {
                "path": {"type": "string", "description": "File to read (relative to the workspace, absolute, or ~)"},
                "offset": {"type": "integer", "description": "First line to read, from 1"},
                "limit": {"type": "integer", "description": "Number of lines to read"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("file_path", "path"), ("filePath", "path")]
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
            let target = Target::of(&call.args, env)?;
            let page =
                Page { offset: line_number(&call.args, "offset")?, limit: line_number(&call.args, "limit")? };
            let image_bytes_max = env.settings.image_bytes_max;
            let meta = target.shown.clone();
            let outcome = confined::blocking(move || read(target, page, image_bytes_max)).await?;
            Ok(outcome.with_meta(meta))
        })
    }
}

/// A path of a call, with what is needed to check and show it.
pub(super) struct Target {
    path: PathBuf,
    workspace: PathBuf,
    /// The configuration key that keeps it inside the workspace, if one does.
    guard: Option<&'static str>,
    pub shown: String,
}

impl Target {
    /// From the parameter `path`, guarded as `tools.fs.workspaceOnly` says.
    pub fn of(args: &Value, env: &ToolEnv) -> Result<Self, ToolError> {
        let guard = env.settings.workspace_only.then_some("tools.fs.workspaceOnly");
        Self::guarded(args.get("path").and_then(Value::as_str).unwrap_or_default(), env, guard)
    }

    pub fn guarded(raw: &str, env: &ToolEnv, guard: Option<&'static str>) -> Result<Self, ToolError> {
        let path = paths::resolve(env, raw)?;
        let shown = paths::shown(env, &path);
        Ok(Self { path, workspace: env.workspace.clone(), guard, shown })
    }

    /// Blocking: the path to use.
    pub fn checked(&self) -> Result<PathBuf, ToolError> {
        let path = paths::existing(self.path.clone());
        match self.guard {
            Some(key) => paths::inside(&self.workspace, &path, key),
            None => Ok(path),
        }
    }

    /// An IO error about this path.
    pub fn error(&self, what: &str, error: &std::io::Error) -> ToolError {
        match error.kind() {
            std::io::ErrorKind::NotFound => ToolError::failed(format!("File not found: {}", self.shown)),
            _ => ToolError::failed(format!("cannot {what} {}: {error}", self.shown)),
        }
    }
}

struct Page {
    offset: Option<u64>,
    limit: Option<u64>,
}

fn line_number(args: &Value, name: &str) -> Result<Option<u64>, ToolError> {
    match args.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            // Models that count from 0 mean the first line.
            Some(number) => Ok(Some(number.max(1))),
            None => Err(ToolError::params(format!("Invalid parameter: {name} must be 1 or more"))),
        },
    }
}

fn read(target: Target, page: Page, image_bytes_max: u64) -> Result<ToolOutcome, ToolError> {
    let path = target.checked()?;
    let meta = path.metadata().map_err(|error| target.error("read", &error))?;
    if meta.is_dir() {
        return Err(ToolError::failed(format!("{} is a directory; use ls", target.shown)));
    }
    // A pipe or a device would hold this thread for ever.
    if !meta.is_file() {
        return Err(ToolError::failed(format!("{} is not a regular file", target.shown)));
    }
    let mut file = File::open(&path).map_err(|error| target.error("read", &error))?;
    let mut start = Vec::new();
    let sniffed = file.by_ref().take(SNIFF_BYTES as u64).read_to_end(&mut start);
    sniffed.map_err(|error| target.error("read", &error))?;
    if let Some(mime_type) = image_type(&start) {
        return image(&target, start, file, mime_type, meta.len(), image_bytes_max);
    }
    if start.contains(&0) {
        return Err(ToolError::failed(format!(
            "{} is a binary file ({}); use exec with file, xxd or strings to look into it",
            target.shown,
            output::size(meta.len())
        )));
    }
    let reader = BufReader::new(std::io::Cursor::new(start).chain(file));
    text(&target, reader, &page).map_err(|error| match error {
        TextError::Io(error) => target.error("read", &error),
        TextError::BeyondEnd { offset, lines } => ToolError::failed(format!(
            "Offset {offset} is beyond the end of {} ({lines} lines in all)",
            target.shown
        )),
        TextError::TooFar => ToolError::failed(format!(
            "{} is too large to page that far; use exec with sed -n or tail -c",
            target.shown
        )),
    })
}

enum TextError {
    Io(std::io::Error),
    BeyondEnd { offset: u64, lines: u64 },
    TooFar,
}

impl From<std::io::Error> for TextError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// One pass over the file with memory for one page: skip, keep, then count what is left.
fn text(target: &Target, mut reader: impl std::io::BufRead, page: &Page) -> Result<ToolOutcome, TextError> {
    let first = page.offset.unwrap_or(1);
    let wanted = page.limit.unwrap_or(u64::MAX);
    let lines_max = wanted.min(PAGE_LINES_MAX as u64);
    let (mut line_no, mut scanned, mut kept) = (0u64, 0u64, 0u64);
    let mut text: Vec<u8> = Vec::new();
    let (mut full, mut counted) = (false, true);
    let mut too_long: Option<u64> = None;
    loop {
        let keeping = line_no + 1 >= first && kept < lines_max && !full;
        let room = (PAGE_BYTES_MAX + 1).saturating_sub(text.len());
        let mut line = Vec::new();
        let read = if keeping { read_line(&mut reader, &mut line, room)? } else { skip_line(&mut reader)? };
        if read == 0 {
            break;
        }
        line_no += 1;
        scanned += read;
        if keeping {
            full = text.len() + line.strip_suffix(b"\n").unwrap_or(&line).len() > PAGE_BYTES_MAX;
            if full && kept == 0 {
                too_long = Some(read);
            } else if !full {
                text.extend_from_slice(&line);
                kept += 1;
            }
        }
        if scanned > SCAN_BYTES_MAX {
            if kept == 0 && too_long.is_none() {
                return Err(TextError::TooFar);
            }
            if kept >= lines_max || full {
                counted = false;
                break;
            }
        }
    }
    if line_no < first && !(line_no == 0 && first == 1) {
        return Err(TextError::BeyondEnd { offset: first, lines: line_no });
    }
    let mut shown = String::from_utf8_lossy(&text).into_owned();
    if let Some(bytes) = too_long {
        shown = format!(
            "[Line {first} has {}, more than one page of {}. Use exec: sed -n '{first}p' '{}' | head -c {PAGE_BYTES_MAX}]",
            output::size(bytes),
            output::size(PAGE_BYTES_MAX as u64),
            target.shown,
        );
    } else if first - 1 + kept < line_no || !counted {
        let next = first + kept;
        let left = line_no.saturating_sub(first - 1 + kept);
        let more = if counted { left.to_string() } else { format!("more than {left}") };
        shown.truncate(shown.trim_end_matches('\n').len());
        shown.push_str(&format!("\n\n[{more} more lines. Use offset={next} to continue.]"));
    }
    let cut = too_long.is_some() || full;
    Ok(ToolOutcome::text(shown)
        .with_details(json!({"lines": kept, "totalLines": counted.then_some(line_no), "truncated": cut})))
}

/// Reads one line into `line`, at most `room` bytes of it; the rest of a longer line is skipped. The answer counts all.
fn read_line(reader: &mut impl std::io::BufRead, line: &mut Vec<u8>, room: usize) -> std::io::Result<u64> {
    let read = reader.by_ref().take(room as u64).read_until(b'\n', line)? as u64;
    if read > 0 && line.last() != Some(&b'\n') {
        return Ok(read + skip_line(reader)?);
    }
    Ok(read)
}

fn skip_line(reader: &mut impl std::io::BufRead) -> std::io::Result<u64> {
    let mut skipped = 0u64;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        skipped += used as u64;
        if newline.is_some() || skipped > SCAN_BYTES_MAX {
            return Ok(skipped);
        }
    }
}

/// The kind of image by its first bytes; the name of a file proves nothing.
fn image_type(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn image(
    target: &Target,
    mut data: Vec<u8>,
    file: File,
    mime_type: &str,
    size: u64,
    bytes_max: u64,
) -> Result<ToolOutcome, ToolError> {
    let too_large = || {
        ToolError::failed(format!(
            "{} is an image of {}, more than the {} that may be shown; make it smaller first (for example with exec and convert)",
            target.shown,
            output::size(size),
            output::size(bytes_max)
        ))
    };
    if size > bytes_max {
        return Err(too_large());
    }
    // The file may grow while it is read.
    let rest = bytes_max.saturating_sub(data.len() as u64) + 1;
    file.take(rest).read_to_end(&mut data).map_err(|error| target.error("read", &error))?;
    if data.len() as u64 > bytes_max {
        return Err(too_large());
    }
    let data = base64::engine::general_purpose::STANDARD.encode(&data);
    let text = Block::Text { text: format!("Read image file [{mime_type}]") };
    let image = Block::Image { data, mime_type: mime_type.to_owned() };
    Ok(ToolOutcome { content: vec![text, image], ..ToolOutcome::default() })
}

/// Blocking: the whole of a text file for a tool that rewrites it.
pub(super) fn whole_text(target: &Target, path: &Path, bytes_max: u64) -> Result<String, ToolError> {
    let meta = path.metadata().map_err(|error| target.error("read", &error))?;
    if !meta.is_file() {
        return Err(ToolError::failed(format!("{} is not a regular file", target.shown)));
    }
    if meta.len() > bytes_max {
        return Err(ToolError::failed(format!(
            "{} has {}, too large to edit (at most {}); use exec with sed or a script",
            target.shown,
            output::size(meta.len()),
            output::size(bytes_max)
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| target.error("read", &error))?;
    String::from_utf8(bytes)
        .map_err(|_| ToolError::failed(format!("{} is not a UTF-8 text file", target.shown)))
}
