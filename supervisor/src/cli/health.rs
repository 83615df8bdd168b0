//! `openclaw health`: exit 0 when the gateway answers and is well, 1 when it does not answer, 2 with `--check` when degraded.

use super::invocation::{Failure, Invocation};
use super::output;
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
    #[arg(long)]
    check: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let asked = Instant::now();
        let params = if self.probe { json!({"probe": true}) } else { json!({}) };
        let health = invocation.client()?.call("health", &params, Duration::from_millis(self.timeout))?;
        if self.json {
            output::json(&health)?;
        } else {
            show(&health, asked.elapsed())?;
        }
        let well = health["ok"] == true && health["degraded"].as_array().is_none_or(Vec::is_empty);
        Ok(if self.check && !well { exit_code::DEGRADED } else { exit_code::OK })
    }
}

fn show(health: &Value, took: Duration) -> Result<(), Failure> {
    output::line("Gateway Health")?;
    output::line(&format!("OK ({}ms)", took.as_millis()))?;
    for id in health["channelOrder"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let channel = &health["channels"][id];
        let label = output::text(health, &format!("/channelLabels/{id}"));
        let state = if channel["configured"] == true { "configured" } else { "not configured" };
        output::line(&format!("{}: {state}", if label.is_empty() { id } else { label }))?;
    }
    let default = output::text(health, "/defaultAgentId");
    let agents = health["agents"].as_array().into_iter().flatten();
    let names: Vec<String> = agents
        .map(|agent| {
            let id = output::text(agent, "/agentId");
            if id == default { format!("{id} (default)") } else { id.to_owned() }
        })
        .collect();
    output::line(&format!("Agents: {}", names.join(", ")))?;
    for problem in health["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(&format!("Degraded: {problem}"))?;
    }
    Ok(())
}
