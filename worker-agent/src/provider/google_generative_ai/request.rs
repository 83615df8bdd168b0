//! A model request → the JSON body of a `streamGenerateContent` call. Pure.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::decode::OWN_ID_PREFIX;
use super::schema;
use crate::provider::Call;
use crate::provider::thinking::{GeminiThinking, ThinkingLevel};
use crate::provider::types::{AssistantMessage, Block, Message, StopReason, ToolResultMessage, joined_text};

/// Stands for the signature of a call that another model made: Gemini 3 refuses a call without one, and the vendor
/// documents this word for histories that come from elsewhere.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";
/// A conversation must begin with a user's turn.
const OPENING: &str = "(the conversation goes on)";

pub fn body(call: &Call) -> Value {
    let (request, model) = (&call.request, &call.model);
    let mut body = Map::new();
    body.insert("contents".into(), Value::Array(contents(call)));
    if !request.system.is_empty() {
        body.insert("systemInstruction".into(), json!({ "parts": [{ "text": request.system }] }));
    }
    if !request.tools.is_empty() {
        let declarations = request.tools.iter().map(|t| {
            json!({ "name": t.name, "description": t.description, "parametersJsonSchema": schema::known(&t.parameters) })
        });
        body.insert("tools".into(), json!([{ "functionDeclarations": declarations.collect::<Vec<_>>() }]));
    }
    let mut generation = Map::new();
    generation.insert("maxOutputTokens".into(), json!(model.reply_tokens(request.max_tokens)));
    if let Some(temperature) = request.temperature {
        generation.insert("temperature".into(), json!(temperature));
    }
    if let Some(thinking) = thinking(call) {
        generation.insert("thinkingConfig".into(), thinking);
    }
    body.insert("generationConfig".into(), Value::Object(generation));
    if let Some(extra) = request.params.get("extraBody").and_then(Value::as_object) {
        body.extend(extra.clone());
    }
    Value::Object(body)
}

/// Left out, the model would think as much as it likes: `off` asks for the least that it can do.
fn thinking(call: &Call) -> Option<Value> {
    let model = &call.model;
    if !model.reasoning || model.compat.supports_reasoning_effort == Some(false) {
        return None;
    }
    let shown = call.request.thinking != ThinkingLevel::Off;
    let mut config = Map::new();
    match call.request.thinking.gemini(&model.id)? {
        GeminiThinking::Level(level) => config.insert("thinkingLevel".into(), json!(level)),
        GeminiThinking::Budget(tokens) => config.insert("thinkingBudget".into(), json!(tokens)),
    };
    if shown {
        config.insert("includeThoughts".into(), json!(true));
    }
    Some(Value::Object(config))
}

/// Turns must alternate: neighbours of one role are joined. Results of one step belong into one turn, and the pictures
/// among them into the next, since a turn of results may hold nothing else.
fn contents(call: &Call) -> Vec<Value> {
    let images = call.model.reads_images();
    let given = given_ids(call);
    let mut turns: Vec<Turn> = Vec::new();
    let mut pictures: Vec<Value> = Vec::new();
    for message in &call.request.messages {
        if !matches!(message, Message::ToolResult(_)) {
            show(&mut turns, &mut pictures);
        }
        match message {
            Message::User(user) => {
                let parts = user.content.blocks().iter().filter_map(|b| user_part(b, images)).collect();
                join(&mut turns, Side::User, parts);
            }
            Message::Assistant(assistant) => {
                join(&mut turns, Side::Model, model_parts(assistant, call, &given))
            }
            Message::ToolResult(result) => {
                join(&mut turns, Side::Results, vec![function_response(result, &given)]);
                if images {
                    pictures.extend(result.content.iter().filter_map(picture));
                }
            }
        }
    }
    show(&mut turns, &mut pictures);
    if turns.first().is_none_or(|turn| turn.side != Side::User) {
        turns.insert(0, Turn { side: Side::User, parts: vec![json!({ "text": OPENING })] });
    }
    turns.into_iter().map(|turn| json!({ "role": turn.side.role(), "parts": turn.parts })).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    User,
    Model,
    /// On the user's side, but never joined with what people say.
    Results,
}

impl Side {
    fn role(self) -> &'static str {
        if self == Side::Model { "model" } else { "user" }
    }
}

struct Turn {
    side: Side,
    parts: Vec<Value>,
}

