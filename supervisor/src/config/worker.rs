//! What one worker is told: the sections it acts on, and its own secrets beside them. No worker sees the gateway's
//! secrets, another channel's, or the keys of model providers that it may not use. Pure.

use super::secret::{Secret, SecretInput};
use super::sensitive::is_sensitive;
use super::{ConfigSnapshot, Environment, Issue};
use proto::view::{DEFAULT_ACCOUNT_ID, normalize_agent_id};
use proto::wire::handshake::{SecretMap, WorkerId};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// Sections of an agent's turn.
const AGENT_SECTIONS: [&str; 10] =
    ["agents", "auth", "commands", "logging", "messages", "models", "session", "skills", "tools", "ui"];
/// Sections that a channel account's worker reads beside its own.
const CHANNEL_SECTIONS: [&str; 3] = ["commands", "logging", "messages"];
/// What a channel worker may know of an agent: how people address it.
const AGENT_KEYS_FOR_CHANNELS: [&str; 5] = ["default", "groupChat", "id", "identity", "name"];

/// Keys outside of `accounts` that belong to the default account alone: two accounts must not share one bot.
const CREDENTIALS: [&str; 5] = ["appToken", "botToken", "token", "tokenFile", "userToken"];

/// Environment variables with a provider's key, best first.
const PROVIDER_KEYS: [(&str, &[&str]); 22] = [
    ("openrouter", &["OPENROUTER_API_KEY"]),
    ("anthropic", &["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"]),
    ("openai", &["OPENAI_API_KEY"]),
    ("google", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
    ("groq", &["GROQ_API_KEY"]),
    ("xai", &["XAI_API_KEY"]),
    ("moonshot", &["MOONSHOT_API_KEY"]),
    ("deepseek", &["DEEPSEEK_API_KEY"]),
    ("mistral", &["MISTRAL_API_KEY"]),
    ("together", &["TOGETHER_API_KEY"]),
    ("cerebras", &["CEREBRAS_API_KEY"]),
    ("nvidia", &["NVIDIA_API_KEY"]),
    ("venice", &["VENICE_API_KEY"]),
    ("zai", &["ZAI_API_KEY", "Z_AI_API_KEY"]),
    ("huggingface", &["HUGGINGFACE_HUB_TOKEN", "HF_TOKEN"]),
    ("vercel-ai-gateway", &["AI_GATEWAY_API_KEY"]),
    ("github-copilot", &["COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"]),
    ("kimi-coding", &["KIMI_API_KEY"]),
    ("ollama", &["OLLAMA_API_KEY"]),
    ("lmstudio", &["LMSTUDIO_API_KEY"]),
    ("vllm", &["VLLM_API_KEY"]),
    ("litellm", &["LITELLM_API_KEY"]),
];

/// Variables of a provider; one that is not listed has `<NAME>_API_KEY`.
#[must_use]
pub fn provider_key_names(provider: &str) -> Vec<String> {
    if let Some((_, names)) = PROVIDER_KEYS.iter().find(|(id, _)| *id == provider) {
        return names.iter().map(|name| (*name).to_owned()).collect();
    }
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    vec![format!("{}_API_KEY", provider.chars().map(upper).collect::<String>())]
}

/// The `config_json` of a worker's welcome, and its secrets by name: `provider:<id>` and environment variables for
/// agents, key names of the account (`botToken`) for channels, dotted paths for the rest.
#[must_use]
pub fn worker_config(snapshot: &ConfigSnapshot, worker: &WorkerId) -> (String, SecretMap) {
    let config = &snapshot.config;
    let (config, secrets) = match (worker.account(), worker.agent_id()) {
        (Some((channel, account)), _) => for_channel(config, snapshot.env(), channel, account),
        (None, Some(agent)) => for_agent(config, snapshot.env(), agent),
        (None, None) => (Map::new(), SecretMap::default()),
    };
    (Value::Object(config).to_string(), secrets)
}

fn sections(config: &Value, names: &[&str]) -> Map<String, Value> {
    let found = names.iter().filter_map(|name| Some(((*name).to_owned(), config.get(name)?.clone())));
    found.collect()
}

fn for_agent(config: &Value, env: &Environment, agent: &str) -> (Map<String, Value>, SecretMap) {
    let mut out = Value::Object(sections(config, &AGENT_SECTIONS));
    let mut secrets = SecretMap::default();
    let allowed = allowed_providers(config, agent);
    let may_use = |provider: &str| allowed.as_ref().is_none_or(|allowed| allowed.contains(provider));
    let providers = out.pointer_mut("/models/providers").and_then(Value::as_object_mut);
    let mut known: Vec<String> = PROVIDER_KEYS.iter().map(|(id, _)| (*id).to_owned()).collect();
    for (id, provider) in providers.into_iter().flatten() {
        let Some(provider) = provider.as_object_mut() else { continue };
        let key = provider.remove("apiKey").and_then(|key| provider_key(&key, env));
        if !may_use(id) {
            provider.remove("headers");
            continue;
        }
        known.push(id.clone());
        if let Some(key) = key {
            secrets.0.insert(format!("provider:{id}"), key.expose().to_owned());
        }
    }
    for name in known.iter().filter(|id| may_use(id)).flat_map(|id| provider_key_names(id)) {
        if let Some(value) = env.get(&name) {
            secrets.0.insert(name, value.to_owned());
        }
    }
    let others = other_agents(&out, agent);
    take_secrets(&mut out, "", env, &mut |path, secret| {
        if !others.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            secrets.0.insert(path.to_owned(), secret);
        }
    });
    (as_map(out), secrets)
}

