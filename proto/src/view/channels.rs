//! `channels.<id>`: the accounts of a channel and who may talk to each.

use super::lenient;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The account that keys outside of `accounts` describe.
pub const DEFAULT_ACCOUNT_ID: &str = "default";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelView {
    pub enabled: bool,
    /// Every account with the channel's own keys filled in; never empty.
    pub accounts: BTreeMap<String, AccountView>,
    /// The account used when none is named.
    pub default_account: String,
}

/// One account as meant: its own keys over those of the channel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccountView {
    #[serde(deserialize_with = "enabled")]
    pub enabled: bool,
    #[serde(deserialize_with = "lenient::field")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub dm_policy: DmPolicy,
    #[serde(deserialize_with = "lenient::strings")]
    pub allow_from: Vec<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub group_policy: Option<GroupPolicy>,
    /// Absent: `allow_from` decides in groups too.
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub group_allow_from: Option<Vec<String>>,
    /// By chat id, `*` for all others.
    #[serde(deserialize_with = "lenient::map")]
    pub groups: BTreeMap<String, GroupView>,
    #[serde(deserialize_with = "lenient::field")]
    pub history_limit: Option<u32>,
    #[serde(deserialize_with = "lenient::field")]
    pub dm_history_limit: Option<u32>,
    #[serde(deserialize_with = "lenient::field")]
    pub config_writes: Option<bool>,
    #[serde(deserialize_with = "lenient::field")]
    pub response_prefix: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub ack_reaction: Option<String>,
}

impl Default for AccountView {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            dm_policy: DmPolicy::default(),
            allow_from: Vec::new(),
            group_policy: None,
            group_allow_from: None,
            groups: BTreeMap::new(),
            history_limit: None,
            dm_history_limit: None,
            config_writes: None,
            response_prefix: None,
            ack_reaction: None,
        }
    }
}

impl AccountView {
    /// Groups are closed unless the file opens them.
    #[must_use]
    pub fn group_policy(&self) -> GroupPolicy {
        self.group_policy.unwrap_or_default()
    }

    /// The rules of a chat: its own row, else `*`.
    #[must_use]
    pub fn group(&self, chat_id: &str) -> Option<&GroupView> {
        self.groups.get(chat_id).or_else(|| self.groups.get("*"))
    }

    /// A bot speaks in a group only when addressed, unless the chat says otherwise.
    #[must_use]
    pub fn require_mention(&self, chat_id: &str, topic_id: Option<&str>) -> bool {
        let every = self.groups.get("*");
        let own = self.groups.get(chat_id);
        let topic =
            |group: &GroupView| topic_id.and_then(|id| group.topics.get(id)).and_then(|t| t.require_mention);
        own.and_then(topic)
            .or(own.and_then(|group| group.require_mention))
            .or(every.and_then(topic))
            .or(every.and_then(|group| group.require_mention))
            .unwrap_or(true)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DmPolicy {
    #[default]
    Pairing,
    Allowlist,
    Open,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupPolicy {
    Open,
    #[default]
    Allowlist,
    Disabled,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupView {
    #[serde(deserialize_with = "enabled")]
    pub enabled: bool,
    #[serde(deserialize_with = "lenient::field")]
    pub require_mention: Option<bool>,
    #[serde(deserialize_with = "lenient::field")]
    pub group_policy: Option<GroupPolicy>,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub allow_from: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub skills: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::field")]
    pub system_prompt: Option<String>,
    #[serde(deserialize_with = "lenient::map")]
    pub topics: BTreeMap<String, TopicView>,
}

impl Default for GroupView {
    fn default() -> Self {
        Self {
            enabled: true,
            require_mention: None,
            group_policy: None,
            allow_from: None,
            skills: None,
            system_prompt: None,
            topics: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicView {
    #[serde(deserialize_with = "enabled")]
    pub enabled: bool,
    #[serde(deserialize_with = "lenient::field")]
    pub require_mention: Option<bool>,
    #[serde(deserialize_with = "lenient::field")]
    pub group_policy: Option<GroupPolicy>,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub allow_from: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::field")]
    pub agent_id: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub system_prompt: Option<String>,
}

impl Default for TopicView {
    fn default() -> Self {
        Self {
            enabled: true,
            require_mention: None,
            group_policy: None,
            allow_from: None,
            agent_id: None,
            system_prompt: None,
        }
    }
}

fn enabled<'de, D: serde::Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(input)?.as_bool().unwrap_or(true))
}

impl ChannelView {
    pub(super) fn from_value(channel: &Value, defaults: Option<&Value>) -> Self {
        let empty = Map::new();
        let own = channel.as_object().unwrap_or(&empty);
        let mut base = Map::new();
        if let Some(policy) = defaults.and_then(|all| all.get("groupPolicy")) {
            base.insert("groupPolicy".to_owned(), policy.clone());
        }
        base.extend(own.iter().filter(|(key, _)| *key != "accounts").map(|(k, v)| (k.clone(), v.clone())));
        let named = own.get("accounts").and_then(Value::as_object).filter(|all| !all.is_empty());
        let mut accounts: BTreeMap<String, AccountView> = named
            .into_iter()
            .flatten()
            .map(|(id, account)| (id.trim().to_ascii_lowercase(), account_over(&base, account)))
            .collect();
        if accounts.is_empty() {
            accounts.insert(DEFAULT_ACCOUNT_ID.to_owned(), account_over(&base, &Value::Null));
        }
        let wanted =
            own.get("defaultAccount").and_then(lenient::string_of).filter(|id| accounts.contains_key(id));
        let fallback = || {
            let first = accounts.keys().next().cloned().unwrap_or_default();
            if accounts.contains_key(DEFAULT_ACCOUNT_ID) { DEFAULT_ACCOUNT_ID.to_owned() } else { first }
        };
        let default_account = wanted.unwrap_or_else(fallback);
        Self {
            enabled: own.get("enabled").and_then(Value::as_bool).unwrap_or(true),
            accounts,
            default_account,
        }
    }

    /// Accounts that should have a worker.
    pub fn active(&self) -> impl Iterator<Item = (&str, &AccountView)> {
        let on = self.enabled;
        self.accounts
            .iter()
            .filter(move |(_, account)| on && account.enabled)
            .map(|(id, view)| (id.as_str(), view))
    }
}

fn account_over(base: &Map<String, Value>, account: &Value) -> AccountView {
    let mut merged = base.clone();
    for (key, value) in account.as_object().into_iter().flatten() {
        merged.insert(key.clone(), value.clone());
    }
    lenient::read(Value::Object(merged))
}
