//! One account as configured: its channel, its keys, its secrets, and the few things of other sections that a
//! channel worker reports by.

use std::path::PathBuf;

use proto::view::ConfigView;
use proto::wire::handshake::{SecretMap, WorkerConfig, WorkerId};
use serde_json::Value;

/// What a channel is opened with: from the `Welcome`, and again from each `ConfigDelta`.
pub struct Account {
    /// `telegram`, …
    pub channel: String,
    /// `default`, or a key below `accounts`.
    pub id: String,
    /// The channel's section with the account's keys over it.
    pub section: Value,
    pub secrets: SecretMap,
    pub state_dir: PathBuf,
    /// Patterns that count as a mention of the bot, as regular expressions.
    pub mention_patterns: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("worker id `{0}` names no channel account")]
    NoAccount(WorkerId),
    #[error("the configuration is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
}

impl Account {
    pub fn new(worker: &WorkerId, given: &WorkerConfig, secrets: &SecretMap) -> Result<Self, AccountError> {
        let (channel, id) = worker.account().ok_or_else(|| AccountError::NoAccount(worker.clone()))?;
        let config: Value = serde_json::from_str(&given.config_json)?;
        let section = config.get("channels").and_then(|all| all.get(channel)).cloned().unwrap_or(Value::Null);
        Ok(Self {
            channel: channel.to_owned(),
            id: id.to_owned(),
            section: merged(section, id),
            secrets: secrets.clone(),
            state_dir: PathBuf::from(&given.paths.state_dir),
            mention_patterns: mention_patterns(&config),
        })
    }
}

/// The channel's keys with those of the account over them.
pub fn merged(section: Value, account: &str) -> Value {
    let Value::Object(mut keys) = section else { return Value::Object(serde_json::Map::new()) };
    let own = keys.remove("accounts").and_then(|mut accounts| accounts.get_mut(account).map(Value::take));
    if let Some(Value::Object(own)) = own {
        keys.extend(own);
    }
    Value::Object(keys)
}

/// Which agent a message goes to is decided elsewhere, so the patterns of all count: an agent's own, else the
/// common ones, else its name and emoji.
fn mention_patterns(config: &Value) -> Vec<String> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let common = config.pointer("/messages/groupChat/mentionPatterns").map(strings);
    let mut patterns = Vec::new();
    for agent in ConfigView::from_value(config).agents.list {
        let own = agent.group_chat.mention_patterns.or_else(|| common.clone());
        patterns.extend(own.unwrap_or_else(|| {
            let name = agent.identity.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
            let emoji = agent.identity.emoji.as_deref().map(str::trim).filter(|emoji| !emoji.is_empty());
            let named = name.map(|name| format!(r"\b@?{}\b", regex::escape(name)));
            named.into_iter().chain(emoji.map(regex::escape)).collect()
        }));
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

#[cfg(test)]
mod tests {
    use super::{mention_patterns, merged};
    use serde_json::json;

    #[test]
    fn an_account_wins_over_its_channel() {
        let section = json!({"botToken": "a", "mediaMaxMb": 5, "accounts": {"work": {"botToken": "b"}}});
        assert_eq!(merged(section.clone(), "work"), json!({"botToken": "b", "mediaMaxMb": 5}));
        assert_eq!(merged(section, "default"), json!({"botToken": "a", "mediaMaxMb": 5}));
        assert_eq!(merged(json!(null), "default"), json!({}));
    }

    #[test]
    fn patterns_are_own_then_common_then_derived() {
        let agents = json!([{"id": "a", "groupChat": {"mentionPatterns": ["@a\\b"]}}, {"id": "b", "identity": {"name": "Bob+"}}]);
        assert_eq!(mention_patterns(&json!({"agents": {"list": agents}})), ["@a\\b", r"\b@?Bob\+\b"]);
        let common =
            json!({"agents": {"list": agents}, "messages": {"groupChat": {"mentionPatterns": ["bot"]}}});
        assert_eq!(mention_patterns(&common), ["@a\\b", "bot"]);
    }
}
