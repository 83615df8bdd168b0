//! Finding a piece of text as a model remembers it, and replacing it. Pure.
//!
//! The exact text is tried first. Then a tolerant look that forgives what models get wrong without noticing: spaces at line
//! ends, and quotes, dashes and spaces that have an ASCII look-alike. Only the piece that matches is replaced; the
//! rest of the file keeps its bytes. A byte order mark and the line endings of the file are kept.

/// Why nothing was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditError {
    /// The text to find is empty.
    Empty,
    NotFound,
    /// How often it was found.
    NotUnique(usize),
    NoChange,
}

/// Content with the one occurrence of `old` replaced by `new`.
pub fn replace_once(content: &str, old: &str, new: &str) -> Result<String, EditError> {
    let (mark, body) = match content.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", content),
    };
    let endings = Endings::of(body);
    let plain = body.replace("\r\n", "\n");
    let old = old.replace("\r\n", "\n");
    let new = new.replace("\r\n", "\n");
    let found = find(&plain, &old)?;
    let (Some(before), Some(after)) = (plain.get(..found.start), plain.get(found.end..)) else {
        return Err(EditError::NotFound);
    };
    if plain.get(found) == Some(new.as_str()) {
        return Err(EditError::NoChange);
    }
    // Files with mixed endings keep them where nothing changed: only the new piece is adapted.
    let result = match endings {
        Endings::Lf => format!("{mark}{before}{new}{after}"),
        Endings::CrLf => format!("{mark}{}", format!("{before}{new}{after}").replace('\n', "\r\n")),
        Endings::Mixed => {
            let from = to_original(body, before.len());
            let to = to_original(body, plain.len() - after.len());
            let (Some(before), Some(after)) = (body.get(..from), body.get(to..)) else {
                return Err(EditError::NotFound);
            };
            format!("{mark}{before}{new}{after}")
        }
    };
    Ok(result)
}

enum Endings {
    Lf,
    CrLf,
    Mixed,
}

impl Endings {
    fn of(text: &str) -> Self {
        let crlf = text.matches("\r\n").count();
        match text.matches('\n').count() {
            _ if crlf == 0 => Self::Lf,
            all if all == crlf => Self::CrLf,
            _ => Self::Mixed,
        }
    }
}

/// A position in the text without `\r\n` as a position in the original.
fn to_original(body: &str, position: usize) -> usize {
    let mut seen = 0;
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if seen >= position {
            return at;
        }
        let half_of_pair = c == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
        if !half_of_pair {
            seen += c.len_utf8();
        }
    }
    body.len()
}

/// The one place where `wanted` stands in `text`.
pub fn find(text: &str, wanted: &str) -> Result<std::ops::Range<usize>, EditError> {
    if wanted.is_empty() {
        return Err(EditError::Empty);
    }
    let mut exact = text.match_indices(wanted);
    match (exact.next(), exact.count()) {
        (Some((at, _)), 0) => return Ok(at..at + wanted.len()),
        (Some(_), more) => return Err(EditError::NotUnique(more + 1)),
        (None, _) => {}
    }
    let folded = Folded::of(text);
    let wanted = Folded::of(wanted).text;
    if wanted.trim().is_empty() {
        return Err(EditError::NotFound);
    }
    let mut tolerant = folded.text.match_indices(&wanted);
    match (tolerant.next(), tolerant.count()) {
        (Some((at, _)), 0) => folded.original(at..at + wanted.len()).ok_or(EditError::NotFound),
        (Some(_), more) => Err(EditError::NotUnique(more + 1)),
        (None, _) => Err(EditError::NotFound),
    }
}

/// A text with look-alikes replaced and line ends trimmed, which knows where each of its bytes comes from.
struct Folded {
    text: String,
    /// For each byte of `text`, the byte of the original; one more for the end.
    from: Vec<usize>,
}

impl Folded {
    fn of(original: &str) -> Self {
        let mut folded = Self { text: String::new(), from: Vec::new() };
        let mut start = 0;
        for line in original.split_inclusive('\n') {
            let body = line.strip_suffix('\n').unwrap_or(line);
            let kept = body.trim_end();
            for (at, c) in kept.char_indices() {
                folded.push(plain(c), start + at);
            }
            if body.len() < line.len() {
                folded.push('\n', start + body.len());
            }
            start += line.len();
        }
        folded.from.push(original.len());
        folded
    }

    fn push(&mut self, c: char, from: usize) {
        self.text.push(c);
        self.from.extend(std::iter::repeat_n(from, c.len_utf8()));
    }

    fn original(&self, range: std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
        let start = *self.from.get(range.start)?;
        let end = *self.from.get(range.end)?;
        // When the match ends a line whose trailing spaces were trimmed, `end` is the newline: the spaces go with the match.
        Some(start..end)
    }
}

/// The ASCII character that a model writes for one of its relatives.
fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests;
