//! Characters and spans → the HTML subset that Telegram's Bot API takes ("HTML style" of its formatting
//! options). Every tag that is opened is closed in the same part, inner before outer.

use super::{Style, Styled};

/// Renders one part.
pub fn render(part: &Styled) -> String {
    let mut out = String::with_capacity(part.text.len() + part.spans.len() * 8);
    let mut open: Vec<&super::Span> = Vec::new();
    let mut spans = part.spans.iter().peekable();
    let mut at = 0;
    loop {
        while let Some(span) = open.pop_if(|span| span.range.end <= at) {
            close_tag(&mut out, &span.style);
        }
        while let Some(span) = spans.next_if(|span| span.range.start <= at) {
            if span.range.end > at && !open.iter().any(|outer| outer.style.is_verbatim()) {
                open_tag(&mut out, &span.style);
                open.push(span);
            }
        }
        if at >= part.text.len() {
            break;
        }
        let next_close = open.last().map_or(part.text.len(), |span| span.range.end);
        let next_open = spans.peek().map_or(part.text.len(), |span| span.range.start);
        let next = next_close.min(next_open).min(part.text.len());
        escape(&mut out, part.text.get(at..next).unwrap_or_default());
        at = next;
    }
    out
}

fn open_tag(out: &mut String, style: &Style) {
    match style {
        Style::Bold => out.push_str("<b>"),
        Style::Italic => out.push_str("<i>"),
        Style::Strike => out.push_str("<s>"),
        Style::Spoiler => out.push_str("<tg-spoiler>"),
        Style::Quote => out.push_str("<blockquote>"),
        Style::Code => out.push_str("<code>"),
        Style::CodeBlock(None) => out.push_str("<pre><code>"),
        Style::CodeBlock(Some(language)) => {
            out.push_str("<pre><code class=\"language-");
            escape(out, language);
            out.push_str("\">");
        }
        Style::Link(target) => {
            out.push_str("<a href=\"");
            escape(out, target);
            out.push_str("\">");
        }
    }
}

fn close_tag(out: &mut String, style: &Style) {
    out.push_str(match style {
        Style::Bold => "</b>",
        Style::Italic => "</i>",
        Style::Strike => "</s>",
        Style::Spoiler => "</tg-spoiler>",
        Style::Quote => "</blockquote>",
        Style::Code => "</code>",
        Style::CodeBlock(_) => "</code></pre>",
        Style::Link(_) => "</a>",
    });
}

/// The four entities that the Bot API names; it refuses most others.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
}
