//! What is known of one model and of the server that has it. Plain data, filled by `catalog` and the config.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::types::{Cost, Usage};

/// Context window that is assumed for a model nobody described.
pub const CONTEXT_WINDOW_DEFAULT: u32 = 200_000;
/// Reply bound that is assumed for a model nobody described.
pub const MAX_TOKENS_DEFAULT: u32 = 8192;
/// Largest reply that is asked for without an explicit wish: larger ones are mostly runaway loops.
pub const REPLY_TOKENS_MAX: u32 = 32_000;

/// Kinds of input that a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    Text,
    Image,
}

/// Price in US dollars per million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}

/// Most tokens that one answer can claim: a server may send any number, and sums of this one never overflow.
const TOKENS_MAX: u64 = 1_000_000_000_000;

impl Price {
    /// The usage with its cost filled in.
    pub fn priced(&self, mut usage: Usage) -> Usage {
        let counts = [&mut usage.input, &mut usage.output, &mut usage.cache_read, &mut usage.cache_write];
        for count in counts.into_iter().chain([&mut usage.total_tokens]) {
            *count = (*count).min(TOKENS_MAX);
        }
        let part = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        let mut cost = Cost {
            input: part(usage.input, self.input),
            output: part(usage.output, self.output),
            cache_read: part(usage.cache_read, self.cache_read),
            cache_write: part(usage.cache_write, self.cache_write),
            total: 0.0,
        };
        cost.total = cost.input + cost.output + cost.cache_read + cost.cache_write;
        usage.cost = cost;
        if usage.total_tokens == 0 {
            usage.total_tokens = usage.prompt().saturating_add(usage.output);
        }
        usage
    }
}

/// Ways in which servers that claim one api differ. Unset fields are guessed from provider and URL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compat {
    pub supports_store: Option<bool>,
    pub supports_developer_role: Option<bool>,
    pub supports_reasoning_effort: Option<bool>,
    pub supports_usage_in_streaming: Option<bool>,
    pub supports_strict_mode: Option<bool>,
    /// `max_tokens` or `max_completion_tokens`.
    pub max_tokens_field: Option<String>,
    /// `openai`, `openrouter`, `zai` or `qwen`.
    pub thinking_format: Option<String>,
    pub requires_tool_result_name: Option<bool>,
    pub requires_assistant_after_tool_result: Option<bool>,
    pub requires_thinking_as_text: Option<bool>,
    pub requires_mistral_tool_ids: Option<bool>,
}

/// One model as the turn sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Lower case, as in references.
    pub provider: String,
    /// The vendor's id; may hold slashes.
    pub id: String,
    pub name: String,
    /// Api kind.
    pub api: String,
    pub reasoning: bool,
    pub input: Vec<Input>,
    pub price: Price,
    /// Tokens.
    pub context_window: u32,
    /// Bound of a reply in tokens.
    pub max_tokens: u32,
    pub headers: BTreeMap<String, String>,
    pub compat: Compat,
}

impl Model {
    /// A model that nobody described: text only, no reasoning, cautious sizes.
    pub fn unknown(provider: &str, id: &str, api: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            id: id.to_owned(),
            name: id.to_owned(),
            api: api.to_owned(),
            reasoning: false,
            input: vec![Input::Text],
            price: Price::default(),
            context_window: CONTEXT_WINDOW_DEFAULT,
            max_tokens: MAX_TOKENS_DEFAULT,
            headers: BTreeMap::new(),
            compat: Compat::default(),
        }
    }

    /// `provider/id`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }

    pub fn reads_images(&self) -> bool {
        self.input.contains(&Input::Image)
    }

    /// The reply bound of a call: what was asked for, else the model's own within reason.
    pub fn reply_tokens(&self, asked: Option<u32>) -> u32 {
        asked.unwrap_or_else(|| self.max_tokens.min(REPLY_TOKENS_MAX)).max(1)
    }
}

/// A key or token. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one header it goes into.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How long each phase of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    pub connect: Duration,
    /// From the request's last byte to the answer's headers.
    pub header: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
}

/// A TCP and TLS handshake takes three round trips: 10 s is far beyond any path that is worth waiting for.
const CONNECT_S_MAX: u64 = 10;
/// Vendors answer with headers once the prompt is accepted; a minute covers their queues at busy hours.
const HEADER_S_MAX: u64 = 60;
/// Vendors send pings or pieces of thought at least every 15 to 30 s; models that think in silence pause longer.
const IDLE_S_MAX: u64 = 120;
/// A local server loads the weights and reads the whole prompt before its first byte: minutes on a small machine.
const LOCAL_WAIT_S_MAX: u64 = 300;

impl Deadlines {
    /// The limits for a server at this address: patient ones when it is on this machine or in a private network.
    pub fn for_url(base_url: &str) -> Self {
        let local = super::http::is_local(base_url);
        let pick = |remote| Duration::from_secs(if local { LOCAL_WAIT_S_MAX } else { remote });
        Self {
            connect: Duration::from_secs(CONNECT_S_MAX),
            header: pick(HEADER_S_MAX),
            idle: pick(IDLE_S_MAX),
        }
    }
}

/// Where and how a model's server is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Without a trailing slash.
    pub base_url: String,
    pub key: Option<Secret>,
    /// The key is an OAuth or set-up token, which some vendors want in another header.
    pub bearer: bool,
    /// Provider's and model's headers of the config.
    pub headers: BTreeMap<String, String>,
    pub deadlines: Deadlines,
}
