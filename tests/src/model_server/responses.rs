//! OpenAI's Responses: how the double reads a request and what it sends.

use serde_json::{Value, json};

use super::{Reply, call_id, pieces, sse};

/// The request's items as messages, in the form that the rules of a script look at.
pub fn view(body: &Value) -> Value {
    let mut messages = Vec::new();
    match &body["input"] {
        Value::String(text) => messages.push(json!({ "role": "user", "content": text })),
        Value::Array(items) => messages.extend(items.iter().filter_map(message)),
        _ => {}
    }
    json!({ "model": body["model"], "messages": messages })
}

fn message(item: &Value) -> Option<Value> {
    match item["type"].as_str().unwrap_or("message") {
        "message" => {
            let parts = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            let texts: Vec<Value> = parts.iter().filter(|p| p["text"].is_string()).map(text_part).collect();
            let content = if item["content"].is_string() { item["content"].clone() } else { json!(texts) };
            Some(json!({ "role": item["role"], "content": content }))
        }
        "function_call_output" => Some(json!({ "role": "tool", "content": item["output"] })),
        _ => None,
    }
}

fn text_part(part: &Value) -> Value {
    json!({ "type": "text", "text": part["text"] })
}

/// The items of a reply, complete.
fn items(reply: &Reply, n: usize) -> Vec<Value> {
    let mut items = Vec::new();
    if !reply.thinking.is_empty() {
        items.push(json!({
            "id": format!("rs_{n}"), "type": "reasoning", "encrypted_content": format!("gAAAA-thought-{n}"),
            "summary": [{ "type": "summary_text", "text": reply.thinking }], "status": null,
        }));
    }
    if !reply.text.is_empty() {
        items.push(json!({
            "id": format!("msg_{n}"), "type": "message", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": reply.text, "annotations": [] }],
        }));
    }
    for (at, call) in reply.tool_calls.iter().enumerate() {
        items.push(json!({
            "id": format!("fc_{n}_{at}"), "type": "function_call", "call_id": call_id(call, n, at),
            "name": call.name, "arguments": call.arguments.to_string(), "status": "completed",
        }));
    }
    items
}

/// The answer as one document.
pub fn document(reply: &Reply, model: &str, n: usize) -> Value {
    let (status, why) = match reply.stop.as_deref() {
        Some("length") => ("incomplete", json!({ "reason": "max_output_tokens" })),
        Some("filter") => ("incomplete", json!({ "reason": "content_filter" })),
        _ => ("completed", Value::Null),
    };
    let mut response = shell(model, n, status);
    response["incomplete_details"] = why;
    response["output"] = json!(items(reply, n));
    response["usage"] = json!({
        "input_tokens": reply.input_tokens + reply.cached_tokens,
        "input_tokens_details": { "cached_tokens": reply.cached_tokens },
        "output_tokens": reply.output_tokens,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": reply.input_tokens + reply.cached_tokens + reply.output_tokens,
    });
    response
}

fn shell(model: &str, n: usize, status: &str) -> Value {
    json!({
        "id": format!("resp_{n}"), "object": "response", "created_at": 0, "model": model, "status": status,
        "error": null, "incomplete_details": null, "output": [], "usage": null,
    })
}

pub fn events(reply: &Reply, model: &str, n: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |kind: &str, mut data: Value| {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(out.len());
        out.push(sse(kind, &data));
    };
    say("response.created", json!({ "response": shell(model, n, "in_progress") }));
    for (at, item) in items(reply, n).iter().enumerate() {
        let id = &item["id"];
        let mut begun = item.clone();
        // What comes in pieces is empty at first.
        for (field, empty) in [("content", json!([])), ("summary", json!([])), ("arguments", json!(""))] {
            if item.get(field).is_some() {
                begun[field] = empty;
            }
        }
        say("response.output_item.added", json!({ "output_index": at, "item": begun }));
        let place = json!({ "item_id": id, "output_index": at });
        let with = |more: Value| {
            let mut all = place.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        match item["type"].as_str().unwrap() {
            "reasoning" => {
                say(
                    "response.reasoning_summary_part.added",
                    with(json!({ "summary_index": 0, "part": { "type": "summary_text", "text": "" } })),
                );
                for piece in pieces(&reply.thinking, reply.chunk_chars) {
                    say(
                        "response.reasoning_summary_text.delta",
                        with(json!({ "summary_index": 0, "delta": piece })),
                    );
                }
                say(
                    "response.reasoning_summary_text.done",
                    with(json!({ "summary_index": 0, "text": reply.thinking })),
                );
            }
            "message" => {
                say(
                    "response.content_part.added",
                    with(
                        json!({ "content_index": 0, "part": { "type": "output_text", "text": "", "annotations": [] } }),
                    ),
                );
                for piece in pieces(&reply.text, reply.chunk_chars) {
                    say("response.output_text.delta", with(json!({ "content_index": 0, "delta": piece })));
                }
                say("response.output_text.done", with(json!({ "content_index": 0, "text": reply.text })));
            }
            _ => {
                let arguments = item["arguments"].as_str().unwrap();
                for piece in pieces(arguments, reply.chunk_chars) {
                    say("response.function_call_arguments.delta", with(json!({ "delta": piece })));
                }
                say("response.function_call_arguments.done", with(json!({ "arguments": arguments })));
            }
        }
        say("response.output_item.done", json!({ "output_index": at, "item": item }));
    }
    let response = document(reply, model, n);
    let kind = if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    say(kind, json!({ "response": response }));
    out
}