/// A key as written: the text, a reference, or the name of a variable.
fn provider_key(value: &Value, env: &Environment) -> Option<Secret> {
    let secret = SecretInput::from_value(value)?.resolve(env)?;
    let named = env.get(secret.expose()).and_then(Secret::new);
    Some(named.unwrap_or(secret))
}

/// Providers of the models that this agent may use; `None` when any model may be chosen.
fn allowed_providers(config: &Value, agent: &str) -> Option<BTreeSet<String>> {
    let defaults = config.pointer("/agents/defaults");
    let listed = defaults.and_then(|defaults| defaults.get("models")).and_then(Value::as_object);
    let listed = listed.filter(|models| !models.is_empty())?;
    let mut references: Vec<&str> = listed.keys().map(String::as_str).collect();
    let own = own_entry(config, agent);
    for block in [defaults, own].into_iter().flatten() {
        for key in ["model", "imageModel"] {
            let Some(choice) = block.get(key) else { continue };
            let fallbacks = choice.get("fallbacks").and_then(Value::as_array);
            references.extend(choice.as_str());
            references.extend(choice.get("primary").and_then(Value::as_str));
            references.extend(fallbacks.into_iter().flatten().filter_map(Value::as_str));
        }
    }
    let provider = |reference: &str| {
        reference.split_once('/').map_or("anthropic", |(provider, _)| provider).trim().to_lowercase()
    };
    Some(references.into_iter().map(provider).collect())
}

/// The block of an agent, listed or keyed.
#[must_use]
pub fn own_entry<'a>(config: &'a Value, agent: &str) -> Option<&'a Value> {
    let list = config.pointer("/agents/list").and_then(Value::as_array);
    let listed = list.into_iter().flatten().find(|entry| {
        entry.get("id").and_then(Value::as_str).is_some_and(|id| normalize_agent_id(id) == agent)
    });
    listed.or_else(|| config.pointer("/agents/entries").and_then(|entries| entries.get(agent)))
}

/// Path prefixes of the other agents' entries.
fn other_agents(config: &Value, agent: &str) -> Vec<String> {
    let is_other = |id: &str| normalize_agent_id(id) != agent;
    let list = config.pointer("/agents/list").and_then(Value::as_array);
    let listed = list.into_iter().flatten().enumerate();
    let listed = listed
        .filter(|(_, entry)| is_other(entry.get("id").and_then(Value::as_str).unwrap_or("")))
        .map(|(index, _)| format!("agents.list.{index}."));
    let entries = config.pointer("/agents/entries").and_then(Value::as_object);
    let mapped = entries.into_iter().flatten().filter(|(id, _)| is_other(id));
    listed.chain(mapped.map(|(id, _)| format!("agents.entries.{id}."))).collect()
}

