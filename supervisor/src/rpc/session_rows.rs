//! Sessions as lists show them: one row of the index → one row of `sessions.list`, `status` or `health`.
//! Pure but for [`Defaults::of`]; nothing here wakes an agent.

use crate::config::ConfigSnapshot;
use crate::gateway::Handles;
use crate::router::session_key;
use proto::view::PeerKind;
use proto::wire::agent::SessionRow;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Fields of an entry that a row shows as they stand in the store.
const AS_STORED: [&str; 30] = [
    "label",
    "displayName",
    "channel",
    "subject",
    "groupChannel",
    "space",
    "chatType",
    "origin",
    "systemSent",
    "abortedLastRun",
    "thinkingLevel",
    "verboseLevel",
    "reasoningLevel",
    "elevatedLevel",
    "responseUsage",
    "sendPolicy",
    "groupActivation",
    "execHost",
    "execSecurity",
    "execAsk",
    "execNode",
    "inputTokens",
    "outputTokens",
    "totalTokens",
    "totalTokensFresh",
    "deliveryContext",
    "lastChannel",
    "lastTo",
    "lastAccountId",
    "spawnedBy",
];
/// The same for the rows of `status`.
const IN_STATUS: [&str; 12] = [
    "thinkingLevel",
    "verboseLevel",
    "reasoningLevel",
    "elevatedLevel",
    "systemSent",
    "abortedLastRun",
    "inputTokens",
    "outputTokens",
    "cacheRead",
    "cacheWrite",
    "totalTokens",
    "totalTokensFresh",
];

/// The model of a session that names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub provider: Option<String>,
    pub model: Option<String>,
    /// Tokens of context, where the configuration tells.
    pub context_tokens: Option<u64>,
}

impl Defaults {
    /// Of one agent, from the running configuration.
    pub fn of(config: &ConfigSnapshot, agent_id: &str) -> Self {
        let Some(written) = config.view.agents.model_of(agent_id).primary.as_deref() else {
            return Self::default();
        };
        let reference = unaliased(&config.config, written);
        let (provider, model) = reference.split_once('/').unwrap_or(("", reference));
        let window = context_window(&config.config, provider, model);
        let cap = config.config.pointer("/agents/defaults/contextTokens").and_then(Value::as_u64);
        Self {
            provider: Some(provider.to_owned()).filter(|provider| !provider.is_empty()),
            model: Some(model.to_owned()),
            context_tokens: match (window, cap) {
                (Some(window), Some(cap)) => Some(window.min(cap)),
                (window, cap) => window.or(cap),
            },
        }
    }
}

/// `agents.defaults.models["provider/model"].alias` → its key.
fn unaliased<'a>(config: &'a Value, written: &'a str) -> &'a str {
    let models = config.pointer("/agents/defaults/models").and_then(Value::as_object);
    let named = |entry: &Value| entry["alias"].as_str().is_some_and(|alias| alias == written);
    models.into_iter().flatten().find(|(_, entry)| named(entry)).map_or(written, |(key, _)| key)
}

fn context_window(config: &Value, provider: &str, model: &str) -> Option<u64> {
    let models = config["models"]["providers"][provider]["models"].as_array()?;
    models.iter().find(|entry| entry["id"] == model)?["contextWindow"].as_u64()
}

/// Where an agent keeps its sessions.
pub fn store_path(gw: &Handles, agent_id: &str) -> String {
    gw.config.paths().sessions_dir(agent_id).join("sessions.json").display().to_string()
}

/// A run of a scheduled job has a session of its own that only its job's history shows.
pub fn is_job_run(key: &str) -> bool {
    session_key::is_cron(key) && key.contains(":run:")
}

/// `kind` of a row.
pub fn kind(key: &str, entry: &Value) -> &'static str {
    let grouped = matches!(entry["chatType"].as_str(), Some("group" | "channel"))
        || matches!(session_key::chat_kind(key), Some(PeerKind::Group | PeerKind::Channel));
    match key {
        session_key::GLOBAL => "global",
        session_key::UNKNOWN => "unknown",
        _ if grouped => "group",
        _ => "direct",
    }
}

