//! `openclaw sessions`: reads the session stores, also while the gateway is stopped.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this agent
    #[arg(long, value_name = "id")]
    agent: Option<String>,
    /// Every agent, as without --agent
    #[arg(long, conflicts_with = "agent")]
    all_agents: bool,
    /// Only sessions used in the last minutes
    #[arg(long, value_name = "minutes")]
    active: Option<i64>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A larger store is not ours: 10 000 sessions make about 10 MB.
const STORE_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let now = output::now_ms();
        let mut stores = stores(&invocation.paths.state_dir.join("agents"));
        stores.retain(|(agent, _)| self.agent.as_ref().is_none_or(|wanted| wanted == agent));
        let mut rows = Vec::new();
        for (agent, path) in &stores {
            for (key, entry) in read(path)? {
                let updated = entry["updatedAt"].as_i64().unwrap_or_default();
                if self.active.is_none_or(|minutes| now - updated <= minutes * 60_000) {
                    rows.push((updated, agent.clone(), key, entry));
                }
            }
        }
        rows.sort_by_key(|(updated, ..)| std::cmp::Reverse(*updated));
        if self.json { self.print_json(&stores, &rows, now) } else { self.print_table(&stores, rows, now) }
    }

    fn print_json(&self, stores: &[(String, PathBuf)], rows: &[Row], now: i64) -> Result<u8, Failure> {
        let sessions: Vec<Value> = rows
            .iter()
            .map(|(updated, agent, key, entry)| {
                let mut row = entry.as_object().cloned().unwrap_or_default();
                for bulky in ["systemPromptReport", "skillsSnapshot"] {
                    row.remove(bulky);
                }
                row.insert("key".to_owned(), json!(key));
                row.insert("kind".to_owned(), json!(kind(key, entry)));
                row.insert("agentId".to_owned(), json!(agent));
                row.insert("updatedAt".to_owned(), json!(updated));
                row.insert("ageMs".to_owned(), json!((now - updated).max(0)));
                Value::Object(row)
            })
            .collect();
        let path = stores.first().map(|(_, path)| path.display().to_string());
        let stores: Vec<Value> =
            stores.iter().map(|(agent, path)| json!({"agentId": agent, "path": path})).collect();
        output::json(&json!({
            "path": path, "stores": stores, "allAgents": self.all_agents || self.agent.is_none(), "count": sessions.len(),
            "activeMinutes": self.active, "sessions": sessions,
        }))?;
        Ok(exit_code::OK)
    }

    fn print_table(&self, stores: &[(String, PathBuf)], rows: Vec<Row>, now: i64) -> Result<u8, Failure> {
        for (_, path) in stores {
            output::line(&format!("Session store: {}", path.display()))?;
        }
        output::line(&format!("Sessions listed: {}", rows.len()))?;
        if let Some(minutes) = self.active {
            output::line(&format!("Filtered to the last {minutes} minutes"))?;
        }
        if rows.is_empty() {
            output::line("No sessions found. Say something: openclaw agent --message \"hello\"")?;
            return Ok(exit_code::OK);
        }
        let rows = rows.into_iter().map(|(updated, _, key, entry)| {
            vec![
                kind(&key, &entry).to_owned(),
                key,
                format!("{} ago", output::age(updated, now)),
                model(&entry),
                tokens(&entry),
                flags(&entry),
            ]
        });
        output::line(&output::table(&["Kind", "Key", "Age", "Model", "Tokens", "Flags"], rows.collect()))?;
        Ok(exit_code::OK)
    }
}

fn kind(key: &str, entry: &Value) -> &'static str {
    let group = matches!(entry["chatType"].as_str(), Some("group" | "channel"))
        || key.contains(":group:")
        || key.contains(":channel:");
    match key {
        "global" => "global",
        "unknown" => "unknown",
        _ if group => "group",
        _ => "direct",
    }
}

/// The session's own choice, else the model of its last turn.
fn model(entry: &Value) -> String {
    match output::text(entry, "/modelOverride") {
        "" => output::text(entry, "/model").to_owned(),
        own => own.to_owned(),
    }
}

/// `12k/128k (9%)`: context in use, of how much.
pub fn tokens(entry: &Value) -> String {
    let (used, all) = (entry["totalTokens"].as_u64(), entry["contextTokens"].as_u64().filter(|all| *all > 0));
    match (used, all) {
        (Some(used), Some(all)) => {
            format!("{}/{} ({}%)", short(used), short(all), used.saturating_mul(100) / all)
        }
        (Some(used), None) => short(used),
        (None, Some(all)) => format!("-/{}", short(all)),
        (None, None) => "-".to_owned(),
    }
}

fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}m", count / 1_000_000),
    }
}

fn flags(entry: &Value) -> String {
    let mut flags = Vec::new();
    for (field, word) in
        [("thinkingLevel", "think"), ("verboseLevel", "verbose"), ("reasoningLevel", "reasoning")]
    {
        if let Some(level) = entry[field].as_str() {
            flags.push(format!("{word}:{level}"));
        }
    }
    flags.extend(entry["label"].as_str().map(|label| format!("label:{label}")));
    if entry["abortedLastRun"] == true {
        flags.push("aborted".to_owned());
    }
    flags.join(" ")
}

type Row = (i64, String, String, Value);

/// Agents that have a session store, by id.
fn stores(agents: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(agents)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), entry.path().join("sessions/sessions.json"))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let failed = |what: String| Failure::new(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > STORE_BYTES_MAX {
        return Err(failed(format!("{size} bytes is more than a session store can be")));
    }
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| failed(format!("not a session store: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_short() {
        let cells = [
            json!({"totalTokens": 12_345, "contextTokens": 128_000}),
            json!({"totalTokens": 999}),
            json!({"contextTokens": 2_000_000}),
            json!({}),
        ];
        assert_eq!(cells.map(|entry| tokens(&entry)), ["12k/128k (9%)", "999", "-/2m", "-"]);
        let entry =
            json!({"thinkingLevel": "low", "label": "work", "abortedLastRun": true, "modelOverride": "a/b"});
        assert_eq!(
            (flags(&entry), model(&entry)),
            ("think:low label:work aborted".to_owned(), "a/b".to_owned())
        );
        assert_eq!(kind("agent:main:telegram:group:-1", &json!({})), "group");
    }
}
