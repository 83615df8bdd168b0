//! Limits of what a tool may say: cutting by lines and bytes, clean text, a tail of bounded size for running commands.
//!
//! Pure; the tools decide which end of a text matters.

/// Lines in one page of text.
pub const PAGE_LINES_MAX: usize = 2000;
/// Bytes in one page of text: about 12 000 tokens, so that one careless call does not fill a context.
pub const PAGE_BYTES_MAX: usize = 50 * 1024;
/// Characters of text in one tool result, the last resort behind each tool's own limit.
pub const RESULT_CHARS_MAX: usize = 400_000;

/// Which limit cut a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutBy {
    Lines,
    Bytes,
}

/// The kept part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<'a> {
    pub text: &'a str,
    /// Whole lines kept.
    pub lines: usize,
    pub cut: Option<CutBy>,
}

/// Keeps whole lines from the start within both limits. Nothing is kept when the first line alone is too long.
pub fn head(text: &str, lines_max: usize, bytes_max: usize) -> Page<'_> {
    let (mut end, mut lines) = (0, 0);
    for line in text.split_inclusive('\n') {
        let cut = if lines == lines_max {
            Some(CutBy::Lines)
        } else if end + line.trim_end_matches('\n').len() > bytes_max {
            Some(CutBy::Bytes)
        } else {
            None
        };
        if cut.is_some() {
            let text = text.get(..end).unwrap_or_default();
            return Page { text: text.strip_suffix('\n').unwrap_or(text), lines, cut };
        }
        end += line.len();
        lines += 1;
    }
    Page { text, lines, cut: None }
}

/// The last `chars_max` characters.
pub fn tail_chars(text: &str, chars_max: usize) -> &str {
    if text.len() <= chars_max {
        return text;
    }
    let skip = text.chars().count().saturating_sub(chars_max);
    let start = text.char_indices().nth(skip).map_or(0, |(at, _)| at);
    text.get(start..).unwrap_or_default()
}

/// The first `chars_max` characters.
pub fn head_chars(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// Text for a model and a terminal: no control characters except tab and newline, no escape sequences, `\r\n` as `\n`.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            // Interlinear annotation marks break some tokenizers and show nothing.
            '\u{fff9}'..='\u{fffb}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips one escape sequence (ECMA-48: CSI ends with 0x40-0x7e, OSC with BEL or ST), the introducer already read.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while let Some(c) = chars.peek().copied() {
                if !c.is_ascii() || c.is_ascii_control() {
                    return;
                }
                chars.next();
                if ('\u{40}'..='\u{7e}').contains(&c) {
                    return;
                }
            }
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        Some('(' | ')') => {
            chars.next();
            chars.next();
        }
        Some(c) if !c.is_control() => {
            chars.next();
        }
        _ => {}
    }
}

/// Cuts a result that is still too long, at a line break when one lies in the last fifth, and says so.
pub fn cap_result(text: String, chars_max: usize) -> String {
    if text.len() <= chars_max || text.chars().count() <= chars_max {
        return text;
    }
    const NOTICE: &str = "\n\n[Only a part is shown: the output was too large. Use offset and limit, or a narrower request, for the rest.]";
    let kept = head_chars(&text, chars_max.saturating_sub(NOTICE.chars().count()));
    let cut = kept.rfind('\n').filter(|at| *at >= kept.len() / 5 * 4).unwrap_or(kept.len());
    format!("{}{NOTICE}", kept.get(..cut).unwrap_or_default())
}

/// "512B", "50.0KB", "1.5MB".
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal for people")]
    let bytes_f = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.1}KB", bytes_f / 1024.0),
        _ => format!("{:.1}MB", bytes_f / 1_048_576.0),
    }
}

/// The last part of a stream, bounded by bytes. Bytes come in any portions; what is read out is text.
#[derive(Debug, Default)]
pub struct Tail {
    kept: std::collections::VecDeque<u8>,
    bytes_max: usize,
    /// Bytes ever pushed.
    total: u64,
}

impl Tail {
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: std::collections::VecDeque::new(), bytes_max, total: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let bytes = bytes.get(bytes.len().saturating_sub(self.bytes_max)..).unwrap_or_default();
        let over = (self.kept.len() + bytes.len()).saturating_sub(self.bytes_max);
        self.kept.drain(..over.min(self.kept.len()));
        self.kept.extend(bytes);
    }

    /// Bytes ever pushed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are gone from the front.
    pub fn dropped(&self) -> u64 {
        self.total - self.kept.len() as u64
    }

    /// What is kept, as clean text; a character cut in half at the front is left out.
    pub fn text(&self) -> String {
        self.since(0).0
    }

    /// What came after the stream position `from`, as clean text, and how many bytes of it were lost.
    pub fn since(&self, from: u64) -> (String, u64) {
        let lost = self.dropped().saturating_sub(from);
        let skip = usize::try_from(from.saturating_sub(self.dropped())).unwrap_or(usize::MAX);
        let mut bytes: Vec<u8> = self.kept.iter().skip(skip).copied().collect();
        if self.dropped() > 0 && lost > 0 {
            let partial = bytes.iter().take(3).take_while(|b| (**b & 0xc0) == 0x80).count();
            bytes.drain(..partial);
        }
        (clean(&String::from_utf8_lossy(&bytes)), lost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn head_keeps_whole_lines() {
        assert_eq!(head("a\nb\nc", 2, 100), Page { text: "a\nb", lines: 2, cut: Some(CutBy::Lines) });
        assert_eq!(head("aa\nbb\n", 9, 4), Page { text: "aa", lines: 1, cut: Some(CutBy::Bytes) });
        assert_eq!(head("aaaa", 9, 3), Page { text: "", lines: 0, cut: Some(CutBy::Bytes) });
        assert_eq!(head("a\nb\n", 2, 100), Page { text: "a\nb\n", lines: 2, cut: None });
    }

    #[test]
    fn clean_drops_escapes_and_controls() {
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\r\nx\u{0}y\u{1b}]0;t\u{7}z\tä"), "red\nxyz\tä");
        assert_eq!(clean("10%\r20%\r"), "10%\n20%\n");
        assert_eq!(clean("\u{1b}"), "");
    }

    #[test]
    fn a_capped_result_says_so() {
        let long = "line\n".repeat(1000);
        let capped = cap_result(long, 500);
        assert!(capped.chars().count() <= 500 && capped.contains("Only a part"), "{capped}");
    }

    proptest! {
        #[test]
        fn a_tail_is_bounded_and_a_suffix(parts in prop::collection::vec("[a-zä]{0,9}", 0..20), max in 1usize..30) {
            let mut tail = Tail::new(max);
            let mut whole = String::new();
            for part in &parts {
                tail.push(part.as_bytes());
                whole.push_str(part);
                prop_assert!(tail.kept.len() <= max);
            }
            prop_assert!(whole.ends_with(&tail.text()));
            prop_assert_eq!(tail.total(), whole.len() as u64);
        }
    }
}
