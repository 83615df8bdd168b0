//! `agents`: who exists, which one is the default, where it works, with which model.

use super::lenient;
use serde::Deserialize;
use serde_json::Value;

/// Runs of all agents at once (`agents.defaults.maxConcurrent`).
const MAX_CONCURRENT_DEFAULT: u32 = 4;
/// Active time of one run (`agents.defaults.timeoutSeconds`).
const TIMEOUT_SECONDS_DEFAULT: u64 = 600;
/// Longest agent id; longer ones are cut, as the original does.
const AGENT_ID_CHARS_MAX: usize = 64;
/// The agent that exists when the file lists none.
pub const IMPLICIT_AGENT_ID: &str = "main";

#[derive(Clone, Debug, PartialEq)]
pub struct AgentsView {
    /// In file order; never empty: an empty list means the one implicit agent.
    pub list: Vec<AgentView>,
    pub model: ModelChoice,
    pub workspace: Option<String>,
    pub skip_bootstrap: bool,
    pub max_concurrent: u32,
    pub timeout_seconds: u64,
    pub retry: RetryView,
    pub user_timezone: Option<String>,
}

impl Default for AgentsView {
    fn default() -> Self {
        Self::from_value(&Value::Null)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentView {
    /// Normalised: lower case, `[a-z0-9][a-z0-9_-]{0,63}`.
    #[serde(deserialize_with = "lenient::text")]
    pub id: String,
    #[serde(deserialize_with = "lenient::field")]
    pub default: bool,
    #[serde(deserialize_with = "lenient::field")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub workspace: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub agent_dir: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub model: ModelChoice,
    #[serde(deserialize_with = "lenient::field")]
    pub identity: Identity,
    #[serde(deserialize_with = "lenient::field")]
    pub group_chat: GroupChat,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupChat {
    #[serde(deserialize_with = "lenient::strings_or_absent")]
    pub mention_patterns: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient::field")]
    pub history_limit: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    #[serde(deserialize_with = "lenient::field")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub theme: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub emoji: Option<String>,
    #[serde(deserialize_with = "lenient::field")]
    pub avatar: Option<String>,
}

/// `model`: a `provider/model` text, or `{primary, fallbacks[]}`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub struct ModelChoice {
    pub primary: Option<String>,
    pub fallbacks: Vec<String>,
}

impl From<Value> for ModelChoice {
    fn from(value: Value) -> Self {
        if let Value::String(primary) = &value {
            return Self {
                primary: Some(primary.clone()).filter(|text| !text.trim().is_empty()),
                fallbacks: vec![],
            };
        }
        let primary = value.get("primary").and_then(Value::as_str).map(str::to_owned);
        let fallbacks = value.get("fallbacks").and_then(Value::as_array);
        Self {
            primary: primary.filter(|text| !text.trim().is_empty()),
            fallbacks: fallbacks.into_iter().flatten().filter_map(lenient::string_of).collect(),
        }
    }
}

/// `agents.defaults.retry`: one budget for every repeated request to one model in one turn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryView {
    pub max_retries: u32,
    pub backoff: String,
    pub min_delay_ms: u64,
    pub max_delay_ms: u64,
    /// Share of the delay that is random, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryView {
    fn default() -> Self {
        Self {
            max_retries: 3,
            backoff: "exponential".to_owned(),
            min_delay_ms: 2_000,
            max_delay_ms: 60_000,
            jitter: 0.2,
        }
    }
}

impl AgentsView {
    pub(super) fn from_value(agents: &Value) -> Self {
        let defaults = agents.get("defaults").cloned().unwrap_or(Value::Null);
        let number = |key: &str| defaults.get(key).and_then(Value::as_u64).filter(|value| *value > 0);
        Self {
            list: agent_list(agents),
            model: defaults.get("model").cloned().map(ModelChoice::from).unwrap_or_default(),
            workspace: defaults.get("workspace").and_then(lenient::string_of).filter(|path| !path.is_empty()),
            skip_bootstrap: defaults.get("skipBootstrap").and_then(Value::as_bool).unwrap_or(false),
            max_concurrent: number("maxConcurrent")
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(MAX_CONCURRENT_DEFAULT),
            timeout_seconds: number("timeoutSeconds").unwrap_or(TIMEOUT_SECONDS_DEFAULT),
            retry: defaults.get("retry").cloned().map(lenient::read).unwrap_or_default(),
            user_timezone: defaults.get("userTimezone").and_then(lenient::string_of),
        }
    }

    /// The first with `default: true`, else the first, else the implicit one.
    #[must_use]
    pub fn default_id(&self) -> &str {
        let marked = self.list.iter().find(|agent| agent.default).or(self.list.first());
        marked.map_or(IMPLICIT_AGENT_ID, |agent| agent.id.as_str())
    }

    #[must_use]
    pub fn get(&self, agent_id: &str) -> Option<&AgentView> {
        self.list.iter().find(|agent| agent.id == agent_id)
    }

    #[must_use]
    pub fn contains(&self, agent_id: &str) -> bool {
        self.get(agent_id).is_some()
    }

    /// The agent's own model, else the default; fallbacks come from the same place as the primary.
    #[must_use]
    pub fn model_of(&self, agent_id: &str) -> &ModelChoice {
        self.get(agent_id)
            .map(|agent| &agent.model)
            .filter(|model| model.primary.is_some())
            .unwrap_or(&self.model)
    }

    /// As written or by rule; `~` and relative paths are not expanded here. The default agent works in
    /// `<state>/workspace`, the others in `<state>/workspace-<id>`.
    #[must_use]
    pub fn workspace_of(&self, agent_id: &str, state_dir: &str) -> String {
        if let Some(own) = self.get(agent_id).and_then(|agent| agent.workspace.clone()) {
            return own;
        }
        if agent_id != self.default_id() {
            return format!("{state_dir}/workspace-{agent_id}");
        }
        self.workspace.clone().unwrap_or_else(|| format!("{state_dir}/workspace"))
    }
}

/// `agents.list` of the February release, or `agents.entries` (a map by id) of the later one.
fn agent_list(agents: &Value) -> Vec<AgentView> {
    let mut list: Vec<AgentView> = lenient::items(agents.get("list").unwrap_or(&Value::Null));
    if let (true, Some(entries)) = (list.is_empty(), agents.get("entries").and_then(Value::as_object)) {
        list = entries
            .iter()
            .filter_map(|(id, entry)| {
                let agent: AgentView = serde_json::from_value(entry.clone()).ok()?;
                Some(AgentView { id: id.clone(), ..agent })
            })
            .collect();
    }
    for agent in &mut list {
        agent.id = normalize_agent_id(&agent.id);
    }
    if list.is_empty() {
        list.push(AgentView { id: IMPLICIT_AGENT_ID.to_owned(), ..AgentView::default() });
    }
    list
}

/// Lower case; what is not `[a-z0-9_-]` becomes `-`; no dash at either end; at most 64 characters; empty is `main`.
#[must_use]
pub fn normalize_agent_id(id: &str) -> String {
    let lower = id.trim().to_ascii_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-' { c } else { '-' })
        .collect();
    let trimmed: String = mapped.trim_matches('-').chars().take(AGENT_ID_CHARS_MAX).collect();
    if trimmed.is_empty() { IMPLICIT_AGENT_ID.to_owned() } else { trimmed }
}