fn for_channel(
    config: &Value,
    env: &Environment,
    channel: &str,
    account: &str,
) -> (Map<String, Value>, SecretMap) {
    let mut out = sections(config, &CHANNEL_SECTIONS);
    out.insert("agents".to_owned(), addressed_agents(config));
    let mut section =
        config.pointer("/channels").and_then(|all| all.get(channel)).cloned().unwrap_or_default();
    let accounts = section.as_object_mut().and_then(|keys| keys.remove("accounts"));
    let own = accounts.as_ref().and_then(Value::as_object).and_then(|all| {
        all.iter().find(|(id, _)| id.trim().eq_ignore_ascii_case(account)).map(|(_, own)| own.clone())
    });
    let mut keys = as_map(section);
    if account != DEFAULT_ACCOUNT_ID {
        keys.retain(|key, _| !CREDENTIALS.contains(&key.as_str()));
    }
    keys.extend(own.map(as_map).unwrap_or_default());
    let mut section = Value::Object(keys);
    let mut secrets = SecretMap::default();
    take_secrets(&mut section, "", env, &mut |path, secret| {
        secrets.0.insert(path.to_owned(), secret);
    });
    if account == DEFAULT_ACCOUNT_ID {
        for (key, name) in account_variables(channel) {
            if let (false, Some(value)) = (secrets.0.contains_key(*key), env.get(name)) {
                secrets.0.insert((*key).to_owned(), value.to_owned());
            }
        }
    }
    let mut channels = Map::new();
    channels.insert(channel.to_owned(), section);
    if let Some(defaults) = config.pointer("/channels/defaults") {
        channels.insert("defaults".to_owned(), defaults.clone());
    }
    out.insert("channels".to_owned(), Value::Object(channels));
    let mut out = Value::Object(out);
    take_secrets(&mut out, "", env, &mut |_, _| {});
    (as_map(out), secrets)
}

/// Secrets of its own section that a channel worker would have to do without: it cannot work, and could not say why. An
/// agent can work without one key, and says which it misses when it needs it.
#[must_use]
pub fn missing_for(snapshot: &ConfigSnapshot, worker: &WorkerId, state_dir: &Path) -> Vec<Issue> {
    let Some((channel, account)) = worker.account() else { return Vec::new() };
    let section = format!("channels.{channel}.");
    let mut missing = snapshot.file.missing_secrets(state_dir);
    missing.retain(|issue| issue.path.starts_with(&section));
    if missing.is_empty() {
        return missing;
    }
    let (_, had) = worker_config(snapshot, worker);
    missing.retain(|issue| {
        let key = issue.path.get(section.len()..).unwrap_or_default();
        let own = key.strip_prefix("accounts.").map(|rest| rest.split_once('.').unwrap_or((rest, "")));
        match own {
            Some((id, key)) => id.trim().eq_ignore_ascii_case(account) && !had.0.contains_key(key),
            None if account != DEFAULT_ACCOUNT_ID && CREDENTIALS.contains(&key) => false,
            None => !had.0.contains_key(key),
        }
    });
    missing
}

/// Variables that stand for keys of the default account only.
fn account_variables(channel: &str) -> &'static [(&'static str, &'static str)] {
    match channel {
        "telegram" => &[("botToken", "TELEGRAM_BOT_TOKEN")],
        "discord" => &[("token", "DISCORD_BOT_TOKEN")],
        "slack" => &[("botToken", "SLACK_BOT_TOKEN"), ("appToken", "SLACK_APP_TOKEN")],
        _ => &[],
    }
}

fn addressed_agents(config: &Value) -> Value {
    let kept = |entry: &Value| {
        let keys = entry.as_object().into_iter().flatten();
        let keys = keys.filter(|(key, _)| AGENT_KEYS_FOR_CHANNELS.contains(&key.as_str()));
        Value::Object(keys.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    let mut out = Map::new();
    if let Some(list) = config.pointer("/agents/list").and_then(Value::as_array) {
        out.insert("list".to_owned(), Value::Array(list.iter().map(kept).collect()));
    }
    if let Some(entries) = config.pointer("/agents/entries").and_then(Value::as_object) {
        let entries = entries.iter().map(|(id, entry)| (id.clone(), kept(entry)));
        out.insert("entries".to_owned(), Value::Object(entries.collect()));
    }
    Value::Object(out)
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Removes every secret from a tree and hands it on with its path. Headers of providers stay: the request needs them
/// as they are, and those of other providers are gone already.
fn take_secrets(value: &mut Value, path: &str, env: &Environment, found: &mut dyn FnMut(&str, String)) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => {
            let secret = |key: &String| is_sensitive(&below(key)) && !below(key).contains(".headers.");
            let names: Vec<String> = map.keys().filter(|key| secret(key)).cloned().collect();
            for name in names {
                let Some(value) = map.shift_remove(&name) else { continue };
                let at = below(&name);
                match SecretInput::from_value(&value) {
                    Some(input) => {
                        if let Some(secret) = input.resolve(env) {
                            found(&at, secret.expose().to_owned());
                        }
                    }
                    None if value.is_object() || value.is_number() => found(&at, value.to_string()),
                    None => {}
                }
            }
            for (key, value) in map.iter_mut() {
                take_secrets(value, &below(key), env, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_secrets(item, &below(&index.to_string()), env, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
