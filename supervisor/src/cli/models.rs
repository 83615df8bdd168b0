//! `openclaw models list|status`: which models the configuration names and what each is for. Reads the file; asks nobody.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::advice::invalid_for_commands;
use crate::exit_code;
use serde_json::{Map, Value, json};

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
    /// Which model answers, and what stands in for it
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

struct Row {
    key: String,
    tags: Vec<String>,
    /// The provider's entry in the file; null for a model that only its name is known of.
    entry: Value,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let config = super::config::read_file(invocation)?;
        if config.parsed.is_null() {
            return Err(Failure::new(invalid_for_commands(&config.source.path, &config.findings.issues)));
        }
        for issue in &config.findings.issues {
            eprintln!("{}: {issue}", invocation.paths.config_file.display());
        }
        match self.command {
            Some(Command::Status { json }) => status(invocation, &config.resolved, json),
            Some(Command::List { json }) => list(&config.resolved, json),
            None => list(&config.resolved, false),
        }
    }
}

const NONE: &str = "No model configured. `openclaw up` chooses one; `openclaw config set agents.defaults.model.primary <provider/model>` sets it.";

fn list(config: &Value, as_json: bool) -> Result<u8, Failure> {
    let rows = rows(config);
    if as_json {
        let models: Vec<Value> = rows.iter().map(|row| as_row(config, row)).collect();
        output::json(&json!({"count": models.len(), "models": models}))?;
    } else if rows.is_empty() {
        output::line(NONE)?;
    } else {
        let rows = rows.into_iter().map(|row| {
            let context =
                row.entry["contextWindow"].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
            vec![row.key, input(&row.entry), context, row.tags.join(", ")]
        });
        output::line(&output::table(&["Model", "Input", "Context", "Tags"], rows.collect()))?;
        output::line("What a running agent can use: openclaw gateway call models.list")?;
    }
    Ok(exit_code::OK)
}

/// Kinds of input, joined by `+`.
fn input(entry: &Value) -> String {
    let kinds: Vec<&str> =
        entry["input"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if kinds.is_empty() { "-".to_owned() } else { kinds.join("+") }
}

fn as_row(config: &Value, row: &Row) -> Value {
    let provider = row.key.split_once('/').map_or("", |(provider, _)| provider);
    let url = config["models"]["providers"][provider]["baseUrl"].as_str().unwrap_or_default();
    let local = ["://localhost", "://127.0.0.1", "://[::1]"].iter().any(|host| url.contains(host));
    json!({
        "key": row.key, "name": row.entry["name"].as_str().unwrap_or(&row.key), "input": input(&row.entry),
        "contextWindow": row.entry["contextWindow"], "local": local, "tags": row.tags,
    })
}

fn status(invocation: &Invocation, config: &Value, as_json: bool) -> Result<u8, Failure> {
    let view = proto::view::ConfigView::from_value(config);
    let named = config.pointer("/agents/defaults/models").and_then(Value::as_object);
    let aliases: Map<String, Value> = named
        .into_iter()
        .flatten()
        .filter_map(|(key, entry)| Some((entry["alias"].as_str()?.to_owned(), json!(key))))
        .collect();
    let allowed: Vec<&String> = named.into_iter().flatten().map(|(key, _)| key).collect();
    let default = view.agents.default_id();
    let primary = view.agents.model_of(default).primary.clone();
    let resolved =
        primary.as_ref().map(|key| aliases.get(key).and_then(Value::as_str).unwrap_or(key).to_owned());
    let fallbacks = &view.agents.model_of(default).fallbacks;
    if as_json {
        output::json(&json!({
            "configPath": invocation.paths.config_file, "agentDir": invocation.paths.state_dir.join("agents").join(default).join("agent"),
            "defaultModel": primary, "resolvedDefault": resolved, "fallbacks": fallbacks,
            "imageModel": config.pointer("/agents/defaults/imageModel"), "aliases": aliases, "allowed": allowed,
        }))?;
        return Ok(exit_code::OK);
    }
    let Some(resolved) = resolved else {
        output::line(NONE)?;
        return Ok(exit_code::OK);
    };
    let joined = |list: Vec<String>| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
    let aliases =
        aliases.iter().map(|(alias, key)| format!("{alias} → {}", key.as_str().unwrap_or_default()));
    let rows = [
        ("Config", invocation.paths.config_file.display().to_string()),
        ("Default", resolved),
        ("Fallbacks", joined(fallbacks.clone())),
        ("Aliases", joined(aliases.collect())),
        (
            "Allowed",
            if allowed.is_empty() {
                "all".to_owned()
            } else {
                joined(allowed.into_iter().cloned().collect())
            },
        ),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::line(&output::table(&[], rows))?;
    Ok(exit_code::OK)
}

fn rows(config: &Value) -> Vec<Row> {
    let view = proto::view::ConfigView::from_value(config);
    let mut rows: Vec<Row> = Vec::new();
    let mut tag = |key: &str, tag: String| match rows.iter_mut().find(|row| row.key == key) {
        Some(row) => row.tags.push(tag),
        None => rows.push(Row { key: key.to_owned(), tags: vec![tag], entry: Value::Null }),
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
    for row in &mut rows {
        let (provider, id) = row.key.split_once('/').unwrap_or(("", &row.key));
        let listed = config["models"]["providers"][provider]["models"].as_array().into_iter().flatten();
        row.entry = listed.into_iter().find(|model| model["id"] == id).cloned().unwrap_or_default();
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