fn join(turns: &mut Vec<Turn>, side: Side, parts: Vec<Value>) {
    if parts.is_empty() {
        return;
    }
    match turns.last_mut() {
        Some(last) if last.side == side => last.parts.extend(parts),
        _ => turns.push(Turn { side, parts }),
    }
}

fn show(turns: &mut Vec<Turn>, pictures: &mut Vec<Value>) {
    if !pictures.is_empty() {
        pictures.insert(0, json!({ "text": "Images from the tool results:" }));
        join(turns, Side::User, std::mem::take(pictures));
    }
}

fn user_part(block: &Block, images: bool) -> Option<Value> {
    match block {
        Block::Text { text, .. } if !text.is_empty() => Some(json!({ "text": text })),
        Block::Image { .. } if images => picture(block),
        _ => None,
    }
}

fn picture(block: &Block) -> Option<Value> {
    let Block::Image { data, mime_type } = block else { return None };
    Some(json!({ "inlineData": { "mimeType": mime_type, "data": data } }))
}

/// Whether the message is by the very model that is called: only it can read its signatures.
fn is_own(message: &AssistantMessage, call: &Call) -> bool {
    message.api == call.model.api && message.provider == call.model.provider && message.model == call.model.id
}

/// Ids of calls that the vendor itself named. Others are left out: they are optional, and not every model knows them.
fn given_ids(call: &Call) -> HashSet<&str> {
    let own = call.request.messages.iter().filter_map(|message| match message {
        Message::Assistant(assistant) if is_own(assistant, call) => Some(assistant),
        _ => None,
    });
    let ids = own.flat_map(|assistant| &assistant.content).filter_map(|block| match block {
        Block::ToolCall { id, .. } if !id.starts_with(OWN_ID_PREFIX) => Some(id.as_str()),
        _ => None,
    });
    ids.collect()
}

fn model_parts(message: &AssistantMessage, call: &Call, given: &HashSet<&str>) -> Vec<Value> {
    let has_calls = message.content.iter().any(|b| matches!(b, Block::ToolCall { .. }));
    if message.stop_reason == StopReason::Error && !has_calls {
        return Vec::new();
    }
    let own = is_own(message, call);
    let signed = |signature: &Option<String>| signature.clone().filter(|s| own && is_base64(s));
    let mut first_call = true;
    let mut parts = Vec::new();
    for block in &message.content {
        let (mut part, signature) = match block {
            Block::Text { text, text_signature } => {
                let signature = signed(text_signature);
                if text.trim().is_empty() && signature.is_none() {
                    continue;
                }
                (json!({ "text": text }), signature)
            }
            // A thought is only of use to the model that can read its signature.
            Block::Thinking { thinking, thinking_signature } => match signed(thinking_signature) {
                Some(signature) => (json!({ "text": thinking, "thought": true }), Some(signature)),
                None => continue,
            },
            Block::ToolCall { id, name, arguments, thought_signature } => {
                let mut function = json!({ "name": name, "args": arguments });
                if let (true, Some(fields)) = (given.contains(id.as_str()), function.as_object_mut()) {
                    fields.insert("id".into(), json!(id));
                }
                // Of calls in parallel only the first has to be signed.
                let missing = std::mem::take(&mut first_call) && call.model.id.contains("gemini-3");
                let signature = signed(thought_signature).or(missing.then(|| FOREIGN_SIGNATURE.to_owned()));
                (json!({ "functionCall": function }), signature)
            }
            Block::Image { .. } => continue,
        };
        if let (Some(signature), Some(fields)) = (signature, part.as_object_mut()) {
            fields.insert("thoughtSignature".into(), json!(signature));
        }
        parts.push(part);
    }
    parts
}

/// Signatures of other vendors have other forms; this API answers 400 to what is not base64.
fn is_base64(text: &str) -> bool {
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
}

fn function_response(result: &ToolResultMessage, given: &HashSet<&str>) -> Value {
    let text = joined_text(&result.content);
    let has_picture = result.content.iter().any(|b| matches!(b, Block::Image { .. }));
    let text = match (text.is_empty(), has_picture) {
        (true, true) => "(an image)".to_owned(),
        (true, false) => "(no output)".to_owned(),
        _ => text,
    };
    let field = if result.is_error { "error" } else { "output" };
    let mut response = json!({ "name": result.tool_name, "response": { field: text } });
    if let (true, Some(fields)) = (given.contains(result.tool_call_id.as_str()), response.as_object_mut()) {
        fields.insert("id".into(), json!(result.tool_call_id));
    }
    json!({ "functionResponse": response })
}
