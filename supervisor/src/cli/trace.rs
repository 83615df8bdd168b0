//! `openclaw trace`: what became of a message, step by step.

use super::invocation::{Failure, Invocation};
use super::operator::TIMEOUT;
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

/// Between two looks with `--follow`: quick for a person, and nothing for the gateway.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, the network's id of a message or a reply, a delivery's id, or `last`
    #[arg(default_value = "last")]
    id: String,
    /// Print new steps as they come, until nothing more is to come
    #[arg(short, long)]
    follow: bool,
    /// Print one JSON document; with --follow one step a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut shown = 0;
        let mut wanted = self.id.clone();
        loop {
            let trace = invocation.client()?.call("trace.get", &json!({"id": wanted}), TIMEOUT)?;
            // Of "last" this one is meant, also when another begins.
            if let Some(id) = trace.pointer("/run/id").and_then(Value::as_str) {
                id.clone_into(&mut wanted);
            }
            if self.json && !self.follow {
                output::json(&trace)?;
                return Ok(exit_code::OK);
            }
            let steps = trace["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
            if shown == 0 && !self.json {
                output::line(&heading(&trace))?;
            }
            for step in steps.iter().skip(shown) {
                let begin = steps.first().map_or(0.0, at);
                output::line(&if self.json { step.to_string() } else { line(step, begin) })?;
            }
            shown = steps.len().max(shown);
            let open = trace["open"] == true;
            if self.follow && open && output::wait_while_read(LOOK_EVERY) {
                continue;
            }
            if !self.json {
                output::line(&ending(&trace))?;
            }
            return Ok(exit_code::OK);
        }
    }
}

fn at(step: &Value) -> f64 {
    step["atMs"].as_f64().unwrap_or_default()
}

fn heading(trace: &Value) -> String {
    match trace.pointer("/run/runId").and_then(Value::as_str) {
        Some(run_id) => {
            format!("Run {run_id} of {}, {}", output::text(trace, "/run/sessionKey"), day(trace))
        }
        None => {
            let state = output::text(trace, "/messages/0/state");
            let session = output::text(trace, "/messages/0/sessionKey");
            format!(
                "Message {} for {session}: {}",
                output::text(trace, "/messages/0/messageId"),
                unrun(state)
            )
        }
    }
}

fn ended(state: &str) -> &str {
    match state {
        "closed" => "done",
        "final" => "answered, not yet delivered everywhere,",
        other => other,
    }
}

/// Why a message has no run.
fn unrun(state: &str) -> &str {
    match state {
        "queued" | "received" => "it waits for its turn",
        "suppressed" => "no run: it was not let in, answered at once, or taken back",
        "dead" => "no run: it is a dead letter (see openclaw dead-letters)",
        other => other,
    }
}

fn day(trace: &Value) -> String {
    let ms = output::number(trace, "/run/createdAtMs");
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}

/// `12:00:01.234     +2 ms  gateway           run made of 1 message`
fn line(step: &Value, begin: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century")]
    let ms = at(step) as i64;
    let clock = jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string())
        .unwrap_or_default();
    let since = format!("+{:.1} ms", at(step) - begin);
    format!("{clock} {since:>13}  {:<22} {}", output::text(step, "/by"), output::text(step, "/text"))
}

/// The sum of it.
fn ending(trace: &Value) -> String {
    let Some(run) = trace["run"].as_object() else { return String::new() };
    let text = |name: &str| run.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| output::number(trace, pointer);
    let mut parts = vec![match run.get("durationMs").and_then(Value::as_i64) {
        Some(ms) => format!("{} after {}", ended(text("state")), crate::trace::timeline::span(ms)),
        None => format!("{}: not ended yet", text("state")),
    }];
    let plural = |n: i64, noun: &str| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") };
    parts.push(plural(number("/run/attempts"), "attempt"));
    if number("/model/calls") > 0 {
        let (input, output) = (number("/model/inputTokens"), number("/model/outputTokens"));
        parts.push(format!(
            "{}, {input} tokens in, {output} out",
            plural(number("/model/calls"), "model call")
        ));
    }
    if let Some(cost) = trace.pointer("/model/costUsd").and_then(Value::as_f64).filter(|cost| *cost > 0.0) {
        parts.push(format!("${cost:.4}"));
    }
    if number("/leftOut") > 0 {
        parts
            .push(format!("{} steps of this start of the gateway were not written down", number("/leftOut")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_when_who_and_what() {
        let step = json!({"atMs": 1002.5, "by": "gateway", "text": "run made of 1 message"});
        let shown = line(&step, 1000.0);
        assert!(shown.ends_with("+2.5 ms  gateway                run made of 1 message"), "{shown}");
        let trace = json!({
            "run": {"runId": "r", "sessionKey": "s", "state": "closed", "attempts": 1, "durationMs": 2310},
            "model": {"calls": 2, "inputTokens": 90, "outputTokens": 8, "costUsd": 0.0042}, "leftOut": 0,
        });
        assert_eq!(
            ending(&trace),
            "done after 2.3 s; 1 attempt; 2 model calls, 90 tokens in, 8 out; $0.0042"
        );
        let waits =
            json!({"run": null, "messages": [{"messageId": "m", "sessionKey": "s", "state": "queued"}]});
        assert_eq!(heading(&waits), "Message m for s: it waits for its turn");
        assert_eq!(ending(&waits), "");
    }
}
