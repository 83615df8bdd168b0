//! Lenient views of configuration sections for processes that do not own them: what the supervisor must know of an
//! agent or a channel account to route, queue and start it. A value (or section) of the wrong type reads as absent, as the
//! owner of the section has refused it already.
//!
//! Not here: validation, defaults that only the owner needs, and anything secret.

mod agents;
mod channels;
mod lenient;
mod sessions;

pub use agents::{
    AgentView, AgentsView, GroupChat, IMPLICIT_AGENT_ID, Identity, ModelChoice, RetryView, normalize_agent_id,
};
pub use channels::{
    AccountView, ChannelView, DEFAULT_ACCOUNT_ID, DmPolicy, GroupPolicy, GroupView, TopicView,
};
pub use sessions::{
    CommandsView, CronView, DmScope, DropPolicy, HooksView, InboundView, MessagesView, QueueMode, QueueView,
    ResetMode, ResetView, SessionScope, SessionView,
};

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What stands for a secret wherever the configuration is shown (`config.get`, and the sections that a worker's program is
/// asked to check). Written back, it means "keep the old value".
pub const HIDDEN_SECRET: &str = "__OPENCLAW_REDACTED__";

/// Everything that the supervisor needs of sections that workers own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigView {
    pub agents: AgentsView,
    pub bindings: Vec<BindingView>,
    pub session: SessionView,
    pub messages: MessagesView,
    /// By channel id, only those that the file names (`defaults` and `modelByChannel` are not channels).
    pub channels: BTreeMap<String, ChannelView>,
    pub commands: CommandsView,
    pub cron: CronView,
    pub hooks: HooksView,
}

impl ConfigView {
    /// Reads the resolved configuration (includes and `${NAME}` applied).
    #[must_use]
    pub fn from_value(config: &Value) -> Self {
        let section = |name: &str| config.get(name).cloned().unwrap_or(Value::Null);
        let channels = config.get("channels").and_then(Value::as_object);
        Self {
            agents: AgentsView::from_value(&section("agents")),
            bindings: lenient::items(&section("bindings")),
            session: lenient::read(section("session")),
            messages: lenient::read(section("messages")),
            channels: channels
                .into_iter()
                .flatten()
                .filter(|(id, value)| {
                    !["defaults", "modelByChannel"].contains(&id.as_str()) && value.is_object()
                })
                .map(|(id, value)| {
                    let defaults = channels.and_then(|all| all.get("defaults"));
                    (id.clone(), ChannelView::from_value(value, defaults))
                })
                .collect(),
            commands: lenient::read(section("commands")),
            cron: lenient::read(section("cron")),
            hooks: lenient::read(section("hooks")),
        }
    }
}

/// One row of `bindings`: which agent takes what arrives where. The first match of the most exact tier wins.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingView {
    #[serde(deserialize_with = "lenient::field")]
    pub agent_id: String,
    #[serde(rename = "match", deserialize_with = "lenient::field")]
    pub matches: BindingMatch,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingMatch {
    #[serde(deserialize_with = "lenient::field")]
    pub channel: String,
    /// `*` means any account; absent means the default account.
    #[serde(deserialize_with = "lenient::field")]
    pub account_id: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub peer: Option<BindingPeer>,
    #[serde(deserialize_with = "lenient::field")]
    pub guild_id: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub team_id: Option<String>,
    #[serde(deserialize_with = "lenient::strings")]
    pub roles: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BindingPeer {
    #[serde(deserialize_with = "lenient::field")]
    pub kind: PeerKind,
    #[serde(deserialize_with = "lenient::text")]
    pub id: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    #[default]
    #[serde(alias = "dm")]
    Direct,
    Group,
    Channel,
}

#[cfg(test)]
mod tests;
