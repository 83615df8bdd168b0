//! A model request → the JSON body of Ollama's chat. Pure.

use serde_json::{Map, Value, json};

use crate::provider::Call;
use crate::provider::model::CONTEXT_WINDOW_DEFAULT;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::{AssistantMessage, Block, Message, joined_text};

/// Context for a model that nobody described. Ollama's own default of 4096 would silently cut the system prompt
/// with its tools; much more costs gigabytes of memory on small machines.
const CONTEXT_TOKENS_DEFAULT: u32 = 32_768;

pub fn body(call: &Call) -> Value {
    let (request, model) = (&call.request, &call.model);
    let mut body = Map::new();
    body.insert("model".into(), json!(model.id));
    body.insert("messages".into(), Value::Array(messages(call)));
    body.insert("stream".into(), json!(true));
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|t| {
            json!({ "type": "function", "function": { "name": t.name, "description": t.description, "parameters": t.parameters } })
        });
        body.insert("tools".into(), tools.collect());
    }
    if model.reasoning {
        // gpt-oss takes levels and cannot be switched off; the others take a switch.
        let think = match request.thinking {
            ThinkingLevel::Off => json!(false),
            ThinkingLevel::Minimal | ThinkingLevel::Low if model.id.contains("gpt-oss") => json!("low"),
            ThinkingLevel::Medium if model.id.contains("gpt-oss") => json!("medium"),
            _ if model.id.contains("gpt-oss") => json!("high"),
            _ => json!(true),
        };
        body.insert("think".into(), think);
    }
    let described = model.context_window != CONTEXT_WINDOW_DEFAULT;
    let context = if described { model.context_window } else { CONTEXT_TOKENS_DEFAULT };
    let mut options = Map::new();
    options.insert("num_ctx".into(), json!(context));
    options.insert("num_predict".into(), json!(model.reply_tokens(request.max_tokens)));
    if let Some(temperature) = request.temperature {
        options.insert("temperature".into(), json!(temperature));
    }
    if let Some(own) = request.params.get("options").and_then(Value::as_object) {
        options.extend(own.clone());
    }
    body.insert("options".into(), Value::Object(options));
    if let Some(keep) = request.params.get("keepAlive") {
        body.insert("keep_alive".into(), keep.clone());
    }
    Value::Object(body)
}

fn messages(call: &Call) -> Vec<Value> {
    let request = &call.request;
    let images = call.model.reads_images();
    let mut out = Vec::new();
    if !request.system.is_empty() {
        out.push(json!({ "role": "system", "content": request.system }));
    }
    for message in &request.messages {
        match message {
            Message::User(user) => out.push(with_images("user", &user.content.blocks(), images)),
            Message::Assistant(assistant) => out.extend(assistant_message(assistant, call)),
            Message::ToolResult(result) => {
                let mut message = with_images("tool", &result.content, images);
                if let Some(fields) = message.as_object_mut() {
                    fields.insert("tool_name".into(), json!(result.tool_name));
                }
                out.push(message);
            }
        }
    }
    out
}

fn with_images(role: &str, blocks: &[Block], images: bool) -> Value {
    let mut message = json!({ "role": role, "content": joined_text(blocks) });
    let pictures: Vec<&str> = blocks
        .iter()
        .filter_map(|b| if let Block::Image { data, .. } = b { Some(data.as_str()) } else { None })
        .collect();
    if images
        && !pictures.is_empty()
        && let Some(fields) = message.as_object_mut()
    {
        fields.insert("images".into(), json!(pictures));
    }
    message
}

fn assistant_message(message: &AssistantMessage, call: &Call) -> Option<Value> {
    let text = joined_text(&message.content);
    let calls: Vec<Value> = message
        .content
        .iter()
        .filter_map(|b| match b {
            Block::ToolCall { name, arguments, .. } => {
                Some(json!({ "function": { "name": name, "arguments": arguments } }))
            }
            _ => None,
        })
        .collect();
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    let mut out = Map::new();
    out.insert("role".into(), json!("assistant"));
    out.insert("content".into(), json!(text));
    // Templates show a model the thoughts that led to its calls; those of another model would confuse it.
    let same = message.api == call.model.api && message.model == call.model.id;
    let thoughts = message.content.iter().filter_map(|block| match block {
        Block::Thinking { thinking, .. } if same && !thinking.is_empty() => Some(thinking.as_str()),
        _ => None,
    });
    let thoughts = thoughts.collect::<Vec<_>>().join("\n");
    if !thoughts.is_empty() && !calls.is_empty() {
        out.insert("thinking".into(), json!(thoughts));
    }
    if !calls.is_empty() {
        out.insert("tool_calls".into(), json!(calls));
    }
    Some(Value::Object(out))
}
