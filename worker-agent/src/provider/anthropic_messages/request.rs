//! A model request → the JSON body of a Messages call. Pure.

use serde_json::{Map, Value, json};

use crate::provider::Call;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::{AssistantMessage, Block, Content, Message, ToolResultMessage};

/// Mark of a thinking block that Anthropic encrypted: its payload follows and goes back as it came.
pub const REDACTED_MARK: &str = "redacted:";
/// Longest tool use id that the API takes (pattern `^[a-zA-Z0-9_-]{1,64}$`).
const CALL_ID_CHARS_MAX: usize = 64;
/// Least tokens that are left for the reply next to a thinking budget.
const REPLY_TOKENS_MIN: u32 = 1024;

pub fn body(call: &Call) -> Value {
    let (request, model) = (&call.request, &call.model);
    let cache = cache_control(call);
    let mut body = Map::new();
    body.insert("model".into(), json!(model.id));
    let mut max_tokens = model.reply_tokens(request.max_tokens);
    let thinks = thinking(&mut body, call, &mut max_tokens);
    body.insert("max_tokens".into(), json!(max_tokens));
    body.insert("stream".into(), json!(true));
    if !request.system.is_empty() {
        let mut block = json!({ "type": "text", "text": request.system });
        mark(&mut block, &cache);
        body.insert("system".into(), json!([block]));
    }
    let mut messages = messages(call);
    if let Some(last) = messages.iter_mut().rfind(|m| m["role"] == "user")
        && let Some(block) = last.get_mut("content").and_then(Value::as_array_mut).and_then(|c| c.last_mut())
    {
        mark(block, &cache);
    }
    body.insert("messages".into(), Value::Array(messages));
    // Thinking and a temperature exclude each other.
    if let Some(temperature) = request.temperature.filter(|_| !thinks) {
        body.insert("temperature".into(), json!(temperature));
    }
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|t| json!({ "name": t.name, "description": t.description, "input_schema": t.parameters }));
        body.insert("tools".into(), tools.collect());
    }
    Value::Object(body)
}

/// What marks a cache point: `cacheRetention` none, short (5 minutes, the default) or long (an hour).
fn cache_control(call: &Call) -> Option<Value> {
    let params = &call.request.params;
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    match (text("cacheRetention"), text("cacheControlTtl")) {
        (Some("none"), _) => None,
        (Some("long"), _) | (None, Some("1h")) => Some(json!({ "type": "ephemeral", "ttl": "1h" })),
        _ => Some(json!({ "type": "ephemeral" })),
    }
}

fn mark(block: &mut Value, cache: &Option<Value>) {
    if let (Some(cache), Some(fields)) = (cache, block.as_object_mut()) {
        fields.insert("cache_control".into(), cache.clone());
    }
}

/// Sets the thinking fields; true when the model will think.
fn thinking(body: &mut Map<String, Value>, call: &Call, max_tokens: &mut u32) -> bool {
    let level = call.request.thinking;
    let Some(budget) = level.anthropic_budget_tokens().filter(|_| call.model.reasoning) else { return false };
    if is_adaptive(&call.model.id) {
        let effort = match level {
            ThinkingLevel::Minimal | ThinkingLevel::Low => "low",
            ThinkingLevel::Medium => "medium",
            _ => "high",
        };
        body.insert("thinking".into(), json!({ "type": "adaptive" }));
        body.insert("output_config".into(), json!({ "effort": effort }));
        return true;
    }
    if calls_without_thought(call) {
        return false;
    }
    *max_tokens =
        max_tokens.saturating_add(budget).min(call.model.max_tokens.max(REPLY_TOKENS_MIN.saturating_mul(2)));
    let budget = budget.min(max_tokens.saturating_sub(REPLY_TOKENS_MIN));
    body.insert("thinking".into(), json!({ "type": "enabled", "budget_tokens": budget }));
    true
}

