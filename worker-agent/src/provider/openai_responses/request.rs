//! A model request → the JSON body of a Responses call. Pure.

use serde_json::{Map, Value, json};

use crate::provider::Call;
use crate::provider::thinking::{self, ThinkingLevel};
use crate::provider::types::{
    AssistantMessage, Block, Message, StopReason, ToolResultMessage, ToolSpec, joined_text,
};

/// The API refuses longer ids of items and calls.
const ID_CHARS_MAX: usize = 64;
/// The API refuses longer cache keys.
const CACHE_KEY_CHARS_MAX: usize = 64;

pub fn body(call: &Call) -> Value {
    let (request, model) = (&call.request, &call.model);
    let openai = call.endpoint.base_url.contains("api.openai.com");
    let mut body = Map::new();
    body.insert("model".into(), json!(model.id));
    if !request.system.is_empty() {
        body.insert("instructions".into(), json!(request.system));
    }
    body.insert("input".into(), Value::Array(input(call)));
    body.insert("stream".into(), json!(true));
    // The default is true: nobody asked the vendor to keep their conversations.
    body.insert("store".into(), json!(false));
    body.insert("max_output_tokens".into(), json!(model.reply_tokens(request.max_tokens)));
    // OpenAI's reasoning models refuse any temperature of ours.
    if let Some(temperature) = request.temperature.filter(|_| !(openai && model.reasoning)) {
        body.insert("temperature".into(), json!(temperature));
    }
    if !request.tools.is_empty() {
        let strict = model.compat.supports_strict_mode != Some(false);
        body.insert("tools".into(), request.tools.iter().map(|t| tool(t, strict)).collect());
    }
    if model.reasoning && model.compat.supports_reasoning_effort != Some(false) {
        reasoning(&mut body, call, openai);
    }
    cache(&mut body, call, openai);
    if let Some(extra) = request.params.get("extraBody").and_then(Value::as_object) {
        body.extend(extra.clone());
    }
    Value::Object(body)
}

/// Here tools are strict unless they say otherwise, and ours have optional parameters.
fn tool(spec: &ToolSpec, strict: bool) -> Value {
    let mut tool = json!({
        "type": "function", "name": spec.name, "description": spec.description, "parameters": spec.parameters,
    });
    if strict && let Some(fields) = tool.as_object_mut() {
        fields.insert("strict".into(), json!(false));
    }
    tool
}

fn reasoning(body: &mut Map<String, Value>, call: &Call, openai: bool) {
    let id = call.model.id.as_str();
    let wish = match call.request.thinking {
        ThinkingLevel::Off if openai => thinking::openai_least_effort(id).map(|e| json!({ "effort": e })),
        ThinkingLevel::Off => None,
        level => Some(json!({ "effort": level.as_str(), "summary": "auto" })),
    };
    if let Some(wish) = wish {
        body.insert("reasoning".into(), wish);
    }
    body.insert("include".into(), json!(["reasoning.encrypted_content"]));
}

/// Prompts are cached by themselves; the key leads a session's requests to the machine that holds its prefix.
fn cache(body: &mut Map<String, Value>, call: &Call, openai: bool) {
    let retention = call.request.params.get("cacheRetention").and_then(Value::as_str);
    let Some(session) = call.request.session_id.as_ref().filter(|_| retention != Some("none")) else {
        return;
    };
    let key: String = session.chars().take(CACHE_KEY_CHARS_MAX).collect();
    body.insert("prompt_cache_key".into(), json!(key));
    if openai && retention == Some("long") {
        body.insert("prompt_cache_retention".into(), json!("24h"));
    }
}

fn input(call: &Call) -> Vec<Value> {
    let images = call.model.reads_images();
    let mut out: Vec<Value> = Vec::new();
    let mut pictures: Vec<Value> = Vec::new();
    for message in &call.request.messages {
        if !matches!(message, Message::ToolResult(_)) {
            out.extend(tool_pictures(&mut pictures));
        }
        match message {
            Message::User(user) => out.extend(user_message(&user.content.blocks(), images)),
            Message::Assistant(assistant) => out.extend(assistant_items(assistant, call)),
            Message::ToolResult(result) => {
                out.push(tool_result(result));
                if images {
                    pictures.extend(result.content.iter().filter_map(picture));
                }
            }
        }
    }
    out.extend(tool_pictures(&mut pictures));
    out
}

/// Pictures that tools gave, as a message after all results of the step: several servers take only text in a result.
fn tool_pictures(pictures: &mut Vec<Value>) -> Option<Value> {
    if pictures.is_empty() {
        return None;
    }
    let mut parts = vec![json!({ "type": "input_text", "text": "Images from the tool results:" })];
    parts.append(pictures);
    Some(json!({ "type": "message", "role": "user", "content": parts }))
}

fn picture(block: &Block) -> Option<Value> {
    let Block::Image { data, mime_type } = block else { return None };
    Some(
        json!({ "type": "input_image", "detail": "auto", "image_url": format!("data:{mime_type};base64,{data}") }),
    )
}

