//! Markdown → characters and spans. Accepts anything: there is no such thing as invalid Markdown.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, TextMergeStream};

use super::table::Table;
use super::{Span, Style, Styled, Tables};

/// A rule (`---`) as a line that every chat shows alike.
const RULE: &str = "───";
/// Spaces per level of a nested list: narrow, because phones are.
const LIST_INDENT: usize = 2;

/// Reads Markdown. Headings become bold, lists keep their bullets and numbers, soft breaks stay line breaks
/// (chats show them), a link without a label shows its target.
pub fn parse(markdown: &str, tables: Tables) -> Styled {
    let mut options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    if tables != Tables::Off {
        options |= Options::ENABLE_TABLES;
    }
    let mut builder = Builder::new(tables);
    for event in TextMergeStream::new(Parser::new_ext(markdown, options)) {
        builder.event(event);
    }
    builder.finish()
}

struct List {
    /// The number of the next item, or `None` for bullets.
    next: Option<u64>,
}

struct Builder {
    out: Styled,
    /// Styles that are open, outermost first.
    open: Vec<(usize, Style)>,
    lists: Vec<List>,
    quotes: usize,
    table: Option<Table>,
    tables: Tables,
    /// Inside a fenced or indented block.
    in_block: bool,
    /// An item's bullet was just written: its first paragraph goes on the same line.
    after_bullet: bool,
}

