use std::collections::VecDeque;

use serde_json::{Value, json};

use super::decode::Decode;
use super::*;
use crate::provider::exchange::{Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::fixtures;
use crate::provider::sse::Frame;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::*;

const URL: &str = "https://generativelanguage.googleapis.com/v1beta";

fn body(id: &str, request: ModelRequest) -> Value {
    request::body(&fixtures::call("google-generative-ai", "google", URL, id, request))
}

fn contents(messages: Vec<Message>) -> Vec<Value> {
    let body = body("gemini-3-flash-preview", ModelRequest { messages, ..ModelRequest::default() });
    body["contents"].as_array().unwrap().clone()
}

fn own(content: Vec<Block>) -> Message {
    Message::Assistant(AssistantMessage {
        content,
        api: "google-generative-ai".into(),
        provider: "google".into(),
        model: "gemini-3-flash-preview".into(),
        stop_reason: StopReason::ToolUse,
        ..AssistantMessage::default()
    })
}

fn called(id: &str, signature: Option<&str>) -> Block {
    let (arguments, thought_signature) = (json!({ "command": "ls" }), signature.map(str::to_owned));
    Block::ToolCall { id: id.into(), name: "exec".into(), arguments, thought_signature }
}

fn result(id: &str, is_error: bool) -> Message {
    Message::ToolResult(ToolResultMessage {
        tool_call_id: id.into(),
        tool_name: "exec".into(),
        content: vec![Block::text("a.png")],
        is_error,
        ..ToolResultMessage::default()
    })
}

#[test]
fn a_conversation_that_another_model_began() {
    let request = ModelRequest { temperature: Some(0.5), ..fixtures::conversation(ThinkingLevel::High) };
    insta::assert_json_snapshot!(body("gemini-3-pro-preview", request));
}

#[test]
fn base_urls_of_either_door() {
    let there = "https://h/v1beta/models/gemini-3:streamGenerateContent?alt=sse";
    for base in ["https://h", "https://h/v1beta", "https://h/v1beta/openai"] {
        assert_eq!(url(base, "gemini-3"), there);
        assert_eq!(url(base, "models/gemini-3"), there);
    }
    assert_eq!(
        url("https://h/v1", "tunedModels/x"),
        "https://h/v1/tunedModels/x:streamGenerateContent?alt=sse"
    );
}

#[test]
fn keys_and_tokens_go_into_different_headers() {
    let mut call = fixtures::call("google-generative-ai", "google", URL, "m", ModelRequest::default());
    assert_eq!(headers(&call)["x-goog-api-key"], "fixture-key");
    std::sync::Arc::make_mut(&mut call.endpoint).bearer = true;
    let headers = headers(&call);
    assert_eq!(
        (headers.get("x-goog-api-key"), headers["authorization"].as_str()),
        (None, "Bearer fixture-key")
    );
}

#[test]
fn signatures_go_back_to_the_model_that_made_them() {
    let thought = Block::Thinking { thinking: "hm".into(), thinking_signature: Some("dGg=".into()) };
    let text = Block::Text { text: "look".into(), text_signature: Some("dGV4".into()) };
    let empty = Block::Text { text: String::new(), text_signature: Some("ZW5k".into()) };
    let turns = contents(vec![
        Message::user("go"),
        own(vec![thought, text, called("8f2b", Some("Y2E=")), called("gcall_1", None), empty]),
        result("8f2b", false),
        result("gcall_1", true),
    ]);
    assert_eq!(
        turns[1]["parts"],
        json!([
            { "text": "hm", "thought": true, "thoughtSignature": "dGg=" },
            { "text": "look", "thoughtSignature": "dGV4" },
            { "functionCall": { "name": "exec", "args": { "command": "ls" }, "id": "8f2b" }, "thoughtSignature": "Y2E=" },
            { "functionCall": { "name": "exec", "args": { "command": "ls" } } },
            { "text": "", "thoughtSignature": "ZW5k" },
        ])
    );
    // Both results of the step in one turn; only the vendor's own id goes back.
    assert_eq!(
        turns[2],
        json!({ "role": "user", "parts": [
            { "functionResponse": { "name": "exec", "response": { "output": "a.png" }, "id": "8f2b" } },
            { "functionResponse": { "name": "exec", "response": { "error": "a.png" } } },
        ] })
    );
}

#[test]
fn a_conversation_begins_with_the_user() {
    let turns = contents(vec![own(vec![Block::text("hello")]), Message::user("a"), Message::user("b")]);
    let roles: Vec<&str> = turns.iter().filter_map(|turn| turn["role"].as_str()).collect();
    assert_eq!(roles, ["user", "model", "user"]);
    assert_eq!(turns[2]["parts"].as_array().map(Vec::len), Some(2), "neighbours are joined");
    assert_eq!(contents(vec![]).len(), 1);
}

#[test]
fn schemas_lose_what_the_api_does_not_know() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": false,
        "properties": {
            "pattern": { "type": "string", "pattern": "^a", "default": "a", "minLength": 1 },
            "mode": { "const": "fast" },
            "list": { "type": "array", "items": { "anyOf": [{ "type": "string", "examples": ["x"] }, { "type": "null" }] } },
        },
        "required": ["mode"],
    });
    assert_eq!(
        schema::known(&schema),
        json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "pattern": { "type": "string" },
                "mode": { "enum": ["fast"] },
                "list": { "type": "array", "items": { "anyOf": [{ "type": "string" }, { "type": "null" }] } },
            },
            "required": ["mode"],
        })
    );
    let deep = (0..200).fold(json!({}), |inner, _| json!({ "items": inner }));
    assert!(schema::known(&deep).to_string().len() < 400, "the depth has a bound");
}

