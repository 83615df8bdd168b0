//! A Markdown table for channels that have none: aligned in a code block, or one bullet per row.

use super::{Span, Style, Styled, Tables};

/// Widest column that is still padded; beyond it the column runs ragged instead of wrapping every row.
const COLUMN_CHARS_MAX: usize = 48;

/// Cells as text, the header row first.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn row(&mut self) {
        self.rows.push(Vec::new());
    }

    pub(super) fn cell(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.push(String::new());
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        if let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut()) {
            cell.push_str(&text.replace('\n', " "));
        }
    }

    pub(super) fn write(self, out: &mut Styled, tables: Tables) {
        match tables {
            Tables::Bullets => self.write_bullets(out),
            Tables::Code | Tables::Off => {
                let start = out.text.len();
                out.text.push_str(&self.aligned());
                out.spans.push(Span { range: start..out.text.len(), style: Style::CodeBlock(None) });
            }
        }
    }

    fn aligned(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0usize; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(COLUMN_CHARS_MAX));
            }
        }
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        for (n, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> =
                widths.iter().zip(row).map(|(width, cell)| format!("{cell:<width$}")).collect();
            lines.push(cells.join(" | ").trim_end().to_owned());
            if n == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat((*width).max(1))).collect();
                lines.push(rule.join("-|-"));
            }
        }
        lines.join("\n")
    }

    /// `• first cell` bold, then `header: value` for the others.
    fn write_bullets(self, out: &mut Styled) {
        let mut rows = self.rows.into_iter();
        let header = rows.next().unwrap_or_default();
        for (n, row) in rows.enumerate() {
            if n > 0 {
                out.text.push('\n');
            }
            out.text.push_str("• ");
            for (column, cell) in row.iter().enumerate() {
                if column == 0 {
                    let start = out.text.len();
                    out.text.push_str(cell);
                    out.spans.push(Span { range: start..out.text.len(), style: Style::Bold });
                    continue;
                }
                out.text.push_str(if column == 1 { " – " } else { ", " });
                if let Some(name) = header.get(column).filter(|name| !name.is_empty()) {
                    out.text.push_str(name);
                    out.text.push_str(": ");
                }
                out.text.push_str(cell);
            }
        }
    }
}
