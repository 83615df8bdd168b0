//! Google's Gemini API: how the double reads a request and what it sends.

use serde_json::{Value, json};

use super::{Reply, pieces, sse};

/// Signature of the first call of a reply: base64, as the vendor's are.
const SIGNATURE: &str = "c2lnbmF0dXJl";

/// The model that a path names, when it is one of this API.
pub fn model_of(path: &str) -> Option<(&str, bool)> {
    let (_, rest) = path.split_once("/models/")?;
    let (model, method) = rest.split_once(':')?;
    match method {
        "streamGenerateContent" => Some((model, true)),
        "generateContent" => Some((model, false)),
        _ => None,
    }
}

/// The request's contents as messages, in the form that the rules of a script look at.
pub fn view(body: &Value, model: &str) -> Value {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let messages: Vec<Value> = contents.iter().map(message).collect();
    json!({ "model": model, "messages": messages })
}

fn message(content: &Value) -> Value {
    let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let results: Vec<&str> = parts
        .iter()
        .filter_map(|p| p["functionResponse"]["response"].as_object())
        .filter_map(|response| response.values().next().and_then(Value::as_str))
        .collect();
    if !results.is_empty() {
        return json!({ "role": "tool", "content": results.join("\n") });
    }
    let texts = parts.iter().filter(|p| p["text"].is_string() && p["thought"] != true);
    let texts: Vec<Value> = texts.map(|p| json!({ "type": "text", "text": p["text"] })).collect();
    let role = if content["role"] == "model" { "assistant" } else { "user" };
    json!({ "role": role, "content": texts })
}

/// The parts of a reply; its text and thoughts in pieces of so many characters.
fn parts(reply: &Reply, chars: usize) -> Vec<Value> {
    let mut parts: Vec<Value> = pieces(&reply.thinking, chars)
        .iter()
        .map(|piece| json!({ "text": piece, "thought": true }))
        .collect();
    parts.extend(pieces(&reply.text, chars).iter().map(|piece| json!({ "text": piece })));
    for (at, call) in reply.tool_calls.iter().enumerate() {
        let mut function = json!({ "name": call.name, "args": call.arguments });
        if let Some(id) = &call.id {
            function["id"] = json!(id);
        }
        let mut part = json!({ "functionCall": function });
        if at == 0 {
            part["thoughtSignature"] = json!(SIGNATURE);
        }
        parts.push(part);
    }
    if reply.tool_calls.is_empty() && !reply.thinking.is_empty() {
        parts.push(json!({ "text": "", "thoughtSignature": SIGNATURE }));
    }
    parts
}

fn chunk(reply: &Reply, model: &str, n: usize, parts: &[Value], last: bool) -> Value {
    let prompt = reply.input_tokens + reply.cached_tokens;
    let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
    let mut usage = json!({ "promptTokenCount": prompt, "totalTokenCount": prompt });
    if last {
        candidate["finishReason"] = json!(match reply.stop.as_deref() {
            Some("length") => "MAX_TOKENS",
            Some("filter") => "SAFETY",
            _ => "STOP",
        });
        usage["candidatesTokenCount"] = json!(reply.output_tokens);
        usage["totalTokenCount"] = json!(prompt + reply.output_tokens);
        if reply.cached_tokens > 0 {
            usage["cachedContentTokenCount"] = json!(reply.cached_tokens);
        }
    }
    json!({
        "candidates": [candidate], "usageMetadata": usage, "modelVersion": model,
        "responseId": format!("r{n}"),
    })
}

/// The answer as one document.
pub fn document(reply: &Reply, model: &str, n: usize) -> Value {
    chunk(reply, model, n, &parts(reply, usize::MAX), true)
}

pub fn events(reply: &Reply, model: &str, n: usize) -> Vec<String> {
    let parts = parts(reply, reply.chunk_chars);
    if parts.is_empty() {
        return vec![sse("", &chunk(reply, model, n, &[], true))];
    }
    let last = parts.len() - 1;
    let one = |(at, part): (usize, &Value)| {
        sse("", &chunk(reply, model, n, std::slice::from_ref(part), at == last))
    };
    parts.iter().enumerate().map(one).collect()
}

/// An error in the vendor's form. It asks to wait in the body, not in a header.
pub fn error(code: u16, status: &str, message: &str, retry_after: Option<&str>) -> Value {
    let mut error = json!({ "code": code, "message": message, "status": status });
    if let Some(seconds) = retry_after {
        error["details"] = json!([
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s") },
        ]);
    }
    json!({ "error": error })
}
