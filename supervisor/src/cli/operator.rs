//! What the commands share that list things of the running gateway and act on one of them.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

/// The gateway answers from memory or with one look into the journal.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// One kind of thing: how it is listed.
pub struct Listing {
    /// Method that lists, and its parameters.
    pub method: &'static str,
    pub params: Value,
    /// Key of the rows in its answer.
    pub key: &'static str,
    pub header: &'static [&'static str],
    /// What is printed instead of an empty table.
    pub none: &'static str,
    /// A row's cells; the number is now, in Unix milliseconds.
    pub cells: fn(&Value, i64) -> Vec<String>,
}

impl Listing {
    /// Prints the table, or the document.
    pub fn print(&self, invocation: &Invocation, json: bool) -> Result<u8, Failure> {
        let listed = invocation.client()?.call(self.method, &self.params, TIMEOUT)?;
        if json {
            output::json(&listed)?;
            return Ok(exit_code::OK);
        }
        let now = output::now_ms();
        let rows = listed[self.key].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = rows.map(|row| (self.cells)(row, now)).collect();
        output::line(&if rows.is_empty() { self.none.to_owned() } else { output::table(self.header, rows) })?;
        Ok(exit_code::OK)
    }
}

/// Asks the gateway to do something to the thing with this id, and says what became of it.
pub fn act(invocation: &Invocation, method: &str, id: &Value, json: bool, done: &str) -> Result<u8, Failure> {
    let answer = invocation.client()?.call(method, &json!({"id": id}), TIMEOUT)?;
    if json {
        output::json(&answer)?;
    } else {
        output::line(done)?;
    }
    Ok(exit_code::OK)
}

/// Prints one thing, with every fact on a line of its own; the text, if there is one, at the end.
pub fn show(invocation: &Invocation, method: &str, id: &Value, json: bool) -> Result<u8, Failure> {
    let shown = invocation.client()?.call(method, &json!({"id": id}), TIMEOUT)?;
    if json {
        output::json(&shown)?;
        return Ok(exit_code::OK);
    }
    let mut lines = Vec::new();
    facts("", &shown, &mut lines);
    output::line(&lines.join("\n"))?;
    Ok(exit_code::OK)
}

fn facts(prefix: &str, value: &Value, lines: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(_) => facts(&format!("{name}."), value, lines),
            Value::Null => {}
            Value::Array(list) if list.is_empty() => {}
            Value::String(text) => lines.push(format!("{name:<22} {}", text.replace('\n', "\n  "))),
            Value::Number(at) if key == "atMs" || key.ends_with("AtMs") => {
                let at = jiff::Timestamp::from_millisecond(at.as_i64().unwrap_or_default());
                let at = at.map_or_else(|_| value.to_string(), |at| at.to_string());
                lines.push(format!("{:<22} {at}", name.trim_end_matches("Ms")));
            }
            Value::Array(list) => {
                let list: Vec<String> = list
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect();
                lines.push(format!("{name:<22} {}", list.join(", ")));
            }
            other => lines.push(format!("{name:<22} {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_one_a_line() {
        let mut lines = Vec::new();
        let value = json!({"id": 7, "atMs": 0, "why": null, "message": {"text": "a\nb", "receivedAtMs": 0}});
        facts("", &value, &mut lines);
        assert_eq!(
            lines,
            [
                "id                     7",
                "at                     1970-01-01T00:00:00Z",
                "message.text           a\n  b",
                "message.receivedAt     1970-01-01T00:00:00Z"
            ]
        );
    }
}
