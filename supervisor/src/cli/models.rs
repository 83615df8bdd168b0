//! `openclaw models list|status`: which model each agent uses, from the configuration file.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Models that the configuration names
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Same as list
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

struct Row {
    key: String,
    tags: Vec<String>,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let as_json =
            matches!(self.command, Some(Command::List { json: true } | Command::Status { json: true }));
        let config = super::config::read_file(invocation)?;
        let rows = rows(&config.resolved);
        if as_json {
            let models: Vec<Value> =
                rows.iter().map(|row| json!({"key": row.key, "tags": row.tags})).collect();
            output::json(&json!({"count": models.len(), "models": models}))?;
        } else if rows.is_empty() {
            output::line(
                "No model configured. `openclaw up` chooses one; `openclaw config set agents.defaults.model.primary <provider/model>` sets it.",
            )?;
        } else {
            let rows = rows.into_iter().map(|row| vec![row.key, row.tags.join(", ")]).collect();
            output::line(&output::table(&["Model", "Used as"], rows))?;
        }
        Ok(exit_code::OK)
    }
}

fn rows(config: &Value) -> Vec<Row> {
    let view = proto::view::ConfigView::from_value(config);
    let mut rows: Vec<Row> = Vec::new();
    let mut tag = |key: &str, tag: String| match rows.iter_mut().find(|row| row.key == key) {
        Some(row) => row.tags.push(tag),
        None => rows.push(Row { key: key.to_owned(), tags: vec![tag] }),
    };
    if let Some(primary) = &view.agents.model.primary {
        tag(primary, "default".to_owned());
    }
    for (n, fallback) in view.agents.model.fallbacks.iter().enumerate() {
        tag(fallback, format!("fallback#{}", n + 1));
    }
    for agent in &view.agents.list {
        if let Some(primary) = &agent.model.primary {
            tag(primary, format!("agent:{}", agent.id));
        }
    }
    let providers = config.pointer("/models/providers").and_then(Value::as_object);
    for (provider, entry) in providers.into_iter().flatten() {
        for model in entry["models"].as_array().into_iter().flatten() {
            if let Some(id) = model["id"].as_str() {
                tag(&format!("{provider}/{id}"), "configured".to_owned());
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_model_is_listed_once_with_all_its_uses() {
        let rows = super::rows(&json!({
            "agents": {"defaults": {"model": {"primary": "a/x", "fallbacks": ["b/y"]}}, "list": [{"id": "s", "model": "a/x"}]},
            "models": {"providers": {"b": {"models": [{"id": "y"}]}}},
        }));
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{}: {}", row.key, row.tags.join(","))).collect();
        assert_eq!(shown, ["a/x: default,agent:s", "b/y: fallback#1,configured"]);
    }
}