/// Whether the model decides by itself how long to think and takes an effort instead of a budget: Opus and Sonnet from
/// 4.6 on.
fn is_adaptive(model_id: &str) -> bool {
    let after = |family: &str| model_id.split_once(family).map(|(_, rest)| rest);
    let Some(rest) = after("opus-").or_else(|| after("sonnet-")) else { return false };
    // A date is no part of the version.
    let mut numbers = rest.split(['-', '.']).map_while(|n| n.parse::<u32>().ok()).filter(|n| *n < 1000);
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (4, 6)
}

/// Whether the conversation stands at the results of calls that were made without a thought of this model, by another
/// model or with thinking off. Thinking with a budget is refused there until the step is over.
fn calls_without_thought(call: &Call) -> bool {
    let messages = &call.request.messages;
    if !matches!(messages.last(), Some(Message::ToolResult(_))) {
        return false;
    }
    let last = messages.iter().rev().find_map(|message| match message {
        Message::Assistant(assistant) => Some(assistant_blocks(assistant, call)),
        _ => None,
    });
    let first = last.as_ref().and_then(|blocks| blocks.first());
    first.is_some_and(|block| !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")))
}

/// Roles must alternate: neighbours of one role are joined, tool results belong to the user's side.
fn messages(call: &Call) -> Vec<Value> {
    let images = call.model.reads_images();
    let mut out: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in &call.request.messages {
        let (role, blocks) = match message {
            Message::User(user) => ("user", user_blocks(&user.content, images)),
            Message::Assistant(assistant) => ("assistant", assistant_blocks(assistant, call)),
            Message::ToolResult(result) => ("user", vec![tool_result(result, images)]),
        };
        if blocks.is_empty() {
            continue;
        }
        match out.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => out.push((role, blocks)),
        }
    }
    out.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn user_blocks(content: &Content, images: bool) -> Vec<Value> {
    content.blocks().iter().filter_map(|b| plain_block(b, images)).collect()
}

/// A text or an image; empty text is refused by the API.
fn plain_block(block: &Block, images: bool) -> Option<Value> {
    match block {
        Block::Text { text, .. } if !text.trim().is_empty() => Some(json!({ "type": "text", "text": text })),
        Block::Image { data, mime_type } if images => Some(json!({
            "type": "image",
            "source": { "type": "base64", "media_type": mime_type, "data": data },
        })),
        _ => None,
    }
}

fn assistant_blocks(message: &AssistantMessage, call: &Call) -> Vec<Value> {
    let same = message.api == call.model.api
        && message.provider == call.model.provider
        && message.model == call.model.id;
    let block = |block: &Block| match block {
        // Only the model that thought it can check the signature.
        Block::Thinking { thinking, thinking_signature: Some(signature) } if same => {
            match signature.strip_prefix(REDACTED_MARK) {
                Some(data) => Some(json!({ "type": "redacted_thinking", "data": data })),
                None if signature.is_empty() => None,
                None => Some(json!({ "type": "thinking", "thinking": thinking, "signature": signature })),
            }
        }
        Block::ToolCall { id, name, arguments, .. } => {
            let input = if arguments.is_object() { arguments.clone() } else { json!({}) };
            Some(json!({ "type": "tool_use", "id": call_id(id), "name": name, "input": input }))
        }
        Block::Text { .. } => plain_block(block, false),
        _ => None,
    };
    message.content.iter().filter_map(block).collect()
}

fn tool_result(result: &ToolResultMessage, images: bool) -> Value {
    // A failure may only be described in words.
    let images = images && !result.is_error;
    let mut content: Vec<Value> = result.content.iter().filter_map(|b| plain_block(b, images)).collect();
    if content.is_empty() {
        content.push(json!({ "type": "text", "text": "(no output)" }));
    }
    json!({
        "type": "tool_result",
        "tool_use_id": call_id(&result.tool_call_id),
        "content": content,
        "is_error": result.is_error,
    })
}

fn call_id(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let id: String = id.chars().map(plain).take(CALL_ID_CHARS_MAX).collect();
    if id.is_empty() { "call".to_owned() } else { id }
}
