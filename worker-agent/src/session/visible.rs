//! What a reader sees of a stored text. PURE. A user message carries context for the model in front of the person's
//! own words, an answer may be the silent token, hold thoughts, reply tags or media lines; people see none of that.

/// The whole answer that means "say nothing".
pub const SILENT_TOKEN: &str = "NO_REPLY";
/// Ends the label line of a block of context in front of a user's words.
pub const CONTEXT_MARK: &str = "(untrusted, for context):";
/// Starts a line that the gateway itself put in front of a user's words.
pub const SYSTEM_LINE: &str = "System: ";
/// Stands between what the gateway put in front and the words themselves, when there is anything in front.
pub const NOTE_START: &str = "[Note from the gateway]";

/// The words of the person: leading context blocks, notes, system lines and the timestamp are cut.
pub fn user_text(text: &str) -> &str {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let next = context_block(trimmed).or_else(|| note(trimmed)).or_else(|| system_line(trimmed));
        match next {
            Some(after) => rest = after,
            None => break,
        }
    }
    let rest = if std::ptr::eq(rest, text) { rest } else { rest.trim_start() };
    without_timestamp(rest)
}

/// Behind `<label> (untrusted, for context):` and its fenced block.
fn context_block(text: &str) -> Option<&str> {
    let (label, rest) = text.split_once('\n')?;
    if !label.ends_with(CONTEXT_MARK) {
        return None;
    }
    let body = rest.strip_prefix("```json\n")?;
    // The JSON inside is on escaped lines, so a fence at the start of a line is the closing one.
    let (_, after) = body.split_once("\n```")?;
    Some(after.trim_start_matches('\n'))
}

fn note(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(NOTE_START)?;
    Some(rest.split_once("\n\n").map_or("", |(_, after)| after))
}

fn system_line(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(SYSTEM_LINE)?;
    Some(rest.split_once('\n').map_or("", |(_, after)| after))
}

/// Cuts `[Www YYYY-MM-DD HH:MM TZ] `.
fn without_timestamp(text: &str) -> &str {
    has_timestamp(text).then(|| text.split_once("] ").map(|(_, rest)| rest)).flatten().unwrap_or(text)
}

/// Whether the text starts with a bracketed date and time.
pub fn has_timestamp(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inner, _)| inner)
    else {
        return false;
    };
    let mut words = inner.split(' ');
    let date = |word: &str| {
        word.len() == 10
            && word.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    let first = words.next().unwrap_or_default();
    let (day, time) =
        if date(first) { (first, words.next()) } else { (words.next().unwrap_or_default(), words.next()) };
    let clock = time.unwrap_or_default();
    date(day) && clock.len() >= 5 && clock.as_bytes().get(2) == Some(&b':')
}

/// The visible part of a model's text: thoughts and final tags outside of code go, and a silent token at the end.
/// None: nothing to show.
pub fn answer_text(text: &str) -> Option<String> {
    let shown = strip_thoughts(text);
    let shown = shown.trim();
    if shown == SILENT_TOKEN {
        return None;
    }
    let shown = match shown.strip_suffix(SILENT_TOKEN) {
        Some(head) if head.ends_with(char::is_whitespace) => head.trim_end(),
        _ => shown,
    };
    (!shown.is_empty()).then(|| shown.to_owned())
}

const THOUGHT_TAGS: [&str; 4] = ["think", "thinking", "thought", "antthinking"];

/// Removes `<think>…</think>` and its variants with their content, and bare `<final>` tags, outside of code fences
/// and code spans. An unclosed thought hides the rest.
fn strip_thoughts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut thought: Option<String> = None;
    while let Some(at) = rest.find(['<', '`']) {
        let (head, tail) = rest.split_at(at);
        if thought.is_none() {
            out.push_str(head);
        }
        if tail.starts_with('`') {
            let end = code_end(tail);
            if thought.is_none() {
                out.push_str(&tail[..end]);
            }
            rest = &tail[end..];
            continue;
        }
        let (name, closing, len) = tag(tail);
        match (&thought, closing) {
            (None, false) if THOUGHT_TAGS.contains(&name.as_str()) => thought = Some(name),
            (Some(open), true) if *open == name => thought = None,
            (Some(_), _) => {}
            (None, _) if name == "final" || THOUGHT_TAGS.contains(&name.as_str()) => {}
            (None, _) => out.push_str(&tail[..len]),
        }
        rest = &tail[len..];
    }
    if thought.is_none() {
        out.push_str(rest);
    }
    out
}

/// Length of the code that starts with the backticks at the front; to the end when it is never closed in a fence,
/// else just the backticks.
fn code_end(text: &str) -> usize {
    let ticks = text.bytes().take_while(|byte| *byte == b'`').count();
    let (fence, rest) = text.split_at(ticks);
    match rest.find(fence) {
        Some(at) => ticks + at + ticks,
        None if ticks >= 3 => text.len(),
        None => ticks,
    }
}

/// Lower-case name of the tag at the front, whether it closes, and its length; a plain `<` has no name.
fn tag(text: &str) -> (String, bool, usize) {
    let Some(end) = text.find('>').filter(|end| *end <= 40) else { return (String::new(), false, 1) };
    let inner = text[1..end].trim();
    let (inner, closing) = inner.strip_prefix('/').map_or((inner, false), |name| (name.trim(), true));
    let name = inner.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let known = name == "final" || THOUGHT_TAGS.contains(&name.as_str());
    if known { (name, closing, end + 1) } else { (String::new(), false, 1) }
}

/// At most `max` characters, with an ellipsis when something was cut; white space collapsed.
pub fn one_line(text: &str, max: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= max {
        return flat;
    }
    let mut cut: String = flat.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_person_are_left() {
        let full = "Conversation info (untrusted, for context):\n```json\n{\"a\":\"x\"}\n```\n\nSender (untrusted, for \
            context):\n```json\n{}\n```\n\nSystem: [10:00] restarted\n[Note from the gateway] aborted before.\n\n\
            [Sun 2026-11-22 09:25 UTC] hello\n```json\nmine\n```";
        assert_eq!(user_text(full), "hello\n```json\nmine\n```");
        assert_eq!(user_text("[Sun 2026-11-22 09:25 GMT+1] hi"), "hi");
        assert_eq!(user_text("[not a date] hi"), "[not a date] hi");
        assert_eq!(user_text("  plain"), "  plain");
    }

    #[test]
    fn what_an_answer_shows() {
        assert_eq!(answer_text(" NO_REPLY\n"), None);
        assert_eq!(answer_text("Done. NO_REPLY").as_deref(), Some("Done."));
        assert_eq!(answer_text("no_reply").as_deref(), Some("no_reply"));
        assert_eq!(answer_text("<think>hm <b></think>Yes <b>x</b>").as_deref(), Some("Yes <b>x</b>"));
        assert_eq!(answer_text("<final>Yes</final>").as_deref(), Some("Yes"));
        assert_eq!(answer_text("a `<think>` b").as_deref(), Some("a `<think>` b"));
        assert_eq!(answer_text("1 < 2 ü").as_deref(), Some("1 < 2 ü"));
        assert_eq!(answer_text("<think>never closed"), None);
        assert_eq!(answer_text("```\n<think>\n```").as_deref(), Some("```\n<think>\n```"));
    }
}