/// `classification` of a row of protocol 4.
fn classification(key: &str, kind: &str, is_main: bool) -> &'static str {
    if is_main {
        return "main";
    }
    match kind {
        _ if session_key::is_cron(key) => "cron",
        _ if session_key::subagent_depth(key) > 0 => "subagent",
        "group" => "group",
        _ if session_key::chat_kind(key) == Some(PeerKind::Direct) => "direct",
        _ => "custom",
    }
}

/// What a list adds to its rows.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// 3 or 4.
    pub protocol: u8,
    pub now_ms: i64,
    pub titles: bool,
    pub last_messages: bool,
    /// Keys of sessions with a run.
    pub active: HashSet<String>,
}

/// A row of `sessions.list`.
pub fn list_row(row: &SessionRow, entry: &Value, defaults: &Defaults, style: &Style) -> Value {
    let mut shown = Map::new();
    let kind = kind(&row.key, entry);
    shown.insert("key".into(), row.key.as_str().into());
    shown.insert("kind".into(), kind.into());
    copy(entry, &AS_STORED, &mut shown);
    shown.insert("updatedAt".into(), row.updated_ms.into());
    if !row.session_id.is_empty() {
        shown.insert("sessionId".into(), row.session_id.as_str().into());
    }
    add_model(entry, defaults, &mut shown);
    if style.titles
        && let Some(title) = title(row, entry)
    {
        shown.insert("derivedTitle".into(), title.into());
    }
    if style.last_messages {
        copy(entry, &["lastMessagePreview"], &mut shown);
    }
    if style.protocol >= 4 {
        add_later(row, entry, kind, style, &mut shown);
    }
    Value::Object(shown)
}

/// What the later release's page reads of a row.
fn add_later(row: &SessionRow, entry: &Value, kind: &str, style: &Style, shown: &mut Map<String, Value>) {
    let is_main = row.key == session_key::GLOBAL
        || session_key::parse(&row.key).is_some_and(|parts| parts.rest == "main");
    let classification = classification(&row.key, kind, is_main);
    let active = style.active.contains(&row.key);
    shown.insert("agentId".into(), row.agent_id.as_str().into());
    shown.insert("isMain".into(), is_main.into());
    shown.insert("classification".into(), classification.into());
    shown.insert("isBackground".into(), matches!(classification, "cron" | "subagent").into());
    for flag in ["archived", "pinned", "unread"] {
        shown.insert(flag.into(), (entry[flag] == true).into());
    }
    let used = entry["lastInteractionAt"].as_i64().unwrap_or(row.updated_ms);
    shown.insert("lastInteractionAt".into(), used.into());
    shown.insert("lastActivityAt".into(), used.into());
    shown.insert("hasActiveRun".into(), active.into());
    shown.insert("status".into(), if active { "running" } else { "done" }.into());
    shown.insert("snapshotAt".into(), style.now_ms.into());
}

/// A name that people gave, else the conversation's first words, else the start of its id.
pub fn title(row: &SessionRow, entry: &Value) -> Option<String> {
    let text = |field: &str| entry[field].as_str().map(str::trim).filter(|text| !text.is_empty());
    let named = text("displayName").or_else(|| text("subject")).or_else(|| text("derivedTitle"));
    named.map(str::to_owned).or_else(|| row.session_id.get(..8).map(str::to_owned))
}

fn copy(entry: &Value, fields: &[&str], shown: &mut Map<String, Value>) {
    for field in fields {
        if let Some(value) = entry.get(*field).filter(|value| !value.is_null()) {
            shown.insert((*field).to_owned(), value.clone());
        }
    }
}

/// The model that the next turn uses: the session's choice, else its last one, else the agent's.
fn model_of(entry: &Value, defaults: &Defaults) -> (Option<String>, Option<String>) {
    let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("providerOverride"), text("modelOverride")) {
        (Some(provider), Some(model)) => (Some(provider), Some(model)),
        (None, Some(reference)) => match reference.split_once('/') {
            Some((provider, model)) => (Some(provider.to_owned()), Some(model.to_owned())),
            None => (defaults.provider.clone(), Some(reference)),
        },
        _ => (
            text("modelProvider").or_else(|| defaults.provider.clone()),
            text("model").or_else(|| defaults.model.clone()),
        ),
    }
}

