//! A call and a conversation with everything in it, for the tests of the request bodies.

use std::sync::Arc;

use serde_json::json;

use super::model::{Deadlines, Endpoint, Input, Model, Secret};
use super::thinking::ThinkingLevel;
use super::types::*;
use super::{Call, Http};

pub fn call(api: &str, provider: &str, url: &str, id: &str, request: ModelRequest) -> Call {
    let mut model = Model::unknown(provider, id, api);
    model.reasoning = true;
    model.input = vec![Input::Text, Input::Image];
    model.max_tokens = 64_000;
    let endpoint = Endpoint {
        base_url: url.to_owned(),
        key: Some(Secret::new("fixture-key")),
        bearer: false,
        headers: Default::default(),
        deadlines: Deadlines::for_url(url),
    };
    Call {
        model: Arc::new(model),
        endpoint: Arc::new(endpoint),
        request: Arc::new(request),
        http: Http::default(),
    }
}

/// A question with a picture, a thought with a tool call by `anthropic/claude-opus-4-6`, two results (one with a
/// picture), an aborted empty reply and a last question.
pub fn conversation(thinking: ThinkingLevel) -> ModelRequest {
    let picture = || Block::Image { data: "QUJD".into(), mime_type: "image/png".into() };
    let call = |id: &str| Block::ToolCall {
        id: id.into(),
        name: "exec".into(),
        arguments: json!({ "command": "ls" }),
        thought_signature: None,
    };
    let result = |id: &str, content: Vec<Block>| {
        Message::ToolResult(ToolResultMessage {
            tool_call_id: id.into(),
            tool_name: "exec".into(),
            content,
            ..ToolResultMessage::default()
        })
    };
    let thought = Block::Thinking { thinking: "let me see".into(), thinking_signature: Some("c2ln".into()) };
    let messages = vec![
        Message::User(UserMessage {
            content: Content::Blocks(vec![Block::text("what is this?"), picture()]),
            timestamp: 1,
        }),
        Message::Assistant(AssistantMessage {
            content: vec![thought, Block::text("I will look."), call("call_1|fc_9"), call("call_2")],
            api: "anthropic-messages".into(),
            provider: "anthropic".into(),
            model: "claude-opus-4-6".into(),
            stop_reason: StopReason::ToolUse,
            ..AssistantMessage::default()
        }),
        result("call_1|fc_9", vec![Block::text("a.png")]),
        result("call_2", vec![picture()]),
        Message::Assistant(AssistantMessage {
            stop_reason: StopReason::Aborted,
            ..AssistantMessage::default()
        }),
        Message::user("and now?"),
    ];
    let tool = ToolSpec {
        name: "exec".into(),
        description: "runs a command".into(),
        parameters: json!({ "type": "object", "properties": { "command": { "type": "string" } }, "required": ["command"] }),
    };
    ModelRequest {
        system: "be brief".into(),
        messages,
        tools: vec![tool],
        thinking,
        session_id: Some("session-1".into()),
        ..ModelRequest::default()
    }
}
