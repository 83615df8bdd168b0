//! What a conversation is made of: user, assistant and tool-result messages, in the shape in which the
//! transcript stores them. Not here: the tree around them (`entry`), and what a vendor wants to see (`provider`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message of a conversation. `role` is the tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "camelCase")]
pub enum Message {
    User(UserMessage),
    Assistant(AssistantMessage),
    ToolResult(ToolResultMessage),
}

/// What a person (or the system in their place) said. `timestamp` is Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserMessage {
    pub content: Content,
    #[serde(default)]
    pub timestamp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Value>,
    /// `<runId>:user`: lets a client match its optimistic bubble with the stored one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// One answer of a model, or of us in its place (`provider: "openclaw"`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssistantMessage {
    #[serde(default)]
    pub content: Content,
    #[serde(default)]
    pub api: String,
    #[serde(default)]
    pub provider: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub stop_reason: StopReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(default)]
    pub timestamp: i64,
    /// `{aborted, origin, runId}` on the partial text of a run that was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openclaw_abort: Option<Value>,
    /// `<runId>:assistant` on texts that we appended in place of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The answer of a tool to one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResultMessage {
    pub tool_call_id: String,
    #[serde(default)]
    pub tool_name: String,
    #[serde(default)]
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    #[serde(default)]
    pub is_error: bool,
    #[serde(default)]
    pub timestamp: i64,
}

/// A plain string (user text only, by custom) or a list of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Blocks(Vec::new())
    }
}

/// A piece of a message. A block of a kind that we do not know is carried as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Block {
    Text {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text_signature: Option<String>,
    },
    Thinking {
        thinking: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking_signature: Option<String>,
    },
    /// `data` is base64.
    Image { data: String, mime_type: String },
    ToolCall {
        id: String,
        name: String,
        #[serde(default)]
        arguments: Map<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thought_signature: Option<String>,
    },
    #[serde(untagged)]
    Other(Value),
}

impl Block {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), text_signature: None }
    }

    pub fn thinking(text: impl Into<String>, signature: Option<String>) -> Self {
        Self::Thinking { thinking: text.into(), thinking_signature: signature }
    }
}

/// A call as the run loop looks at it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    #[default]
    Stop,
    Length,
    ToolUse,
    Error,
    Aborted,
}

/// Tokens of one model call, and their price in US dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub total_tokens: u64,
    pub cost: Cost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cost {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
    pub total: f64,
}

impl Usage {
    /// Tokens of the prompt: what the context held when the model was called.
    pub fn prompt_tokens(&self) -> u64 {
        self.input + self.cache_read + self.cache_write
    }

    /// The sum of two calls of one run.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
            cost: Cost {
                input: self.cost.input + other.cost.input,
                output: self.cost.output + other.cost.output,
                cache_read: self.cost.cache_read + other.cost.cache_read,
                cache_write: self.cost.cache_write + other.cost.cache_write,
                total: self.cost.total + other.cost.total,
            },
        }
    }
}

impl Content {
    /// The visible text: text blocks joined without anything between them.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Blocks(blocks) => blocks
                .iter()
                .filter_map(|block| match block {
                    Block::Text { text, .. } => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }

    pub fn blocks(&self) -> &[Block] {
        match self {
            Self::Text(_) => &[],
            Self::Blocks(blocks) => blocks,
        }
    }
}

impl Message {
    pub fn user(text: impl Into<String>, timestamp: i64) -> Self {
        Self::User(UserMessage {
            content: Content::Text(text.into()),
            timestamp,
            provenance: None,
            idempotency_key: None,
        })
    }

    pub fn timestamp(&self) -> i64 {
        match self {
            Self::User(user) => user.timestamp,
            Self::Assistant(assistant) => assistant.timestamp,
            Self::ToolResult(result) => result.timestamp,
        }
    }

    pub fn content(&self) -> &Content {
        match self {
            Self::User(user) => &user.content,
            Self::Assistant(assistant) => &assistant.content,
            Self::ToolResult(result) => &result.content,
        }
    }
}

impl AssistantMessage {
    /// A text of ours that stands where a model's answer would (command replies, injected notes, error lines).
    pub fn ours(text: impl Into<String>, timestamp: i64) -> Self {
        Self {
            content: Content::Blocks(vec![Block::text(text)]),
            api: "openai-responses".into(),
            provider: "openclaw".into(),
            model: "gateway-injected".into(),
            usage: Usage::default(),
            stop_reason: StopReason::Stop,
            error_message: None,
            timestamp,
            openclaw_abort: None,
            idempotency_key: None,
        }
    }

    pub fn tool_calls(&self) -> Vec<ToolCall> {
        self.content
            .blocks()
            .iter()
            .filter_map(|block| match block {
                Block::ToolCall { id, name, arguments, .. } => {
                    Some(ToolCall { id: id.clone(), name: name.clone(), arguments: arguments.clone() })
                }
                _ => None,
            })
            .collect()
    }
}

impl ToolResultMessage {
    pub fn text(call_id: &str, tool: &str, text: impl Into<String>, is_error: bool, timestamp: i64) -> Self {
        Self {
            tool_call_id: call_id.to_owned(),
            tool_name: tool.to_owned(),
            content: Content::Blocks(vec![Block::text(text)]),
            details: None,
            is_error,
            timestamp,
        }
    }
}
