//! Rows, and how they are printed.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub const EXECUTABLES: [&str; 3] = ["openclaw", "openclaw-agent", "openclaw-channel"];

/// One figure.
#[derive(Debug, Clone)]
pub struct Row {
    pub part: &'static str,
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What the value may be at most; `None` = it is told for information.
    pub target: Option<f64>,
    pub note: String,
}

impl Row {
    pub fn new(part: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { part, name: name.into(), value, unit, target: None, note: String::new() }
    }

    pub fn target(mut self, at_most: f64) -> Self {
        self.target = Some(at_most);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if self.value <= target => "met",
            Some(_) => "missed",
        }
    }

    fn json(&self) -> Value {
        json!({
            "part": self.part, "name": self.name, "value": (self.value * 100.0).round() / 100.0, "unit": self.unit,
            "target": self.target, "verdict": self.verdict(), "note": self.note,
        })
    }
}

/// Under what the rows were measured.
#[derive(Debug, Clone)]
pub struct About {
    pub bin: PathBuf,
    pub load_before: f64,
    pub load_after: f64,
}

/// Size on disk of each executable.
pub fn sizes(bin: &Path) -> anyhow::Result<Vec<Row>> {
    let size = |name: &str| {
        let bytes = std::fs::metadata(bin.join(name))?.len();
        Ok(Row::new("size", name, bytes as f64 / 1e6, "MB").target(15.0))
    };
    EXECUTABLES.into_iter().map(size).collect()
}

/// Prints the table, or one JSON document.
pub fn print(about: &About, rows: &[Row], as_json: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let text = if as_json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        let load = json!({"before": about.load_before, "after": about.load_after});
        serde_json::to_string_pretty(
            &json!({"bin": about.bin, "cores": cores, "loadAverage": load, "rows": rows}),
        )?
    } else {
        let mut text = format!(
            "{}; {cores} cores; load average {} before, {} after\n\n",
            about.bin.display(),
            about.load_before,
            about.load_after
        );
        text.push_str(&table(rows)?);
        text
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn table(rows: &[Row]) -> Result<String, std::fmt::Error> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "| {:<10} | {:<width$} | {:>10} | {:>8} | {:<6} | note\n",
        "part", "figure", "measured", "target", ""
    );
    writeln!(text, "|{:-<12}|{:-<w$}|{:->12}|{:->10}|{:-<8}|-----", "", "", ":", ":", "", w = width + 2)?;
    for row in rows {
        let measured = format!("{:.1} {}", row.value, row.unit);
        let target = row.target.map_or_else(String::new, |target| format!("{target}"));
        let (part, name, verdict, note) = (row.part, &row.name, row.verdict(), &row.note);
        writeln!(
            text,
            "| {part:<10} | {name:<width$} | {measured:>10} | {target:>8} | {verdict:<6} | {note}"
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_was_met() {
        let met = Row::new("x", "a", 5.0, "ms").target(5.0);
        let missed = Row::new("x", "b", 5.1, "ms").target(5.0);
        let told = Row::new("x", "c", f64::NAN, "ms");
        assert_eq!([met.verdict(), missed.verdict(), told.verdict()], ["met", "missed", ""]);
        let unknown = Row::new("x", "d", f64::NAN, "ms").target(1.0);
        assert_eq!(unknown.verdict(), "missed", "nothing measured is not a success");
        assert!(table(&[met, missed]).expect("text").contains("missed"));
    }
}
