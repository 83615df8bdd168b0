//! The strict reading of the sections that this worker owns: `agents`, `models`, `tools`, `skills`. Used before a
//! configuration is accepted (`--check-config`) and to describe it (`--schema`); runs read `setup` instead.
//!
//! Which keys may stand in the file at all, those of the original that are not built yet included, is the supervisor's
//! rule. Here a key that is built must have the right type, and what it names must exist.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::provider::auth::AuthProfiles;
use crate::provider::models::Models;
use crate::tool::catalog;
use crate::tool::config::{AgentToolsConfig, ToolsConfig, keep_built_keys};

mod sections;

use sections::{AgentEntry, Agents, Defaults, ModelsConfig, Skills};

/// A configuration above this is refused: the supervisor's own limit for the file is 2 MiB.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One finding. `path` is dotted, with numbers for list items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    pub path: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Issues refuse a configuration, warnings do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub issues: Vec<Issue>,
    pub warnings: Vec<Issue>,
}

/// `--check-config`: the whole configuration as JSON on standard input, the findings as JSON on standard output.
/// Exit 0 either way; 1 when the input cannot be read.
pub fn check_main() -> ExitCode {
    // The configuration may hold secrets: nobody may look.
    if proto::runtime::sys::not_dumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut text);
    let config: Value = match read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_slice(&text).map_err(|error| error.to_string()))
    {
        Ok(config) => config,
        Err(error) => {
            eprintln!("openclaw-agent --check-config: standard input is no JSON configuration: {error}");
            return ExitCode::FAILURE;
        }
    };
    print_json(&json!(check(&config)))
}

/// `--schema`: the JSON schema of the four sections on standard output.
pub fn schema_main() -> ExitCode {
    print_json(&schema())
}