fn user_message(blocks: &[Block], images: bool) -> Option<Value> {
    let part = |block: &Block| match block {
        Block::Text { text, .. } if !text.is_empty() => Some(json!({ "type": "input_text", "text": text })),
        Block::Image { .. } if images => picture(block),
        _ => None,
    };
    let parts: Vec<Value> = blocks.iter().filter_map(part).collect();
    (!parts.is_empty()).then(|| json!({ "type": "message", "role": "user", "content": parts }))
}

/// The items of one reply, in their order. The vendor's own ids go back only together with the reasoning that belongs
/// to them: it refuses an item of its own whose reasoning is missing, and a reasoning that nothing follows.
fn assistant_items(message: &AssistantMessage, call: &Call) -> Vec<Value> {
    let whole = !matches!(message.stop_reason, StopReason::Error | StopReason::Aborted);
    let has_calls = message.content.iter().any(|b| matches!(b, Block::ToolCall { .. }));
    if message.stop_reason == StopReason::Error && !has_calls {
        return Vec::new();
    }
    let same = message.api == call.model.api
        && message.provider == call.model.provider
        && message.model == call.model.id
        && whole;
    let thoughts = message.content.iter().filter(|b| matches!(b, Block::Thinking { .. })).count();
    let kept = message.content.iter().filter(|b| same && kept_reasoning(b).is_some()).count();
    let ids = same && thoughts == kept;
    let mut items = Vec::new();
    for block in &message.content {
        match block {
            Block::Text { text, text_signature } if !text.trim().is_empty() => {
                items.push(assistant_text(text, text_signature.as_deref().filter(|_| ids)));
            }
            Block::ToolCall { id, name, arguments, .. } => {
                items.push(function_call(id, name, arguments, ids));
            }
            Block::Thinking { .. } if same => items.extend(kept_reasoning(block)),
            _ => {}
        }
    }
    while items.last().is_some_and(|item| item["type"] == "reasoning") {
        items.pop();
    }
    items
}

/// The reasoning item of a thought, if it can be of use again: without its contents it is only an id, which nobody
/// knows since nothing was stored.
fn kept_reasoning(block: &Block) -> Option<Value> {
    let Block::Thinking { thinking_signature: Some(signature), .. } = block else { return None };
    let item: Value = serde_json::from_str(signature).ok()?;
    let has = |field: &str| match item.get(field) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(parts)) => !parts.is_empty(),
        _ => false,
    };
    (item["type"] == "reasoning" && (has("encrypted_content") || has("content"))).then_some(item)
}

fn assistant_text(text: &str, signature: Option<&str>) -> Value {
    let content = json!([{ "type": "output_text", "text": text, "annotations": [] }]);
    let mut item = json!({ "type": "message", "role": "assistant", "content": content });
    if let (Some((id, phase)), Some(fields)) = (signature.and_then(text_mark), item.as_object_mut()) {
        fields.insert("id".into(), json!(id));
        fields.insert("status".into(), json!("completed"));
        if let Some(phase) = phase {
            fields.insert("phase".into(), json!(phase));
        }
    }
    item
}

/// Id and phase of a text: the signature is the id alone, or `{"v":1,"id":…,"phase":…}`.
fn text_mark(signature: &str) -> Option<(String, Option<String>)> {
    let (id, phase) = match serde_json::from_str::<Value>(signature) {
        Ok(mark) => {
            let text = |field: &str| mark.get(field).and_then(Value::as_str).map(str::to_owned);
            (text("id")?, text("phase"))
        }
        Err(_) => (signature.to_owned(), None),
    };
    (id.starts_with("msg_") && id.len() <= ID_CHARS_MAX).then_some((id, phase))
}

fn function_call(id: &str, name: &str, arguments: &Value, ids: bool) -> Value {
    let mut item = json!({
        "type": "function_call", "call_id": call_id(id), "name": name, "arguments": arguments.to_string(),
    });
    let own = id.split_once('|').map(|(_, own)| own);
    let own = own.filter(|own| ids && own.starts_with("fc_") && own.len() <= ID_CHARS_MAX);
    if let (Some(own), Some(fields)) = (own, item.as_object_mut()) {
        fields.insert("id".into(), json!(own));
    }
    item
}

fn tool_result(result: &ToolResultMessage) -> Value {
    let text = joined_text(&result.content);
    let has_picture = result.content.iter().any(|b| matches!(b, Block::Image { .. }));
    let text = match (text.is_empty(), has_picture) {
        (true, true) => "(an image)".to_owned(),
        (true, false) => "(no output)".to_owned(),
        _ => text,
    };
    json!({ "type": "function_call_output", "call_id": call_id(&result.tool_call_id), "output": text })
}

/// The part of `<call id>|<item id>` that joins call and result, in letters that the API takes.
fn call_id(id: &str) -> String {
    let id = id.split('|').next().unwrap_or(id);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let id: String = id.chars().map(plain).take(ID_CHARS_MAX).collect();
    if id.is_empty() { "call".to_owned() } else { id }
}
