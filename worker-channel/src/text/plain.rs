//! Characters and spans → text without markup: the fallback when a network refuses ours, and the channels that
//! have none. Link targets that the label does not show are written behind it.

use super::{Style, Styled};

/// Renders one part. May be longer than the part by the targets of its links.
pub fn render(part: &Styled) -> String {
    let mut inserts: Vec<(usize, &str)> = part
        .spans
        .iter()
        .filter_map(|span| match &span.style {
            Style::Link(target) => {
                let label = part.text.get(span.range.clone()).unwrap_or_default();
                let shown = target.is_empty() || target.trim_start_matches("mailto:") == label;
                (!shown).then_some((span.range.end, target.as_str()))
            }
            _ => None,
        })
        .collect();
    inserts.sort_by_key(|(at, _)| *at);
    let mut out = String::with_capacity(part.text.len());
    let mut from = 0;
    for (at, target) in inserts {
        out.push_str(part.text.get(from..at).unwrap_or_default());
        out.push_str(" (");
        out.push_str(target);
        out.push(')');
        from = at;
    }
    out.push_str(part.text.get(from..).unwrap_or_default());
    out
}