fn add_model(entry: &Value, defaults: &Defaults, shown: &mut Map<String, Value>) {
    let (provider, model) = model_of(entry, defaults);
    let context = entry["contextTokens"].as_u64().or(defaults.context_tokens);
    let values = [
        ("modelProvider", provider.map(Value::from)),
        ("model", model.map(Value::from)),
        ("contextTokens", context.map(Value::from)),
    ];
    for (field, value) in values {
        if let Some(value) = value {
            shown.insert(field.into(), value);
        }
    }
}

/// A row of `status`.
pub fn status_row(row: &SessionRow, defaults: &Defaults, protocol: u8, now_ms: i64) -> Value {
    let entry: Value = serde_json::from_str(&row.entry_json).unwrap_or_default();
    let mut shown = Map::new();
    let kind = if protocol >= 4 && session_key::is_cron(&row.key) { "cron" } else { kind(&row.key, &entry) };
    shown.insert("agentId".into(), row.agent_id.as_str().into());
    shown.insert("key".into(), row.key.as_str().into());
    shown.insert("kind".into(), kind.into());
    shown.insert("sessionId".into(), row.session_id.as_str().into());
    shown.insert("updatedAt".into(), row.updated_ms.into());
    shown.insert("age".into(), (now_ms - row.updated_ms).max(0).into());
    copy(&entry, &IN_STATUS, &mut shown);
    let (provider, model) = model_of(&entry, defaults);
    let window = entry["contextTokens"].as_u64().or(defaults.context_tokens);
    let used = entry["totalTokens"].as_u64();
    shown.insert("totalTokens".into(), json!(used));
    shown.insert("totalTokensFresh".into(), (entry["totalTokensFresh"] == true).into());
    shown.insert(
        "remainingTokens".into(),
        json!(window.zip(used).map(|(all, used)| all.saturating_sub(used))),
    );
    shown.insert("percentUsed".into(), json!(window.zip(used).and_then(|(all, used)| percent(used, all))));
    if protocol >= 4 {
        let selected = match (&provider, &model) {
            (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
            (_, model) => model.clone(),
        };
        shown.insert("configuredModel".into(), json!(reference(defaults)));
        shown.insert("selectedModel".into(), json!(selected));
    }
    shown.insert("model".into(), json!(model));
    shown.insert("contextTokens".into(), json!(window));
    shown.insert("flags".into(), json!(flags(row, &entry)));
    Value::Object(shown)
}

/// `provider/model` of the defaults.
pub fn reference(defaults: &Defaults) -> Option<String> {
    let model = defaults.model.as_deref()?;
    Some(
        defaults.provider.as_ref().map_or_else(|| model.to_owned(), |provider| format!("{provider}/{model}")),
    )
}

fn percent(used: u64, all: u64) -> Option<u64> {
    used.saturating_mul(100).saturating_add(all / 2).checked_div(all).map(|percent| percent.min(999))
}

/// What is unusual about a session, in short words.
fn flags(row: &SessionRow, entry: &Value) -> Vec<String> {
    let mut flags = Vec::new();
    let levels = [
        ("thinkingLevel", "think"),
        ("verboseLevel", "verbose"),
        ("reasoningLevel", "reasoning"),
        ("elevatedLevel", "elevated"),
    ];
    for (field, word) in levels {
        if let Some(level) = entry[field].as_str().filter(|level| !level.is_empty()) {
            flags.push(format!("{word}:{level}"));
        }
    }
    if entry["systemSent"] == true {
        flags.push("system".to_owned());
    }
    if entry["abortedLastRun"] == true {
        flags.push("aborted".to_owned());
    }
    if !row.session_id.is_empty() {
        flags.push(format!("id:{}", row.session_id));
    }
    flags
}

#[cfg(test)]
mod tests;
