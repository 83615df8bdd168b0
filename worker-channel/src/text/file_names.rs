//! Marks file names such as `README.md` as code. Chats turn them into links, because the ending is also a
//! country's domain, and fetch a preview of a stranger's page.

use super::{Span, Style, Styled};

/// File endings that are top-level domains too.
const ENDINGS: [&str; 10] = ["md", "go", "py", "pl", "sh", "rs", "am", "at", "be", "cc"];

/// Adds a code span to every file-like name that is outside code and links.
pub fn guard(styled: &mut Styled) {
    let mut found = Vec::new();
    let mut at = 0;
    for word in styled.text.split_inclusive(|c: char| !is_name_char(c)) {
        let name = word.trim_end_matches(|c: char| !is_name_char(c)).trim_end_matches('.');
        if is_file_name(name) && !behind_scheme(&styled.text, at) {
            found.push(at..at + name.len());
        }
        at += word.len();
    }
    for range in found {
        let covered = styled.spans.iter().any(|span| {
            let blocks = span.style.is_verbatim() || matches!(span.style, Style::Link(_));
            let touches = span.range.start < range.end && range.start < span.range.end;
            let inside = span.range.start <= range.start && range.end <= span.range.end;
            touches && (blocks || !inside)
        });
        if !covered {
            // Behind all that start at or before it: it is the innermost.
            let at = styled.spans.partition_point(|span| span.range.start <= range.start);
            styled.spans.insert(at, Span { range, style: Style::Code });
        }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | ':' | '%' | '?' | '=' | '#' | '+')
}

fn is_file_name(word: &str) -> bool {
    let Some((stem, ending)) = word.rsplit_once('.') else { return false };
    let known = ENDINGS.contains(&ending.to_ascii_lowercase().as_str());
    let named = stem.chars().any(char::is_alphanumeric) && !stem.contains(['@', ':', '?', '%', '=']);
    known && named && !stem.starts_with("www.")
}

/// `https://x.md`: the scheme's colon and slashes are name characters, so this only catches odd brackets.
fn behind_scheme(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.ends_with("://"))
}
