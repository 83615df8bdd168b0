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
        if self.json { self.print_json(&stores, &rows) } else { self.print_table(&stores, rows, now) }
    }

    fn print_json(&self, stores: &[(String, PathBuf)], rows: &[Row]) -> Result<u8, Failure> {
        let sessions: Vec<Value> = rows
            .iter()
            .map(|(updated, agent, key, entry)| {
                let mut row = entry.as_object().cloned().unwrap_or_default();
                row.insert("key".to_owned(), json!(key));
                row.insert("agentId".to_owned(), json!(agent));
                row.insert("updatedAt".to_owned(), json!(updated));
                Value::Object(row)
            })
            .collect();
        let path = stores.first().map(|(_, path)| path.display().to_string());
        let stores: Vec<Value> =
            stores.iter().map(|(agent, path)| json!({"agentId": agent, "path": path})).collect();
        output::json(&json!({
            "path": path, "stores": stores, "allAgents": self.agent.is_none(), "count": sessions.len(),
            "activeMinutes": self.active, "sessions": sessions,
        }))?;
        Ok(exit_code::OK)
    }

    fn print_table(&self, stores: &[(String, PathBuf)], rows: Vec<Row>, now: i64) -> Result<u8, Failure> {
        for (_, path) in stores {
            output::line(&format!("Session store: {}", path.display()))?;
        }
        output::line(&format!("Sessions listed: {}", rows.len()))?;
        if rows.is_empty() {
            output::line("No sessions yet. Say something: openclaw agent --message \"hello\"")?;
            return Ok(exit_code::OK);
        }
        let rows = rows.into_iter().map(|(updated, _, key, entry)| {
            let tokens =
                entry["totalTokens"].as_i64().map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
            vec![
                key,
                format!("{} ago", output::age(updated, now)),
                output::text(&entry, "/model").to_owned(),
                tokens,
            ]
        });
        output::line(&output::table(&["Key", "Age", "Model", "Tokens"], rows.collect()))?;
        Ok(exit_code::OK)
    }
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
