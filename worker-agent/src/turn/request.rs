//! From the transcript's messages to a model request, and from a model's events to a transcript message. PURE.

use serde_json::{Map, Value};

use crate::provider::types as wire;
use crate::provider::{ModelRequest, ToolSpec};
use crate::session::message::{AssistantMessage, Block, Content, Cost, Message, StopReason, ToolCall, Usage};
use crate::tool::registry::Definition;

/// Messages in the shape of the provider layer. Images go only to models that read them.
pub fn messages(messages: &[Message], reads_images: bool) -> Vec<wire::Message> {
    messages.iter().map(|message| one(message, reads_images)).collect()
}

fn one(message: &Message, reads_images: bool) -> wire::Message {
    match message {
        Message::User(user) => wire::Message::User(wire::UserMessage {
            content: match &user.content {
                Content::Text(text) => wire::Content::Text(text.clone()),
                Content::Blocks(list) => wire::Content::Blocks(blocks(list, reads_images)),
            },
            timestamp: unsigned(user.timestamp),
        }),
        Message::Assistant(answer) => wire::Message::Assistant(wire::AssistantMessage {
            content: content_blocks(&answer.content, true),
            api: answer.api.clone(),
            provider: answer.provider.clone(),
            model: answer.model.clone(),
            stop_reason: match answer.stop_reason {
                StopReason::Stop => wire::StopReason::Stop,
                StopReason::Length => wire::StopReason::Length,
                StopReason::ToolUse => wire::StopReason::ToolUse,
                StopReason::Error => wire::StopReason::Error,
                StopReason::Aborted => wire::StopReason::Aborted,
            },
            timestamp: unsigned(answer.timestamp),
            ..wire::AssistantMessage::default()
        }),
        Message::ToolResult(result) => wire::Message::ToolResult(wire::ToolResultMessage {
            tool_call_id: result.tool_call_id.clone(),
            tool_name: result.tool_name.clone(),
            content: content_blocks(&result.content, reads_images),
            details: None,
            is_error: result.is_error,
            timestamp: unsigned(result.timestamp),
        }),
    }
}

fn unsigned(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn content_blocks(content: &Content, images: bool) -> Vec<wire::Block> {
    match content {
        Content::Text(text) => vec![wire::Block::text(text.clone())],
        Content::Blocks(list) => blocks(list, images),
    }
}

fn blocks(list: &[Block], images: bool) -> Vec<wire::Block> {
    list.iter()
        .filter_map(|block| match block {
            Block::Text { text, text_signature } => {
                Some(wire::Block::Text { text: text.clone(), text_signature: text_signature.clone() })
            }
            Block::Thinking { thinking, thinking_signature } => Some(wire::Block::Thinking {
                thinking: thinking.clone(),
                thinking_signature: thinking_signature.clone(),
            }),
            Block::Image { .. } if !images => {
                Some(wire::Block::text("[image omitted: the model reads text only]"))
            }
            Block::Image { data, mime_type } => {
                Some(wire::Block::Image { data: data.clone(), mime_type: mime_type.clone() })
            }
            Block::ToolCall { id, name, arguments, thought_signature } => Some(wire::Block::ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: Value::Object(arguments.clone()),
                thought_signature: thought_signature.clone(),
            }),
            Block::Other(_) => None,
        })
        .collect()
}

/// Tools as the model is told of them.
pub fn tools(definitions: &[Definition]) -> Vec<ToolSpec> {
    definitions
        .iter()
        .map(|tool| ToolSpec {
            name: tool.name.to_owned(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
        })
        .collect()
}

/// Collects the events of one reply into a message. Thoughts, texts and calls keep their order.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    blocks: Vec<Block>,
    pub usage: Usage,
}

impl Reply {
    pub fn text(&mut self, delta: &str) {
        match self.blocks.last_mut() {
            // One with a signature is complete: the signature is over exactly this text.
            Some(Block::Text { text, text_signature: None }) => text.push_str(delta),
            _ => self.blocks.push(Block::text(delta)),
        }
    }

