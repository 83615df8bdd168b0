//! The sections as written: everything optional, types strict, one struct per block. Keys of the original that do
//! nothing here yet are not named; the supervisor lists them.
//!
//! `x-class` is the blast radius of a change: `run` = the next run reads it, `worker` = the agent's worker starts again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `agents`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-class" = "run"))]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct Agents {
    /// For every agent that says nothing of its own.
    pub defaults: Option<Defaults>,
    /// The agents, in order.
    pub list: Option<Vec<AgentEntry>>,
    /// The same, keyed by id.
    pub entries: Option<BTreeMap<String, AgentEntry>>,
}

/// `agents.defaults`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct Defaults {
    pub model: Option<ModelWish>,
    pub image_model: Option<ModelWish>,
    /// Alias and parameters by `provider/model`; non-empty = the models that may be chosen.
    pub models: Option<BTreeMap<String, CatalogueEntry>>,
    pub workspace: Option<String>,
    /// Git root that the prompt names.
    pub repo_root: Option<String>,
    pub skip_bootstrap: Option<bool>,
    /// Cap of each workspace file in the prompt and, alone, of all of them. Characters.
    pub bootstrap_max_chars: Option<u64>,
    /// Cap of all workspace files in the prompt. Characters.
    pub bootstrap_total_max_chars: Option<u64>,
    /// IANA name; the host's zone when not set.
    pub user_timezone: Option<String>,
    /// Cap of a model's context window. Tokens.
    pub context_tokens: Option<u64>,
    pub thinking_default: Option<Thinking>,
    pub verbose_default: Option<Verbose>,
    /// Active time of one run. Seconds.
    pub timeout_seconds: Option<u64>,
    /// Runs of all agents at once.
    pub max_concurrent: Option<u32>,
    pub retry: Option<Retry>,
}

/// An agent of `agents.list`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct AgentEntry {
    pub id: Option<String>,
    pub default: Option<bool>,
    pub name: Option<String>,
    pub workspace: Option<String>,
    pub agent_dir: Option<String>,
    pub model: Option<ModelWish>,
    /// Skills that this agent may see; none when empty.
    pub skills: Option<Vec<String>>,
    pub identity: Option<IdentityEntry>,
    /// Model parameters, before those of the defaults.
    pub params: Option<serde_json::Map<String, Value>>,
}

/// `agents.list[].identity`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct IdentityEntry {
    pub name: Option<String>,
    pub theme: Option<String>,
    pub emoji: Option<String>,
    pub avatar: Option<String>,
}

/// `"provider/model"`, or the same with fallbacks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected \"provider/model\" or {primary, fallbacks}")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub enum ModelWish {
    One(String),
    Chain { primary: Option<String>, fallbacks: Option<Vec<String>> },
}

/// A model of `agents.defaults.models`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct CatalogueEntry {
    pub alias: Option<String>,
    pub params: Option<serde_json::Map<String, Value>>,
    pub streaming: Option<bool>,
}

/// Repeated requests to one model in one turn.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct Retry {
    /// Requests after the first.
    pub max_retries: Option<u32>,
    pub backoff: Option<Backoff>,
    pub min_delay_ms: Option<u64>,
    pub max_delay_ms: Option<u64>,
    /// Share of a delay that is random, 0 to 1.
    pub jitter: Option<f64>,
}

/// How the pause between two requests grows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    Exponential,
    Linear,
    Fixed,
    None,
}

/// How long a model thinks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    Off,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Adaptive,
}

/// How much of the tools a chat shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbose {
    Off,
    On,
    Full,
}

/// `models`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-class" = "run"))]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct ModelsConfig {
    pub mode: Option<ModelsMode>,
    pub providers: Option<BTreeMap<String, ProviderEntry>>,
}

/// Whether the built-in providers stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelsMode {
    Merge,
    Replace,
}

/// `models.providers.<id>`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct ProviderEntry {
    pub base_url: Option<String>,
    /// A key, the name of an environment variable, or a reference to a secret.
    #[schemars(extend("x-sensitive" = true))]
    pub api_key: Option<Value>,
    pub auth: Option<String>,
    pub api: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub headers: Option<BTreeMap<String, String>>,
    pub auth_header: Option<bool>,
    pub models: Option<Vec<ModelEntry>>,
}

/// `models.providers.<id>.models[]`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct ModelEntry {
    pub id: String,
    pub name: Option<String>,
    pub api: Option<String>,
    pub reasoning: Option<bool>,
    pub input: Option<Vec<String>>,
    pub context_window: Option<u64>,
    pub max_tokens: Option<u64>,
}

/// `skills`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-class" = "run"))]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct Skills {
    pub entries: Option<BTreeMap<String, SkillEntry>>,
    pub load: Option<SkillLoad>,
    pub limits: Option<SkillLimits>,
}

/// `skills.entries.<key>`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct SkillEntry {
    pub enabled: Option<bool>,
    #[schemars(extend("x-sensitive" = true))]
    pub api_key: Option<Value>,
    #[schemars(extend("x-sensitive" = true))]
    pub env: Option<BTreeMap<String, String>>,
}

/// `skills.load`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct SkillLoad {
    pub extra_dirs: Option<Vec<String>>,
}

/// `skills.limits`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read for its types only; runs read their own view")]
pub struct SkillLimits {
    pub max_candidates_per_root: Option<u32>,
    pub max_skills_loaded_per_source: Option<u32>,
    pub max_skills_in_prompt: Option<u32>,
    pub max_skills_prompt_chars: Option<u32>,
    pub max_skill_file_bytes: Option<u64>,
}
