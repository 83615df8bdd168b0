//! A model request → the JSON body of a chat completion. Pure.

use serde_json::{Map, Value, json};

use super::compat::{Answers, ThinkingFormat};
use crate::provider::Call;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::{
    AssistantMessage, Block, Message, StopReason, ToolResultMessage, ToolSpec, joined_text,
};

/// OpenAI refuses longer tool call ids.
const CALL_ID_CHARS_MAX: usize = 40;
/// Mistral wants exactly this many letters and digits.
const MISTRAL_ID_CHARS: usize = 9;
/// Names of the reasoning field that a message may carry back.
pub const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_text"];

pub fn body(call: &Call) -> Value {
    let (request, model) = (&call.request, &call.model);
    let answers = Answers::of(call);
    let mut body = Map::new();
    body.insert("model".into(), json!(model.id));
    body.insert("messages".into(), Value::Array(messages(call, &answers)));
    body.insert("stream".into(), json!(true));
    if answers.usage_in_stream {
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    if answers.store {
        body.insert("store".into(), json!(false));
    }
    body.insert(answers.max_tokens_field.into(), json!(model.reply_tokens(request.max_tokens)));
    // OpenAI's reasoning models refuse any temperature of ours.
    if let Some(temperature) = request.temperature.filter(|_| !(answers.openai && model.reasoning)) {
        body.insert("temperature".into(), json!(temperature));
    }
    let has_calls = request.messages.iter().any(|m| matches!(m, Message::ToolResult(_)) || calls_tools(m));
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(|t| tool(t, answers.strict)).collect());
    } else if has_calls && !answers.openai {
        // Proxies in front of Anthropic want the field as soon as the history holds calls; OpenAI refuses it.
        body.insert("tools".into(), json!([]));
    }
    thinking(&mut body, call, &answers);
    if answers.openrouter
        && let Some(routing) = request.params.get("provider").filter(|p| p.is_object())
    {
        body.insert("provider".into(), routing.clone());
    }
    if answers.openai
        && !no_cache(call)
        && let Some(session) = &request.session_id
    {
        body.insert("prompt_cache_key".into(), json!(session));
        if long_cache(call) {
            body.insert("prompt_cache_retention".into(), json!("24h"));
        }
    }
    // Z.AI hands out arguments as they are written only when asked to.
    if answers.thinking == ThinkingFormat::Zai
        && request.params.get("tool_stream").and_then(Value::as_bool) == Some(true)
    {
        body.insert("tool_stream".into(), json!(true));
    }
    if let Some(extra) = request.params.get("extraBody").and_then(Value::as_object) {
        body.extend(extra.clone());
    }
    Value::Object(body)
}

fn calls_tools(message: &Message) -> bool {
    matches!(message, Message::Assistant(a) if a.content.iter().any(|b| matches!(b, Block::ToolCall { .. })))
}

fn tool(spec: &ToolSpec, strict: bool) -> Value {
    let mut function =
        json!({ "name": spec.name, "description": spec.description, "parameters": spec.parameters });
    if strict && let Some(fields) = function.as_object_mut() {
        fields.insert("strict".into(), json!(false));
    }
    json!({ "type": "function", "function": function })
}

fn thinking(body: &mut Map<String, Value>, call: &Call, answers: &Answers) {
    let level = call.request.thinking;
    let (field, value) = match answers.thinking {
        // OpenRouter knows by itself which models reason; `auto` picks one and takes no wish.
        ThinkingFormat::OpenRouter if call.model.id != "auto" => match level.effort() {
            Some(effort) => ("reasoning", json!({ "effort": effort })),
            None => return,
        },
        ThinkingFormat::OpenAi if call.model.reasoning => match level.effort() {
            Some(effort) => ("reasoning_effort", json!(effort)),
            None => return,
        },
        ThinkingFormat::Zai => {
            let kind = if level == ThinkingLevel::Off { "disabled" } else { "enabled" };
            ("thinking", json!({ "type": kind }))
        }
        ThinkingFormat::Qwen => ("enable_thinking", json!(level != ThinkingLevel::Off)),
        _ => return,
    };
    body.insert(field.into(), value);
}

fn messages(call: &Call, answers: &Answers) -> Vec<Value> {
    let request = &call.request;
    let mut out: Vec<Value> = Vec::new();
    if !request.system.is_empty() {
        let role = if answers.developer_role && call.model.reasoning { "developer" } else { "system" };
        out.push(json!({ "role": role, "content": request.system }));
    }
    let mut pictures: Vec<Value> = Vec::new();
    let mut after_tool = false;
    for message in &request.messages {
        if !matches!(message, Message::ToolResult(_)) && !pictures.is_empty() {
            out.push(tool_pictures(std::mem::take(&mut pictures)));
            after_tool = false;
        }
        match message {
            Message::User(user) => {
                if after_tool && answers.assistant_after_tool_result {
                    out.push(json!({ "role": "assistant", "content": "I have read the tool results." }));
                }
                let blocks = user.content.blocks();
                out.extend(
                    user_content(&blocks, call.model.reads_images())
                        .map(|c| json!({ "role": "user", "content": c })),
                );
            }
            Message::Assistant(assistant) => out.extend(assistant_message(assistant, call, answers)),
            Message::ToolResult(result) => {
                out.push(tool_result(result, answers));
                if call.model.reads_images() {
                    pictures.extend(result.content.iter().filter_map(picture));
                }
            }
        }
        after_tool = matches!(message, Message::ToolResult(_));
    }
    if !pictures.is_empty() {
        out.push(tool_pictures(pictures));
    }
    // Anthropic caches only what is marked, and OpenRouter hands the marks on.
    if answers.openrouter && call.model.id.starts_with("anthropic/") && !no_cache(call) {
        let mut mark = json!({ "type": "ephemeral" });
        if long_cache(call) {
            mark = json!({ "type": "ephemeral", "ttl": "1h" });
        }
        mark_for_cache(&mut out, &mark);
    }
    out
}

