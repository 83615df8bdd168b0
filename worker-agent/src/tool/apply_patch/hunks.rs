//! Applying hunks to the lines of a file. Pure.
//!
//! A hunk has no line numbers: it is found by its old lines, at or after the previous hunk. The exact text is looked for first, then
//! without spaces at line ends, then without indentation at either end.

/// One change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// Lines that stand somewhere before the change, outermost first (a class, then a function).
    pub context: Vec<String>,
    pub old: Vec<String>,
    pub new: Vec<String>,
    /// The old lines are the last ones of the file.
    pub at_end: bool,
}

impl Hunk {
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }
}

/// Where a hunk does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HunkError {
    #[error("failed to find the context line {0:?}")]
    NoContext(String),
    #[error("failed to find the expected lines:\n{0}")]
    NoMatch(String),
}

/// The text with all hunks applied. Line endings and a missing newline at the end stay as they were.
pub fn apply(text: &str, hunks: &[Hunk]) -> Result<String, HunkError> {
    let crlf = text.contains("\r\n") && text.matches('\n').count() == text.matches("\r\n").count();
    let ending = if crlf { "\r\n" } else { "\n" };
    let old: Vec<&str> = text
        .split_terminator('\n')
        .map(|line| if crlf { line.trim_end_matches('\r') } else { line })
        .collect();
    let mut result: Vec<&str> = Vec::new();
    let mut from = 0;
    for hunk in hunks {
        let Place { start, end, blank } = place(&old, hunk, from)?;
        result.extend(old.get(from..start).unwrap_or_default());
        let kept = hunk.new.len() - blank;
        result.extend(hunk.new.iter().take(kept).map(String::as_str));
        from = end;
    }
    result.extend(old.get(from..).unwrap_or_default());
    let mut text_after = result.join(ending);
    if !result.is_empty() && (text.is_empty() || text.ends_with('\n')) {
        text_after.push_str(ending);
    }
    Ok(text_after)
}

/// The lines `start..end` that a hunk replaces. `blank`: empty lines at the hunk's end that are not part of it.
struct Place {
    start: usize,
    end: usize,
    blank: usize,
}

fn place(lines: &[&str], hunk: &Hunk, mut from: usize) -> Result<Place, HunkError> {
    for context in &hunk.context {
        let wanted = [context.as_str()];
        let at = seek(lines, &wanted, from, false).ok_or_else(|| HunkError::NoContext(context.clone()))?;
        from = at + 1;
    }
    if hunk.old.is_empty() {
        // Only new lines: behind the context, or at the end of the file.
        let at = if hunk.context.is_empty() || hunk.at_end { lines.len() } else { from };
        return Ok(Place { start: at, end: at, blank: 0 });
    }
    let wanted: Vec<&str> = hunk.old.iter().map(String::as_str).collect();
    // Models put an empty line before the next marker, or for the newline at the end of a file: tried without it.
    let both = hunk.old.iter().rev().zip(hunk.new.iter().rev());
    let blanks = both.take_while(|(old, new)| old.is_empty() && new.is_empty()).count();
    for blank in 0..=blanks {
        let wanted = wanted.get(..wanted.len() - blank).filter(|wanted| !wanted.is_empty());
        let found = wanted.and_then(|wanted| Some((seek(lines, wanted, from, hunk.at_end)?, wanted.len())));
        if let Some((start, len)) = found {
            return Ok(Place { start, end: start + len, blank });
        }
    }
    Err(HunkError::NoMatch(hunk.old.join("\n")))
}

/// The first place at or after `from` where `wanted` stands, by ever more tolerant comparison; at the end first when asked.
fn seek(lines: &[&str], wanted: &[&str], from: usize, at_end: bool) -> Option<usize> {
    let compare: [fn(&str, &str) -> bool; 3] =
        [|a, b| a == b, |a, b| a.trim_end() == b.trim_end(), |a, b| a.trim() == b.trim()];
    let last = lines.len().checked_sub(wanted.len())?;
    for same in compare {
        let fits = |at: &usize| {
            lines
                .get(*at..*at + wanted.len())
                .is_some_and(|here| here.iter().zip(wanted).all(|(a, b)| same(a, b)))
        };
        if at_end && last >= from && fits(&last) {
            return Some(last);
        }
        if let Some(at) = (from..=last).find(fits) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests;
