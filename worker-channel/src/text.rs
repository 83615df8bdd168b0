//! The text of a reply, from Markdown to what a channel shows: parse once into plain characters plus style
//! spans, split that, render each part. Pure: no IO, no clock, no channel's name.
//!
//! Not here: what a channel allows (its limit, its markup) – the channel picks the renderer and the limit.
//!
//! Splitting works on the parsed form, never on rendered markup, so that a cut inside a code block or a bold
//! run closes it in one part and opens it again in the next.

pub mod file_names;
pub mod html;
mod markdown;
pub mod plain;
pub mod split;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use markdown::parse;
use serde::{Deserialize, Serialize};

/// How a Markdown table is shown where the channel has none (`markdown.tables`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tables {
    /// One bullet per row.
    Bullets,
    /// A code block with aligned columns.
    #[default]
    #[serde(alias = "block")]
    Code,
    /// The source as it was written.
    Off,
}

/// What a run of characters looks like or points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    Bold,
    Italic,
    Strike,
    Spoiler,
    Quote,
    Code,
    /// A fenced or indented block, with the language of its info string.
    CodeBlock(Option<String>),
    /// The target of a link.
    Link(String),
}

impl Style {
    /// Nothing is styled, linked or guarded inside these.
    pub fn is_verbatim(&self) -> bool {
        matches!(self, Self::Code | Self::CodeBlock(_))
    }
}

/// A style on a byte range of the text; the ends are character boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub range: Range<usize>,
    pub style: Style,
}

/// Characters and their styles. Spans nest properly: of two that touch, one holds the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Styled {
    pub text: String,
    pub spans: Vec<Span>,
}

impl Styled {
    /// Text without any style.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), spans: Vec::new() }
    }

    /// A part of this text with the styles that reach into it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let spans = self.spans.iter().filter_map(|span| {
            let start = span.range.start.max(range.start);
            let end = span.range.end.min(range.end);
            (start < end)
                .then(|| Span { range: start - range.start..end - range.start, style: span.style.clone() })
        });
        Self { text: self.text.get(range.clone()).unwrap_or_default().to_owned(), spans: spans.collect() }
    }

    /// Whether a byte position lies inside a code span or block.
    pub fn is_verbatim_at(&self, at: usize) -> bool {
        self.spans.iter().any(|s| s.style.is_verbatim() && s.range.start <= at && at < s.range.end)
    }
}

/// Length in UTF-16 code units, the unit in which Telegram, Discord and the clients count.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The longest prefix of `text` that has at most `units` UTF-16 code units, as a byte length.
pub fn utf16_prefix(text: &str, units: usize) -> usize {
    let mut left = units;
    for (at, c) in text.char_indices() {
        match left.checked_sub(c.len_utf16()) {
            Some(rest) => left = rest,
            None => return at,
        }
    }
    text.len()
}
