//! Splits a text that is longer than a channel takes. Pure and deterministic: the same text and limit give the
//! same parts, which is what lets a send go on with part k after a crash.

use std::ops::Range;

use super::{Styled, Tables, parse, utf16_len, utf16_prefix};

/// Where a reply may be cut (`chunkMode`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ChunkMode {
    /// Only when the limit forces it.
    #[default]
    Length,
    /// Each paragraph is a message of its own; a paragraph over the limit is cut by length.
    Newline,
}

/// Markdown → the messages that are to be sent. `limit` counts UTF-16 units of the visible text; 0 means no
/// limit. Empty text gives no parts.
pub fn messages(markdown: &str, limit: usize, mode: ChunkMode, tables: Tables) -> Vec<Styled> {
    let sources = match mode {
        ChunkMode::Length => vec![markdown],
        ChunkMode::Newline => paragraphs(markdown),
    };
    sources
        .into_iter()
        .flat_map(|source| {
            let whole = parse(source, tables);
            cuts(&whole, limit).into_iter().map(move |range| whole.slice(range)).collect::<Vec<_>>()
        })
        .collect()
}

/// The byte ranges of the parts: in order, none overlapping, only white space between them, each visible and at
/// most `limit` UTF-16 units long.
pub fn cuts(whole: &Styled, limit: usize) -> Vec<Range<usize>> {
    let text = whole.text.as_str();
    let mut parts = Vec::new();
    let mut start = skip_newlines(whole, 0);
    while start < text.len() {
        let rest = text.get(start..).unwrap_or_default();
        let end = if limit == 0 || utf16_len(rest) <= limit {
            text.len()
        } else {
            // At least one character, so that a limit of 1 still ends.
            let window = utf16_prefix(rest, limit).max(rest.chars().next().map_or(1, char::len_utf8));
            start + best_cut(rest, window)
        };
        if text.get(start..end).is_some_and(|part| !part.trim().is_empty()) {
            parts.push(start..end);
        }
        start = next_start(whole, end);
    }
    parts
}

/// The last good place at or before `window`, relative to `rest`: a newline outside parentheses, else white
/// space outside parentheses, else either of them inside, else the window itself.
fn best_cut(rest: &str, window: usize) -> usize {
    let (mut newline, mut space, mut inner_newline, mut inner_space) = (None, None, None, None);
    let mut depth = 0usize;
    for (at, c) in rest.char_indices() {
        if at > window {
            break;
        }
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '\n' if at > 0 && depth == 0 => newline = Some(at),
            '\n' if at > 0 => inner_newline = Some(at),
            c if at > 0 && c.is_whitespace() && depth == 0 => space = Some(at),
            c if at > 0 && c.is_whitespace() => inner_space = Some(at),
            _ => {}
        }
    }
    newline.or(space).or(inner_newline).or(inner_space).unwrap_or(window)
}

/// After a cut: one white space character is swallowed, and outside code also the newlines that follow.
/// Inside code the indentation of the next line is content.
fn next_start(whole: &Styled, end: usize) -> usize {
    let rest = whole.text.get(end..).unwrap_or_default();
    let Some(first) = rest.chars().next().filter(|c| c.is_whitespace()) else { return end };
    let after = end + first.len_utf8();
    if whole.is_verbatim_at(end) { after } else { skip_newlines(whole, after) }
}

fn skip_newlines(whole: &Styled, from: usize) -> usize {
    let rest = whole.text.get(from..).unwrap_or_default();
    let newlines = rest.len() - rest.trim_start_matches(['\n', '\r']).len();
    from + newlines
}

/// Cuts Markdown source at blank lines that are outside fences.
fn paragraphs(markdown: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut fence: Option<(char, usize)> = None;
    let (mut start, mut at) = (0, 0);
    for line in markdown.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if blank && fence.is_none() {
            parts.push(markdown.get(start..at).unwrap_or_default());
            start = at + line.len();
        } else {
            fence = after_line(fence, line);
        }
        at += line.len();
    }
    parts.push(markdown.get(start..).unwrap_or_default());
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The fence that is open after this line: the marker and its length (CommonMark 4.5).
fn after_line(open: Option<(char, usize)>, line: &str) -> Option<(char, usize)> {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let body = line.trim();
    let Some(marker) = body.chars().next().filter(|c| matches!(c, '`' | '~')) else { return open };
    let count = body.chars().take_while(|c| *c == marker).count();
    let info = body.get(count..).unwrap_or_default();
    match open {
        Some((c, n)) if c == marker && count >= n && info.is_empty() && indent < 4 => None,
        Some(_) => open,
        None if count >= 3 && indent < 4 && !(marker == '`' && info.contains('`')) => Some((marker, count)),
        None => None,
    }
}

/// Cuts a part that fits by its characters but not once it is rendered (`fits` says so), until every piece does.
pub fn refine(part: Styled, fits: fn(&Styled) -> bool) -> Vec<Styled> {
    /// Below this a piece is taken as it is: no markup is that long, so its links are.
    const UNITS_MIN: usize = 32;
    let units = utf16_len(&part.text);
    if fits(&part) || units <= UNITS_MIN {
        return vec![part];
    }
    let pieces = cuts(&part, units / 2 + 1);
    pieces.into_iter().flat_map(|range| refine(part.slice(range), fits)).collect()
}
