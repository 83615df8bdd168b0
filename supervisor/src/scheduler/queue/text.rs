//! The words that a model reads when messages were merged or dropped (PURE).

/// Heading of a merged turn.
const TITLE: &str = "[Queued messages while agent was busy]";
/// Characters of one summary line: enough to recognise a message.
const SUMMARY_LINE_CHARS_MAX: usize = 160;

/// One prompt out of several messages, in order, after the summary of what had to be dropped.
pub fn merged_prompt<'a>(summary: Option<&str>, texts: impl Iterator<Item = &'a str>) -> String {
    let mut blocks = vec![TITLE.to_owned()];
    blocks.extend(summary.map(str::to_owned));
    blocks.extend(texts.zip(1..).map(|(text, n)| format!("---\nQueued #{n}\n{text}").trim().to_owned()));
    blocks.join("\n\n")
}

/// `None` when nothing was dropped.
pub fn overflow_summary<'a>(dropped: u32, lines: impl Iterator<Item = &'a str>) -> Option<String> {
    if dropped == 0 {
        return None;
    }
    let noun = if dropped == 1 { "message" } else { "messages" };
    let mut text = format!("[Queue overflow] Dropped {dropped} {noun} due to cap.");
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        text.push_str("\nSummary:");
    }
    for line in lines {
        text.push_str("\n- ");
        text.push_str(line);
    }
    Some(text)
}

/// Whitespace collapsed, cut with an ellipsis.
pub fn summary_line(text: &str) -> String {
    let clean = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if clean.chars().count() <= SUMMARY_LINE_CHARS_MAX {
        return clean;
    }
    let cut: String = clean.chars().take(SUMMARY_LINE_CHARS_MAX - 1).collect();
    format!("{}…", cut.trim_end())
}