fn decode(chunks: &[Value]) -> Result<Vec<ProviderEvent>, Fault> {
    let (mut decoder, mut out) = (Decode::default(), VecDeque::new());
    for chunk in chunks {
        decoder.frame(&Frame { event: String::new(), data: chunk.to_string() }, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out.into())
}

fn chunk(parts: Value, finish: Option<&str>) -> Value {
    json!({ "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": finish }] })
}

#[test]
fn calls_without_ids_get_one_and_a_list_of_chunks_is_taken_too() {
    let list = json!([
        chunk(json!([{ "functionCall": { "name": "a" } }]), None),
        chunk(json!([{ "functionCall": { "name": "b", "args": { "x": 1 } } }]), Some("STOP")),
    ]);
    let events = decode(&[list]).unwrap();
    let calls: Vec<(&str, &Value)> = events
        .iter()
        .filter_map(|e| match e {
            ProviderEvent::ToolCallEnd { id, arguments, .. } => Some((id.as_str(), arguments)),
            _ => None,
        })
        .collect();
    assert_eq!((calls[0].1, calls[1].1), (&json!({}), &json!({ "x": 1 })));
    assert!(calls[0].0.starts_with("gcall_") && calls[0].0 != calls[1].0, "{calls:?}");
    assert_eq!(events.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::ToolUse }));
}

#[test]
fn a_reason_to_stop_in_every_chunk_ends_nothing() {
    let text = |text: &str| chunk(json!([{ "text": text }]), Some("STOP"));
    let events = decode(&[text("a"), text("b")]).unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
}

#[test]
fn ends_that_are_faults() {
    let reason = |chunk: Value| decode(&[chunk]).unwrap_err().reason;
    assert_eq!(reason(chunk(json!([{ "text": "half" }]), None)), Reason::Truncated);
    for filter in ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII"] {
        assert_eq!(reason(chunk(json!([]), Some(filter))), Reason::ContentFilter, "{filter}");
    }
    assert_eq!(reason(chunk(json!([]), Some("MALFORMED_FUNCTION_CALL"))), Reason::Malformed);
    assert_eq!(reason(json!({ "promptFeedback": { "blockReason": "SAFETY" } })), Reason::ContentFilter);
    let error =
        |code: u16, status: &str| json!({ "error": { "code": code, "status": status, "message": "m" } });
    assert_eq!(reason(error(429, "RESOURCE_EXHAUSTED")), Reason::RateLimit);
    assert_eq!(reason(error(503, "UNAVAILABLE")), Reason::Server);
    let strange =
        decode(&[chunk(json!([{ "functionCall": { "name": "f" } }]), Some("FUNCTION_CALL"))]).unwrap();
    assert_eq!(strange.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::ToolUse }));
    let cut = decode(&[chunk(json!([{ "text": "a" }]), Some("MAX_TOKENS"))]).unwrap();
    assert_eq!(cut.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::Length }));
}