fn no_cache(call: &Call) -> bool {
    call.request.params.get("cacheRetention").and_then(Value::as_str) == Some("none")
}

/// `cacheRetention` long, or its older name `cacheControlTtl` 1h.
fn long_cache(call: &Call) -> bool {
    let text = |key: &str| call.request.params.get(key).and_then(Value::as_str);
    matches!((text("cacheRetention"), text("cacheControlTtl")), (Some("long"), _) | (None, Some("1h")))
}

fn tool_pictures(mut pictures: Vec<Value>) -> Value {
    pictures.insert(0, json!({ "type": "text", "text": "Images from the tool results:" }));
    json!({ "role": "user", "content": pictures })
}

fn picture(block: &Block) -> Option<Value> {
    let Block::Image { data, mime_type } = block else { return None };
    Some(json!({ "type": "image_url", "image_url": { "url": format!("data:{mime_type};base64,{data}") } }))
}

fn user_content(blocks: &[Block], images: bool) -> Option<Value> {
    let has_picture = images && blocks.iter().any(|b| matches!(b, Block::Image { .. }));
    if !has_picture {
        let text = joined_text(blocks);
        return (!text.is_empty()).then(|| json!(text));
    }
    let parts: Vec<Value> = blocks
        .iter()
        .filter_map(|block| match block {
            Block::Text { text, .. } if !text.is_empty() => Some(json!({ "type": "text", "text": text })),
            other => picture(other),
        })
        .collect();
    Some(Value::Array(parts))
}

fn assistant_message(message: &AssistantMessage, call: &Call, answers: &Answers) -> Option<Value> {
    // A reply that failed half-way says nothing that the model should build on.
    if message.stop_reason == StopReason::Error
        && !message.content.iter().any(|b| matches!(b, Block::ToolCall { .. }))
    {
        return None;
    }
    let same = message.provider == call.model.provider && message.model == call.model.id;
    let (mut text, mut calls, mut details) = (joined_text(&message.content), Vec::new(), Vec::new());
    let mut fields = Map::new();
    for block in &message.content {
        match block {
            Block::Thinking { thinking, .. } if answers.thinking_as_text && same => {
                text = format!("{thinking}\n\n{text}")
            }
            // DeepSeek and Moonshot want the thoughts of a tool turn back in the field they came in.
            Block::Thinking { thinking, thinking_signature: Some(field) }
                if same && REASONING_FIELDS.contains(&field.as_str()) =>
            {
                fields.insert(field.clone(), json!(thinking));
            }
            Block::ToolCall { id, name, arguments, thought_signature } => {
                let id = call_id(id, answers);
                calls.push(json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments.to_string() } }));
                let kept = thought_signature.as_deref().filter(|_| same);
                details.extend(kept.and_then(|s| serde_json::from_str::<Value>(s).ok()));
            }
            _ => {}
        }
    }
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    fields.insert("role".into(), json!("assistant"));
    fields.insert("content".into(), if text.is_empty() { Value::Null } else { json!(text) });
    if !calls.is_empty() {
        fields.insert("tool_calls".into(), Value::Array(calls));
    }
    if !details.is_empty() {
        fields.insert("reasoning_details".into(), Value::Array(details));
    }
    Some(Value::Object(fields))
}

fn tool_result(result: &ToolResultMessage, answers: &Answers) -> Value {
    let text = joined_text(&result.content);
    let has_picture = result.content.iter().any(|b| matches!(b, Block::Image { .. }));
    let text = match (text.is_empty(), has_picture) {
        (true, true) => "(an image)".to_owned(),
        (true, false) => "(no output)".to_owned(),
        _ => text,
    };
    let id = call_id(&result.tool_call_id, answers);
    let mut message = json!({ "role": "tool", "tool_call_id": id, "content": text });
    if answers.tool_result_name
        && let Some(fields) = message.as_object_mut()
    {
        fields.insert("name".into(), json!(result.tool_name));
    }
    message
}

/// An id that the server takes; the same input always gives the same id, so that call and result still match.
fn call_id(id: &str, answers: &Answers) -> String {
    let id = id.split('|').next().unwrap_or(id);
    if answers.mistral_ids {
        return mistral_id(id);
    }
    if answers.openai { id.chars().take(CALL_ID_CHARS_MAX).collect() } else { id.to_owned() }
}

fn mistral_id(id: &str) -> String {
    let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    if plain.len() == MISTRAL_ID_CHARS {
        return plain;
    }
    // Cutting could make two ids equal: a hash of the whole keeps them apart.
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(id.as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    hex.chars().take(MISTRAL_ID_CHARS).collect()
}

/// Marks the system message and the last text of the conversation.
fn mark_for_cache(messages: &mut [Value], mark: &Value) {
    let last = messages
        .iter()
        .rposition(|m| matches!(m["role"].as_str(), Some("user" | "assistant")) && !m["content"].is_null());
    let first = messages.iter().position(|m| matches!(m["role"].as_str(), Some("system" | "developer")));
    for at in [first, last].into_iter().flatten() {
        let Some(content) = messages.get_mut(at).and_then(|m| m.get_mut("content")) else { continue };
        if let Value::String(text) = content {
            *content = json!([{ "type": "text", "text": text }]);
        }
        let parts = content.as_array_mut().into_iter().flatten();
        if let Some(part) = parts.filter(|p| p["type"] == "text").last().and_then(Value::as_object_mut) {
            part.insert("cache_control".into(), mark.clone());
        }
    }
}
