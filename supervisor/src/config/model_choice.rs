//! Which model a new installation starts with. Pure: configuration, environment and what answers on this machine in,
//! a choice and the keys to write out.
//!
//! Order: what the file says; a key in the environment (see [`BY_KEY`]); a model server on localhost (Ollama, LM Studio,
//! llama.cpp); the built-in `demo`.

use super::{ConfigSnapshot, Environment};
use serde_json::{Map, Value, json};

/// Variables, best first, with the model that is a sensible start there. Documented in docs/operations.md.
pub const BY_KEY: [(&[&str], &str); 8] = [
    (&["OPENROUTER_API_KEY"], "openrouter/auto"),
    (&["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"], "anthropic/claude-sonnet-4-6"),
    (&["OPENAI_API_KEY"], "openai/gpt-5.2"),
    (&["GEMINI_API_KEY", "GOOGLE_API_KEY"], "google/gemini-3-flash-preview"),
    (&["GROQ_API_KEY"], "groq/llama-3.3-70b-versatile"),
    (&["XAI_API_KEY"], "xai/grok-4-1-fast"),
    (&["MOONSHOT_API_KEY"], "moonshot/kimi-k2.5"),
    (&["DEEPSEEK_API_KEY"], "deepseek/deepseek-chat"),
];
/// Works without key and network.
pub const DEMO_MODEL: &str = "demo/demo";

/// A model server on this machine. `models` is what it answered, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalServer {
    pub kind: LocalKind,
    pub models: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalKind {
    Ollama,
    LmStudio,
    LlamaCpp,
}

impl LocalKind {
    pub const ALL: [Self; 3] = [Self::Ollama, Self::LmStudio, Self::LlamaCpp];

    #[must_use]
    pub fn provider(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::LmStudio => "lmstudio",
            Self::LlamaCpp => "llamacpp",
        }
    }

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ollama => "Ollama",
            Self::LmStudio => "LM Studio",
            Self::LlamaCpp => "llama.cpp",
        }
    }

    /// Default port of the server on 127.0.0.1.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Ollama => 11_434,
            Self::LmStudio => 1_234,
            Self::LlamaCpp => 8_080,
        }
    }

    /// Path that lists its models: names under `models[].name` (Ollama) or `data[].id`.
    #[must_use]
    pub fn list_path(self) -> &'static str {
        match self {
            Self::Ollama => "/api/tags",
            Self::LmStudio | Self::LlamaCpp => "/v1/models",
        }
    }

    /// The names in the answer to [`LocalKind::list_path`]; `None` when another program answered.
    #[must_use]
    pub fn models(self, answer: &Value) -> Option<Vec<String>> {
        let (list, name) = match self {
            Self::Ollama => ("models", "name"),
            Self::LmStudio | Self::LlamaCpp => ("data", "id"),
        };
        let items = answer.get(list)?.as_array()?;
        Some(items.iter().filter_map(|item| item.get(name)?.as_str().map(str::to_owned)).collect())
    }
}

/// Why this model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    Config,
    /// The variable that holds the key.
    Key(String),
    Local(LocalKind),
    Demo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelDecision {
    /// `provider/model`.
    pub reference: String,
    pub source: ModelSource,
}

impl ModelDecision {
    /// For people: what was chosen and why.
    #[must_use]
    pub fn reason(&self) -> String {
        let model = &self.reference;
        match &self.source {
            ModelSource::Config => format!("{model} (from the config)"),
            ModelSource::Key(name) => format!("{model} ({name} is set)"),
            ModelSource::Local(kind) => format!("{model} ({} answers on port {})", kind.title(), kind.port()),
            ModelSource::Demo => format!("{model} (built in; no key and no local model server found)"),
        }
    }
}

/// Decides. A local server counts only when it has a model; models for embeddings are passed over.
#[must_use]
pub fn choose(snapshot: &ConfigSnapshot, servers: &[LocalServer]) -> ModelDecision {
    let default = snapshot.view.agents.model_of(snapshot.view.agents.default_id());
    if let Some(reference) = default.primary.clone() {
        return ModelDecision { reference, source: ModelSource::Config };
    }
    by_key(snapshot.env())
        .or_else(|| by_server(servers))
        .unwrap_or_else(|| ModelDecision { reference: DEMO_MODEL.to_owned(), source: ModelSource::Demo })
}

/// Whether the servers on this machine must be asked at all: not when the file or a key decides.
#[must_use]
pub fn needs_probe(snapshot: &ConfigSnapshot) -> bool {
    choose(snapshot, &[]).source == ModelSource::Demo
}

fn by_key(env: &Environment) -> Option<ModelDecision> {
    BY_KEY.iter().find_map(|(names, model)| {
        let name = names.iter().find(|name| env.get(name).is_some())?;
        Some(ModelDecision { reference: (*model).to_owned(), source: ModelSource::Key((*name).to_owned()) })
    })
}

fn by_server(servers: &[LocalServer]) -> Option<ModelDecision> {
    LocalKind::ALL.iter().find_map(|kind| {
        let server = servers.iter().find(|server| server.kind == *kind)?;
        let model = server.models.iter().find(|name| !name.to_lowercase().contains("embed"))?;
        Some(ModelDecision {
            reference: format!("{}/{model}", kind.provider()),
            source: ModelSource::Local(*kind),
        })
    })
}