    /// Closes the last text with the vendor's mark over it; without one, the mark stands alone.
    pub fn text_end(&mut self, signature: String) {
        match self.blocks.last_mut() {
            Some(Block::Text { text_signature: text_signature @ None, .. }) => {
                *text_signature = Some(signature);
            }
            _ => self.blocks.push(Block::Text { text: String::new(), text_signature: Some(signature) }),
        }
    }

    pub fn thinking(&mut self, delta: &str, signature: Option<String>) {
        match self.blocks.last_mut() {
            Some(Block::Thinking { thinking, thinking_signature: thinking_signature @ None }) => {
                thinking.push_str(delta);
                *thinking_signature = signature;
            }
            _ if delta.is_empty() && signature.is_none() => {}
            _ => self.blocks.push(Block::thinking(delta, signature)),
        }
    }

    pub fn call(&mut self, id: String, name: String, arguments: Value, thought_signature: Option<String>) {
        let arguments: Map<String, Value> = match arguments {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => Map::from_iter([("_raw".to_owned(), other)]),
        };
        self.blocks.push(Block::ToolCall { id: self.unique(id), name, arguments, thought_signature });
    }

    /// Some servers give every call the same id, or none.
    fn unique(&self, id: String) -> String {
        let taken = |id: &str| {
            self.blocks.iter().any(|block| matches!(block, Block::ToolCall { id: held, .. } if held == id))
        };
        if !id.is_empty() && !taken(&id) {
            return id;
        }
        format!("call_{}", uuid::Uuid::new_v4().simple())
    }

    pub fn usage(&mut self, usage: wire::Usage) {
        self.usage = Usage {
            input: usage.input,
            output: usage.output,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            total_tokens: usage.total_tokens,
            cost: Cost {
                input: usage.cost.input,
                output: usage.cost.output,
                cache_read: usage.cost.cache_read,
                cache_write: usage.cost.cache_write,
                total: usage.cost.total,
            },
        };
    }

    /// The message as the transcript stores it. A reply without calls never says `toolUse`, one with calls always.
    pub fn finish(
        self,
        facts: &super::source::ModelFacts,
        stop: wire::StopReason,
        now_ms: i64,
    ) -> AssistantMessage {
        let has_calls = self.blocks.iter().any(|block| matches!(block, Block::ToolCall { .. }));
        let stop_reason = match stop {
            wire::StopReason::Error => StopReason::Error,
            wire::StopReason::Aborted => StopReason::Aborted,
            _ if has_calls => StopReason::ToolUse,
            wire::StopReason::Length => StopReason::Length,
            _ => StopReason::Stop,
        };
        AssistantMessage {
            content: Content::Blocks(self.blocks),
            api: facts.api.clone(),
            provider: facts.provider.clone(),
            model: facts.id.clone(),
            usage: self.usage,
            stop_reason,
            error_message: None,
            timestamp: now_ms,
            openclaw_abort: None,
            idempotency_key: None,
        }
    }
}

/// The request without its messages and tools.
pub fn base(system: String, session_id: &str) -> ModelRequest {
    ModelRequest { system, session_id: Some(session_id.to_owned()), ..ModelRequest::default() }
}

/// A call as the tool layer takes it.
pub fn tool_call(call: &ToolCall) -> crate::tool::ToolCall {
    crate::tool::ToolCall {
        id: call.id.clone(),
        name: call.name.clone(),
        args: Value::Object(call.arguments.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_keeps_its_order_and_its_ids_apart() {
        let mut reply = Reply::default();
        reply.thinking("h", None);
        reply.thinking("m", Some("sig".into()));
        reply.text("Look");
        reply.text(": ");
        reply.call("1".into(), "ls".into(), Value::Null, None);
        reply.call("1".into(), "ls".into(), serde_json::json!({"path": "."}), None);
        let message = reply.finish(&super::super::source::ModelFacts::default(), wire::StopReason::Stop, 1);
        assert_eq!(message.stop_reason, StopReason::ToolUse);
        assert_eq!(message.content.text(), "Look: ");
        let calls = message.tool_calls();
        assert_eq!(calls.len(), 2);
        assert_ne!(calls[0].id, calls[1].id);
        assert_eq!(message.content.blocks()[0], Block::thinking("hm", Some("sig".into())));
    }
}
