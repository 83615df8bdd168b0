//! Which model a new installation starts with. Pure: configuration, environment and what answers on this machine in,
//! a choice and the keys to write out.
//!
//! Order: what the file says; what was asked for by flag; a key in the environment (see [`BY_KEY`]); a model server on
//! localhost (Ollama, LM Studio, llama.cpp); the built-in `demo`.

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
    pub port: u16,
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

    /// Where the configuration says that it is on this machine: the port of `models.providers.<id>.baseUrl`, else the
    /// default one. `None`: configured to be elsewhere, so what answers here is another server.
    #[must_use]
    pub fn port_in(self, snapshot: &ConfigSnapshot) -> Option<u16> {
        let providers = snapshot.config.pointer("/models/providers");
        let url = providers.and_then(|all| all.get(self.provider())?.get("baseUrl")?.as_str());
        url.map_or(Some(self.port()), loopback_port)
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

/// The port of a plain HTTP address on this machine.
fn loopback_port(url: &str) -> Option<u16> {
    let authority = url.trim().strip_prefix("http://")?.split('/').next()?;
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    ["127.0.0.1", "localhost"].contains(&host).then(|| port.parse().ok())?
}

/// Why this model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    Config,
    /// `up --model`.
    Flag,
    /// The variable that holds the key.
    Key(String),
    /// The server and its port.
    Local(LocalKind, u16),
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
            ModelSource::Flag => format!("{model} (--model)"),
            ModelSource::Local(kind, port) => format!("{model} ({} answers on port {port})", kind.title()),
            ModelSource::Demo => format!("{model} (built in; no key and no local model server found)"),
        }
    }
}

/// Decides. `wanted` is the value of `--model`, for a file that names none. A local server counts only when it has a
/// model; models for embeddings are passed over.
#[must_use]
pub fn choose(snapshot: &ConfigSnapshot, wanted: Option<&str>, servers: &[LocalServer]) -> ModelDecision {
    let default = snapshot.view.agents.model_of(snapshot.view.agents.default_id());
    if let Some(reference) = default.primary.clone() {
        return ModelDecision { reference, source: ModelSource::Config };
    }
    if let Some(reference) = wanted.map(str::to_owned) {
        return ModelDecision { reference, source: ModelSource::Flag };
    }
    by_key(snapshot.env())
        .or_else(|| by_server(servers))
        .unwrap_or_else(|| ModelDecision { reference: DEMO_MODEL.to_owned(), source: ModelSource::Demo })
}

/// Whether the servers on this machine must be asked at all: not when the file, the flag or a key decides.
#[must_use]
pub fn needs_probe(snapshot: &ConfigSnapshot, wanted: Option<&str>) -> bool {
    choose(snapshot, wanted, &[]).source == ModelSource::Demo
}

/// The variables that may hold the key of a provider of [`BY_KEY`]; empty for one that is not in the table.
#[must_use]
pub fn key_names(provider: &str) -> &'static [&'static str] {
    let row = BY_KEY.iter().find(|(_, model)| model.split('/').next() == Some(provider));
    row.map_or(&[], |(names, _)| names)
}

/// The best model for which the environment has a key.
#[must_use]
pub fn by_key(env: &Environment) -> Option<ModelDecision> {
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
            source: ModelSource::Local(*kind, server.port),
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
    // A reference whose variable is not set now is a decision of the user, not a gap.
    let secret = auth.token.is_some()
        || auth.password.is_some()
        || has("/gateway/auth/token")
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
mod tests;