/// The merge patch with which `up` completes a configuration: only what is missing. `token` is used when the file and
/// the environment have neither token nor password.
#[must_use]
pub fn setup_patch(snapshot: &ConfigSnapshot, decision: &ModelDecision, token: &str) -> Value {
    let mut patch = Value::Object(Map::new());
    let has = |pointer: &str| snapshot.file.resolved.pointer(pointer).is_some();
    let mut add = |path: &[&str], value: Value| {
        let parts = path.iter().map(|key| super::Part::Key((*key).to_owned())).collect();
        // The path is made of constants and starts from an object, so it can be set.
        let _ = super::KeyPath(parts).set(&mut patch, value);
    };
    if snapshot.gateway.mode.is_none() {
        add(&["gateway", "mode"], json!("local"));
    }
    let auth = &snapshot.gateway.auth;
    let env = snapshot.env();
    let secret = auth.token.is_some()
        || auth.password.is_some()
        || env.get("OPENCLAW_GATEWAY_TOKEN").is_some()
        || env.get("OPENCLAW_GATEWAY_PASSWORD").is_some();
    if !secret && auth.mode.is_none_or(|mode| mode == super::AuthMode::Token) {
        add(&["gateway", "auth", "mode"], json!("token"));
        add(&["gateway", "auth", "token"], json!(token));
    }
    if !has("/gateway/http/endpoints/chatCompletions/enabled") {
        add(&["gateway", "http", "endpoints", "chatCompletions", "enabled"], json!(true));
    }
    if decision.source != ModelSource::Config {
        add(&["agents", "defaults", "model", "primary"], json!(decision.reference));
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, judge};
    use std::path::Path;
    use std::sync::Arc;

    fn snapshot(text: &str, vars: &[(&str, &str)]) -> ConfigSnapshot {
        let env: Environment = vars.iter().copied().collect();
        let file = judge(Path::new("/c/openclaw.json"), text, &env);
        ConfigSnapshot::new(Arc::new(file), ConfigSource::File).expect("valid")
    }

    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [LocalServer], &'a str);

    #[test]
    fn the_order_of_choice() {
        let servers = [
            LocalServer { kind: LocalKind::LlamaCpp, models: vec!["l".into()] },
            LocalServer {
                kind: LocalKind::Ollama,
                models: vec!["nomic-embed-text".into(), "qwen3:8b".into()],
            },
        ];
        let keys = [("DEEPSEEK_API_KEY", "k"), ("OPENAI_API_KEY", "k")];
        let rows: [Row<'_>; 7] = [
            ("{agents:{defaults:{model:'a/b'}}}", &keys, &servers, "a/b (from the config)"),
            ("{}", &keys, &servers, "openai/gpt-5.2 (OPENAI_API_KEY is set)"),
            ("{env:{vars:{XAI_API_KEY:'k'}}}", &[], &servers, "xai/grok-4-1-fast (XAI_API_KEY is set)"),
            (
                "{}",
                &[("OPENROUTER_API_KEY", " ")],
                &servers,
                "ollama/qwen3:8b (Ollama answers on port 11434)",
            ),
            ("{}", &[], &servers[..1], "llamacpp/l (llama.cpp answers on port 8080)"),
            (
                "{}",
                &[],
                &[LocalServer { kind: LocalKind::Ollama, models: vec![] }],
                "demo/demo (built in; no key and no local model server found)",
            ),
            ("{agents:{list:[{id:'x',model:{primary:'p/q'}}]}}", &[], &[], "p/q (from the config)"),
        ];
        for (text, vars, servers, wanted) in rows {
            assert_eq!(choose(&snapshot(text, vars), servers).reason(), wanted);
        }
        assert!(needs_probe(&snapshot("{}", &[])) && !needs_probe(&snapshot("{}", &keys)));
    }

    #[test]
    fn answers_of_the_servers() {
        let ollama = json!({"models": [{"name": "a:1"}, {}]});
        assert_eq!(LocalKind::Ollama.models(&ollama), Some(vec!["a:1".to_owned()]));
        assert_eq!(LocalKind::LmStudio.models(&json!({"data": [{"id": "m"}]})), Some(vec!["m".to_owned()]));
        assert_eq!(LocalKind::LlamaCpp.models(&json!({"hello": 1})), None);
    }

    #[test]
    fn setup_adds_only_what_is_missing() {
        let empty = snapshot("{}", &[]);
        let patch = setup_patch(&empty, &choose(&empty, &[]), "T");
        let wanted = json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": "T"},
            "http": {"endpoints": {"chatCompletions": {"enabled": true}}}}, "agents": {"defaults": {"model": {"primary": "demo/demo"}}}});
        assert_eq!(patch, wanted);
        let full = snapshot(
            "{gateway:{mode:'local',auth:{password:'p'},http:{endpoints:{chatCompletions:{enabled:false}}}},agents:{defaults:{model:'a/b'}}}",
            &[],
        );
        assert_eq!(setup_patch(&full, &choose(&full, &[]), "T"), json!({}));
        let by_env = snapshot("{}", &[("OPENCLAW_GATEWAY_TOKEN", "t")]);
        assert_eq!(setup_patch(&by_env, &choose(&by_env, &[]), "T").pointer("/gateway/auth"), None);
    }
}
