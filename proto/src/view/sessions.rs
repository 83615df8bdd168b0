//! `session`, `messages`, `commands`, `cron`, `hooks`: how messages become sessions and queues.

use super::lenient;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionScope {
    #[default]
    PerSender,
    Global,
}

/// How direct messages share a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmScope {
    #[default]
    Main,
    PerPeer,
    PerChannelPeer,
    PerAccountChannelPeer,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionView {
    #[serde(deserialize_with = "lenient::field")]
    pub scope: SessionScope,
    #[serde(deserialize_with = "lenient::field")]
    pub dm_scope: DmScope,
    /// One person's ids by a name of choice: `alice: ["telegram:123", "whatsapp:+49…"]`.
    #[serde(deserialize_with = "lenient::map")]
    pub identity_links: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "lenient::field")]
    pub reset: Option<ResetView>,
    /// By `direct`, `group`, `thread`.
    #[serde(deserialize_with = "lenient::map")]
    pub reset_by_type: BTreeMap<String, ResetView>,
    #[serde(deserialize_with = "lenient::map")]
    pub reset_by_channel: BTreeMap<String, ResetView>,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub reset_triggers: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::field")]
    pub idle_minutes: Option<u32>,
    /// Path of `sessions.json`, with `{agentId}`; absent means the usual place.
    #[serde(deserialize_with = "lenient::field")]
    pub store: Option<String>,
}

impl SessionView {
    /// Always `main`: the key of the file is accepted and ignored, as in the original.
    #[must_use]
    pub fn main_key(&self) -> &'static str {
        "main"
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetView {
    #[serde(deserialize_with = "lenient::field")]
    pub mode: Option<ResetMode>,
    /// Hour of the day, 0 to 23, local time of the agent.
    #[serde(deserialize_with = "lenient::field")]
    pub at_hour: Option<u8>,
    #[serde(deserialize_with = "lenient::field")]
    pub idle_minutes: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetMode {
    Daily,
    Idle,
    None,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessagesView {
    #[serde(deserialize_with = "lenient::field")]
    pub queue: QueueView,
    #[serde(deserialize_with = "lenient::field")]
    pub inbound: InboundView,
    #[serde(deserialize_with = "lenient::field")]
    pub response_prefix: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub ack_reaction: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub group_chat: super::agents::GroupChat,
}

/// What happens to a message for a session that is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueMode {
    #[default]
    #[serde(alias = "coalesce")]
    Collect,
    #[serde(alias = "queue", alias = "queued", alias = "steering")]
    Steer,
    #[serde(alias = "follow-up", alias = "follow-ups", alias = "followups")]
    Followup,
    #[serde(alias = "steer+backlog", alias = "steer_backlog")]
    SteerBacklog,
    #[serde(alias = "interrupts", alias = "abort")]
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPolicy {
    #[default]
    Summarize,
    Old,
    New,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueView {
    #[serde(deserialize_with = "lenient::field")]
    pub mode: QueueMode,
    #[serde(deserialize_with = "lenient::map")]
    pub by_channel: BTreeMap<String, QueueMode>,
    pub debounce_ms: u64,
    #[serde(deserialize_with = "lenient::map")]
    pub debounce_ms_by_channel: BTreeMap<String, u64>,
    /// Messages that may wait for one session.
    pub cap: u32,
    #[serde(deserialize_with = "lenient::field")]
    pub drop: DropPolicy,
}

impl Default for QueueView {
    fn default() -> Self {
        Self {
            mode: QueueMode::default(),
            by_channel: BTreeMap::new(),
            debounce_ms: 1_000,
            debounce_ms_by_channel: BTreeMap::new(),
            cap: 20,
            drop: DropPolicy::default(),
        }
    }
}

impl QueueView {
    #[must_use]
    pub fn mode_for(&self, channel: &str) -> QueueMode {
        self.by_channel.get(channel).copied().unwrap_or(self.mode)
    }

    #[must_use]
    pub fn debounce_ms_for(&self, channel: &str) -> u64 {
        self.debounce_ms_by_channel.get(channel).copied().unwrap_or(self.debounce_ms)
    }
}

/// `messages.inbound`: quick messages of one sender are joined before they count as one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundView {
    #[serde(deserialize_with = "lenient::field")]
    pub debounce_ms: u64,
    #[serde(deserialize_with = "lenient::map")]
    pub by_channel: BTreeMap<String, u64>,
}

impl InboundView {
    #[must_use]
    pub fn debounce_ms_for(&self, channel: &str) -> u64 {
        self.by_channel.get(channel).copied().unwrap_or(self.debounce_ms)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandsView {
    /// Whether a signal or a chat command may restart the gateway.
    pub restart: bool,
    pub text: bool,
    pub bash: bool,
    pub config: bool,
    pub debug: bool,
    pub use_access_groups: bool,
    #[serde(deserialize_with = "lenient::map")]
    pub allow_from: BTreeMap<String, Vec<serde_json::Value>>,
    #[serde(deserialize_with = "lenient::strings")]
    pub owner_allow_from: Vec<String>,
}

impl Default for CommandsView {
    fn default() -> Self {
        Self {
            restart: true,
            text: true,
            bash: false,
            config: false,
            debug: false,
            use_access_groups: true,
            allow_from: BTreeMap::new(),
            owner_allow_from: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronView {
    pub enabled: bool,
    #[serde(deserialize_with = "lenient::field")]
    pub store: Option<String>,
    pub max_concurrent_runs: u32,
}

impl Default for CronView {
    fn default() -> Self {
        Self { enabled: true, store: None, max_concurrent_runs: 1 }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HooksView {
    pub enabled: bool,
    pub path: String,
    pub max_body_bytes: u64,
    #[serde(deserialize_with = "lenient::field")]
    pub default_session_key: Option<String>,
    pub allow_request_session_key: bool,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub allowed_session_key_prefixes: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub allowed_agent_ids: Option<Vec<String>>,
}

impl Default for HooksView {
    fn default() -> Self {
        Self {
            enabled: false,
            path: "/hooks".to_owned(),
            max_body_bytes: 262_144,
            default_session_key: None,
            allow_request_session_key: false,
            allowed_session_key_prefixes: None,
            allowed_agent_ids: None,
        }
    }
}