fn print_json(value: &Value) -> ExitCode {
    let written = writeln!(std::io::stdout().lock(), "{value}");
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// JSON schema of the sections; every key carries its blast radius as `x-class`.
pub fn schema() -> Value {
    let mut properties = Map::new();
    let mut add =
        |name: &str, schema: schemars::Schema| properties.insert(name.to_owned(), schema.to_value());
    add("agents", schemars::schema_for!(Agents));
    add("models", schemars::schema_for!(ModelsConfig));
    add("tools", schemars::schema_for!(ToolsConfig));
    add("skills", schemars::schema_for!(Skills));
    json!({"type": "object", "properties": properties})
}

/// Checks the four sections of a whole configuration. PURE.
pub fn check(config: &Value) -> Findings {
    let mut found = Findings::default();
    if let Some(defaults) = config.pointer("/agents/defaults") {
        found.typed::<Defaults>(defaults, "agents.defaults");
    }
    for (path, agent) in agents(config) {
        found.typed::<AgentEntry>(agent, &path);
        if let Some(tools) = agent.get("tools") {
            found.typed::<AgentToolsConfig>(&keep_built_keys(tools).0, &format!("{path}.tools"));
            found.tool_names(tools, &format!("{path}.tools"));
        }
    }
    if let Some(models) = config.get("models") {
        found.typed::<ModelsConfig>(models, "models");
    }
    if let Some(tools) = config.get("tools") {
        found.typed::<ToolsConfig>(&keep_built_keys(tools).0, "tools");
        found.tool_names(tools, "tools");
    }
    if let Some(skills) = config.get("skills") {
        found.typed::<Skills>(skills, "skills");
    }
    found.models(config);
    found
}

/// Every agent block with its path.
fn agents(config: &Value) -> Vec<(String, &Value)> {
    let list = config.pointer("/agents/list").and_then(Value::as_array);
    let entries = config.pointer("/agents/entries").and_then(Value::as_object);
    let listed =
        list.into_iter().flatten().enumerate().map(|(at, agent)| (format!("agents.list.{at}"), agent));
    let mapped = entries.into_iter().flatten().map(|(id, agent)| (format!("agents.entries.{id}"), agent));
    listed.chain(mapped).collect()
}

impl Findings {
    fn issue(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(Issue { path: path.into(), message: message.into(), hint: None });
    }

    /// Keys that the type knows must have the right types; the others are not its business.
    fn typed<T: DeserializeOwned>(&mut self, value: &Value, path: &str) {
        let read: Result<T, _> = serde_path_to_error::deserialize(value);
        if let Err(error) = read {
            let inner = error.path().to_string();
            let inner = inner.replace('[', ".").replace(']', "");
            let inner = inner.trim_start_matches('.');
            let place = if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") };
            self.issue(place, error.into_inner().to_string());
        }
    }

    /// Names in tool lists that nothing answers to: ignored at run time, so only a warning.
    fn tool_names(&mut self, tools: &Value, path: &str) {
        for list in ["allow", "alsoAllow", "deny"] {
            let names = tools.get(list).and_then(Value::as_array);
            for (at, name) in names.into_iter().flatten().filter_map(Value::as_str).enumerate() {
                let plain = crate::tool::policy::normalise(name);
                let group = plain.strip_prefix("group:");
                let known = match group {
                    Some(section) => {
                        ["openclaw", "plugins"].contains(&section)
                            || catalog::KNOWN.iter().any(|known| known.section == section)
                    }
                    None => plain.contains('*') || catalog::find(&plain).is_some(),
                };
                if !known {
                    self.warnings.push(Issue {
                        path: format!("{path}.{list}.{at}"),
                        message: format!("\"{name}\" is no known tool or group"),
                        hint: None,
                    });
                }
            }
        }
    }

    /// Every model that is named must have a provider.
    fn models(&mut self, config: &Value) {
        let mut wishes =
            vec![("agents.defaults".to_owned(), "main".to_owned(), config.pointer("/agents/defaults"))];
        for (path, agent) in agents(config) {
            let id = agent.get("id").and_then(Value::as_str);
            let id = id.or_else(|| path.rsplit('.').next()).unwrap_or("main").to_owned();
            wishes.push((path, id, Some(agent)));
        }
        for (path, id, block) in wishes {
            let Some(model) = block.and_then(|block| block.get("model")) else { continue };
            let models = Models::new(&id, config, Vec::new(), AuthProfiles::default());
            let (primary, field) = match model {
                Value::String(text) => (Some(text.as_str()), "model"),
                other => (other.get("primary").and_then(Value::as_str), "model.primary"),
            };
            if let Some(primary) = primary {
                let selected = models.chain(Some(primary)).map(|chain| chain.into_iter().next());
                let result = match selected {
                    Ok(Some(first)) => models.select(&first).map(drop),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(error) = result {
                    self.issue(format!("{path}.{field}"), error.to_string());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config: Value) -> Vec<String> {
        check(&config).issues.into_iter().map(|issue| issue.path).collect()
    }

    #[test]
    fn what_is_accepted() {
        let config = json!({
            "agents": {
                "defaults": {
                    "model": {"primary": "openrouter/x-ai/grok-4.1-fast", "fallbacks": ["openrouter/moonshotai/kimi-k2.5"]},
                    "bootstrapMaxChars": 40000, "timeoutSeconds": 600,
                    "retry": {"maxRetries": 3, "backoff": "exponential"},
                    "heartbeat": {"every": "30m"},
                },
                "list": [{"id": "main", "default": true, "name": "Huda", "tools": {"allow": ["read", "group:fs"]}}],
            },
            "skills": {"entries": {"weather": {"enabled": true, "env": {"A": "b"}}}},
        });
        assert_eq!(check(&config), Findings::default());
    }

    #[test]
    fn what_is_refused_and_where() {
        assert_eq!(
            paths(json!({"agents": {"defaults": {"retry": {"maxRetries": "three"}}}})),
            ["agents.defaults.retry.maxRetries"]
        );
        assert_eq!(
            paths(
                json!({"agents": {"list": [{"id": "a"}, {"id": "b", "tools": {"exec": {"ask": "maybe"}}}]}})
            ),
            ["agents.list.1.tools.exec.ask"]
        );
        assert_eq!(
            paths(json!({"agents": {"list": [{"id": "a", "model": "nowhere/x"}]}})),
            ["agents.list.0.model"]
        );
        assert_eq!(
            paths(json!({"models": {"providers": {"x": {"baseUrl": 1}}}})),
            ["models.providers.x.baseUrl"]
        );
        assert_eq!(
            paths(json!({"skills": {"limits": {"maxSkillsInPrompt": -1}}})),
            ["skills.limits.maxSkillsInPrompt"]
        );
        let warned = check(&json!({"tools": {"allow": ["raed"]}}));
        assert_eq!((warned.issues.len(), warned.warnings[0].path.as_str()), (0, "tools.allow.0"));
    }

    /// A key without a blast radius would be applied by chance.
    #[test]
    fn every_section_has_a_class() {
        fn classless(schema: &Value, path: &str, inherited: bool, out: &mut Vec<String>) {
            let has = inherited || schema.get("x-class").is_some();
            let properties = schema.get("properties").and_then(Value::as_object);
            match properties {
                Some(properties) => {
                    for (name, below) in properties {
                        classless(below, &format!("{path}.{name}"), has, out);
                    }
                }
                None if !has => out.push(path.to_owned()),
                None => {}
            }
        }
        let mut out = Vec::new();
        classless(&schema(), "", false, &mut out);
        assert_eq!(out, Vec::<String>::new());
    }
}
