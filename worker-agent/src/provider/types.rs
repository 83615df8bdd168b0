//! What a turn says to a model and hears from it: messages, tools, thinking levels, events, usage.
//! The message types have the shape of a transcript's `message` entries, so that a turn reads them from
//! there and writes them back without a conversion. Not here: any vendor's wire format (one file per api
//! kind) and the classes of errors (`failure`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

use super::failure::Reason;

/// One piece of a message. Field names are those of the transcript format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Block {
    #[serde(rename_all = "camelCase")]
    Text {
        text: String,
        /// Opaque mark of the vendor over this text; sent back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text_signature: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Thinking {
        thinking: String,
        /// Anthropic's signature (or the whole redacted payload), Google's, OpenAI's whole reasoning item as JSON
        /// text, or the name of the field that an OpenAI-compatible vendor used; needed to send the thought back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking_signature: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Image {
        /// Standard base64, no data-URL prefix.
        data: String,
        mime_type: String,
    },
    #[serde(rename_all = "camelCase")]
    ToolCall {
        id: String,
        name: String,
        arguments: Value,
        /// Encrypted reasoning that belongs to this call: `reasoning_details` as JSON text, or Google's signature.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thought_signature: Option<String>,
    },
}

impl Block {
    pub fn text(text: impl Into<String>) -> Self {
        Block::Text { text: text.into(), text_signature: None }
    }
}

/// A user's content is a plain string in most transcripts and a list of blocks when images came with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

impl Default for Content {
    fn default() -> Self {
        Content::Text(String::new())
    }
}

impl Content {
    /// The blocks, with a plain string as one text block.
    pub fn blocks(&self) -> Vec<Block> {
        match self {
            Content::Text(text) => vec![Block::text(text.clone())],
            Content::Blocks(blocks) => blocks.clone(),
        }
    }

    /// All text blocks joined by newlines.
    pub fn text(&self) -> String {
        match self {
            Content::Text(text) => text.clone(),
            Content::Blocks(blocks) => joined_text(blocks),
        }
    }
}

/// All text blocks of a list joined by newlines.
pub fn joined_text(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        if let Block::Text { text, .. } = block {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(text);
        }
    }
    out
}

/// One message of a conversation; `timestamp` is Unix milliseconds everywhere. Unknown fields of a
/// transcript line (`provenance`, …) are ignored here: the transcript itself keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "camelCase")]
pub enum Message {
    User(UserMessage),
    Assistant(AssistantMessage),
    ToolResult(ToolResultMessage),
}

impl Message {
    /// A user message of plain text.
    #[cfg(test)]
    pub fn user(text: impl Into<String>) -> Self {
        Message::User(UserMessage { content: Content::Text(text.into()), timestamp: 0 })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserMessage {
    pub content: Content,
    pub timestamp: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AssistantMessage {
    pub content: Vec<Block>,
    /// Api kind that made it (`anthropic-messages`, …): signatures are only sent back to the same one.
    pub api: String,
    pub provider: String,
    pub model: String,
    pub usage: Usage,
    pub stop_reason: StopReason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    pub timestamp: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolResultMessage {
    pub tool_call_id: String,
    pub tool_name: String,
    pub content: Vec<Block>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    pub is_error: bool,
    pub timestamp: u64,
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON schema of the arguments; an object schema.
    pub parameters: Value,
}

/// How a reply ended, in the words of the transcript.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub input: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub total_tokens: u64,
    pub cost: Cost,
}

impl Usage {
    /// Tokens that the prompt took in the context window.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

/// US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cost {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
    pub total: f64,
}

/// Everything about one model call that does not depend on who serves it.
#[derive(Debug, Clone, Default)]
pub struct ModelRequest {
    pub system: String,
    pub messages: Vec<Message>,
    pub tools: Vec<ToolSpec>,
    pub thinking: super::thinking::ThinkingLevel,
    /// Bound of the reply in tokens; the model's own when not given.
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    /// Stable per session: lets vendors route to a warm prompt cache.
    pub session_id: Option<String>,
    /// Extra request headers, after those of the config.
    pub headers: BTreeMap<String, String>,
    /// Further `params` of the config (`provider`, `cacheRetention`, `anthropicBeta`, …).
    pub params: Map<String, Value>,
}

/// What arrives while a model answers. A stream ends with exactly one `Done` or one error; nothing follows.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderEvent {
    TextDelta {
        text: String,
    },
    /// The text so far is one block of its own with this opaque mark of the vendor; a text that follows begins another.
    TextEnd {
        signature: String,
    },
    ThinkingDelta {
        text: String,
        /// Set when the block closes (its text may be empty then); belongs to the block as a whole.
        signature: Option<String>,
    },
    /// `index` numbers the tool calls of this reply from 0 and joins the three events of one call.
    ToolCallStart {
        index: usize,
        id: String,
        name: String,
    },
    /// A raw piece of the arguments' JSON text, for progress only.
    ToolCallDelta {
        index: usize,
        json: String,
    },
    /// The call is complete and its arguments parsed: an object. Arguments that are not JSON come as
    /// `{"_raw": "<text>"}`, so that the tool can refuse them by name.
    ToolCallEnd {
        index: usize,
        id: String,
        name: String,
        arguments: Value,
        thought_signature: Option<String>,
    },
    /// Token counts so far; the last one counts.
    Usage(Usage),
    /// The attempt failed and the request is repeated after `wait`. With `discard` all text, thinking and
    /// tool calls of this stream so far are void.
    Restart {
        /// Number of the coming request, from 2.
        attempt: u32,
        wait: Duration,
        reason: Reason,
        message: String,
        discard: bool,
    },
    Done {
        stop_reason: StopReason,
    },
}
