//! `openclaw health`: exit 0 when the gateway answers, 1 when it does not, 2 with `--check` when something is degraded.

use super::invocation::{Failure, Invocation};
use super::output::{self, number, text};
use crate::exit_code;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Ask every channel's network as well
    #[arg(long)]
    probe: bool,
    /// Give up after this many milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "ms")]
    timeout: u64,
    /// Exit with 2 when something is degraded
    #[arg(long, visible_alias = "strict")]
    check: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let asked = Instant::now();
        let params = if self.probe { json!({"probe": true}) } else { json!({}) };
        let (mut client, timeout) = (invocation.client()?, Duration::from_millis(self.timeout));
        let health = client.call("health", &params, timeout)?;
        let took = asked.elapsed();
        // Not a part of `health`, whose shape is published.
        let info = client.call("system.info", &json!({}), timeout)?;
        let problems: Vec<&str> = items(&info, "/degraded").filter_map(Value::as_str).collect();
        if self.json {
            output::json(&health)?;
        } else {
            for line in lines(&health, &problems, took) {
                output::line(&line)?;
            }
        }
        let well = health["ok"] == true && problems.is_empty();
        Ok(if self.check && !well { exit_code::DEGRADED } else { exit_code::OK })
    }
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn lines(health: &Value, problems: &[&str], took: Duration) -> Vec<String> {
    let well = problems.is_empty();
    let mut lines =
        vec![format!("Gateway Health: {} ({}ms)", if well { "OK" } else { "DEGRADED" }, took.as_millis())];
    lines.extend(problems.iter().map(|problem| format!("! {problem}")));
    for id in items(health, "/channelOrder").filter_map(Value::as_str) {
        let label = health["channelLabels"][id].as_str().unwrap_or(id);
        lines.push(format!("{label}: {}", channel(&health["channels"][id])));
    }
    let default = text(health, "/defaultAgentId");
    let name = |agent: &Value| {
        let id = text(agent, "/agentId");
        if id == default { format!("{id} (default)") } else { id.to_owned() }
    };
    lines.push(format!("Agents: {}", items(health, "/agents").map(name).collect::<Vec<_>>().join(", ")));
    let beats: Vec<String> = items(health, "/agents")
        .filter(|agent| agent["heartbeat"]["enabled"] == true)
        .map(|agent| format!("{} ({})", text(agent, "/heartbeat/every"), text(agent, "/agentId")))
        .collect();
    lines.push(format!(
        "Heartbeat interval: {}",
        if beats.is_empty() { "off".into() } else { beats.join(", ") }
    ));
    let now = output::now_ms();
    for agent in items(health, "/agents") {
        lines.push(format!(
            "Session store ({}): {} ({} entries)",
            text(agent, "/agentId"),
            text(agent, "/sessions/path"),
            number(agent, "/sessions/count")
        ));
        lines.extend(items(agent, "/sessions/recent").map(|row| {
            format!("- {} ({} ago)", text(row, "/key"), output::age(number(row, "/updatedAt"), now))
        }));
    }
    lines
}

/// `connected (@bot)`, `failing: …`, `configured`, `not configured`.
fn channel(row: &Value) -> String {
    let bot = row.pointer("/probe/bot/username").and_then(Value::as_str);
    let bot = bot.map(|name| format!(" (@{name})")).unwrap_or_default();
    let error = row.pointer("/probe/error").and_then(Value::as_str).or(row["lastError"].as_str());
    match error {
        _ if row["configured"] != true => "not configured".to_owned(),
        Some(why) if row["connected"] != true => format!("failing: {why}"),
        _ if row["connected"] == true => format!("connected{bot}"),
        _ => "configured".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_it_top_down() {
        let health = json!({
            "ok": true, "defaultAgentId": "main",
            "channelOrder": ["x"], "channelLabels": {"x": "X"},
            "channels": {"x": {"configured": true, "lastError": "401"}},
            "agents": [
                {"agentId": "main", "heartbeat": {"enabled": true, "every": "30m"},
                 "sessions": {"path": "/s.json", "count": 1, "recent": [{"key": "k", "updatedAt": i64::MAX}]}},
                {"agentId": "b", "heartbeat": {"enabled": false}, "sessions": {"path": "/b.json", "count": 0}},
            ],
        });
        assert_eq!(
            lines(&health, &["agent:main: backoff"], Duration::from_millis(3)),
            [
                "Gateway Health: DEGRADED (3ms)",
                "! agent:main: backoff",
                "X: failing: 401",
                "Agents: main (default), b",
                "Heartbeat interval: 30m (main)",
                "Session store (main): /s.json (1 entries)",
                "- k (0s ago)",
                "Session store (b): /b.json (0 entries)",
            ]
        );
    }
}