impl Builder {
    fn new(tables: Tables) -> Self {
        Self {
            out: Styled::default(),
            open: Vec::new(),
            lists: Vec::new(),
            quotes: 0,
            table: None,
            tables,
            in_block: false,
            after_bullet: false,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text),
            Event::Code(code) => self.styled(Style::Code, &code),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.push(&text),
            Event::Html(text) | Event::InlineHtml(text) => self.push(&text),
            Event::FootnoteReference(label) => self.push(&format!("[{label}]")),
            Event::SoftBreak | Event::HardBreak => self.line_break(),
            Event::Rule => {
                self.block();
                self.push(RULE);
            }
            Event::TaskListMarker(done) => self.push(if done { "[x] " } else { "[ ] " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.block(),
            Tag::Heading { level, .. } => {
                self.block();
                debug_assert!(level >= HeadingLevel::H1);
                self.open(Style::Bold);
            }
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
                // Channels have one level of quotation: an inner one joins the outer.
                if self.quotes == 1 {
                    self.open(Style::Quote);
                }
            }
            Tag::CodeBlock(kind) => {
                self.block();
                self.in_block = true;
                self.open(Style::CodeBlock(language(&kind)));
            }
            Tag::List(next) => {
                if self.lists.is_empty() {
                    self.block();
                }
                self.lists.push(List { next });
            }
            Tag::Item => self.item(),
            Tag::Emphasis => self.open(Style::Italic),
            Tag::Strong => self.open(Style::Bold),
            Tag::Strikethrough => self.open(Style::Strike),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.open(Style::Link(dest_url.into_string()));
            }
            Tag::Table(_) => {
                self.block();
                self.table = Some(Table::default());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.row();
                }
            }
            Tag::TableCell => {
                if let Some(table) = &mut self.table {
                    table.cell();
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_)
            | TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link
            | TagEnd::Image => self.close(),
            TagEnd::CodeBlock => {
                self.in_block = false;
                self.trim_newline();
                self.close();
            }
            TagEnd::BlockQuote(_) => {
                self.quotes = self.quotes.saturating_sub(1);
                if self.quotes == 0 {
                    self.close();
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.after_bullet = false;
            }
            TagEnd::HtmlBlock => self.trim_newline(),
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    table.write(&mut self.out, self.tables);
                }
            }
            _ => {}
        }
    }

    /// Starts a block: an empty line before it, or its bullet's line, or nothing at the very top.
    fn block(&mut self) {
        if std::mem::take(&mut self.after_bullet) || self.out.text.is_empty() {
            return;
        }
        let wanted = if self.lists.is_empty() { "\n\n" } else { "\n" };
        // A quote that just opened swallows the break that is already there.
        if !self.out.text.ends_with(wanted) {
            self.push(wanted);
        }
        if !self.lists.is_empty() {
            self.push(&" ".repeat(LIST_INDENT * self.lists.len()));
        }
    }

    fn item(&mut self) {
        if !self.out.text.is_empty() && !self.out.text.ends_with('\n') {
            self.push("\n");
        }
        let depth = self.lists.len().saturating_sub(1);
        let bullet = match self.lists.last_mut().and_then(|list| list.next.as_mut()) {
            Some(number) => {
                let text = format!("{number}. ");
                *number = number.saturating_add(1);
                text
            }
            None => "• ".to_owned(),
        };
        self.push(&" ".repeat(LIST_INDENT * depth));
        self.push(&bullet);
        self.after_bullet = true;
    }

    fn line_break(&mut self) {
        if self.table.is_some() {
            self.push(" ");
            return;
        }
        self.push("\n");
        self.push(&" ".repeat(LIST_INDENT * self.lists.len()));
    }

    fn text(&mut self, text: &str) {
        if self.in_block || self.table.is_some() {
            return self.push(text);
        }
        // `||hidden||` is no Markdown, but what people type in chats that have spoilers.
        let mut rest = text;
        while let Some((before, hidden, after)) = spoiler(rest) {
            self.push(before);
            self.styled(Style::Spoiler, hidden);
            rest = after;
        }
        self.push(rest);
    }

    fn push(&mut self, text: &str) {
        match &mut self.table {
            Some(table) => table.push(text),
            None => self.out.text.push_str(text),
        }
        if !text.is_empty() {
            self.after_bullet = false;
        }
    }

    fn styled(&mut self, style: Style, text: &str) {
        let start = self.out.text.len();
        self.push(text);
        if self.table.is_none() {
            self.out.spans.push(Span { range: start..self.out.text.len(), style });
        }
    }

    /// In a table cell styles are dropped: columns are aligned by characters.
    fn open(&mut self, style: Style) {
        if self.table.is_none() {
            self.open.push((self.out.text.len(), style));
        }
    }

    fn close(&mut self) {
        if self.table.is_some() {
            return;
        }
        let Some((start, style)) = self.open.pop() else { return };
        if start == self.out.text.len() {
            // A link or picture without a label would vanish: show where it points.
            let Style::Link(target) = &style else { return };
            self.out.text.push_str(target);
        }
        self.out.spans.push(Span { range: start..self.out.text.len(), style });
    }

    fn trim_newline(&mut self) {
        if self.out.text.ends_with('\n') {
            self.out.text.pop();
        }
    }

    fn finish(mut self) -> Styled {
        while !self.open.is_empty() {
            self.close();
        }
        let end = self.out.text.trim_end().len();
        self.out.text.truncate(end);
        self.out.spans.retain_mut(|span| {
            span.range.end = span.range.end.min(end);
            span.range.start < span.range.end
        });
        // Outer before inner. The sort is stable and the inner one was closed first, so equals are turned round.
        self.out.spans.reverse();
        self.out.spans.sort_by_key(|s| (s.range.start, std::cmp::Reverse(s.range.end)));
        self.out
    }
}

fn language(kind: &CodeBlockKind<'_>) -> Option<String> {
    let CodeBlockKind::Fenced(info) = kind else { return None };
    let word = info.split_whitespace().next()?;
    let clean: String = word.chars().filter(|c| c.is_alphanumeric() || "+-#._".contains(*c)).collect();
    (!clean.is_empty()).then_some(clean)
}

/// Splits at the first `||…||` that holds something on one line.
fn spoiler(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("||")?;
    let (hidden, after) = rest.split_once("||")?;
    let shown = !hidden.trim().is_empty() && !hidden.contains('\n');
    shown.then_some((before, hidden, after))
}
