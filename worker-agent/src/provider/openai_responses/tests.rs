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

const OPENAI: &str = "https://api.openai.com/v1";

fn body(url: &str, id: &str, request: ModelRequest) -> Value {
    request::body(&fixtures::call("openai-responses", "openai", url, id, request))
}

/// A reply of the model itself, with everything that it wants back.
fn own(stop_reason: StopReason, content: Vec<Block>) -> Message {
    Message::Assistant(AssistantMessage {
        content,
        api: "openai-responses".into(),
        provider: "openai".into(),
        model: "gpt-5.2".into(),
        stop_reason,
        ..AssistantMessage::default()
    })
}

fn thought(encrypted: Value) -> Block {
    let item = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted });
    Block::Thinking { thinking: "hm".into(), thinking_signature: Some(item.to_string()) }
}

fn said(signature: &str) -> Block {
    Block::Text { text: "I will look.".into(), text_signature: Some(signature.into()) }
}

fn called() -> Block {
    let arguments = json!({ "command": "ls" });
    Block::ToolCall { id: "call_1|fc_1".into(), name: "exec".into(), arguments, thought_signature: None }
}

fn input(messages: Vec<Message>) -> Vec<Value> {
    let body = body(OPENAI, "gpt-5.2", ModelRequest { messages, ..ModelRequest::default() });
    body["input"].as_array().unwrap().clone()
}

#[test]
fn a_conversation_that_another_model_began() {
    let request = ModelRequest { temperature: Some(0.5), ..fixtures::conversation(ThinkingLevel::High) };
    insta::assert_json_snapshot!(body(OPENAI, "gpt-5.2", request));
}

#[test]
fn reasoning_and_ids_go_back_to_the_model_that_made_them() {
    let mark = json!({ "v": 1, "id": "msg_1", "phase": "commentary" }).to_string();
    let items = input(vec![own(StopReason::ToolUse, vec![thought(json!("gAAAA")), said(&mark), called()])]);
    let fields = |at: usize| (items[at]["type"].as_str(), items[at]["id"].as_str());
    assert_eq!(fields(0), (Some("reasoning"), Some("rs_1")));
    assert_eq!(fields(1), (Some("message"), Some("msg_1")));
    assert_eq!((&items[1]["phase"], &items[1]["status"]), (&json!("commentary"), &json!("completed")));
    assert_eq!(fields(2), (Some("function_call"), Some("fc_1")));
    assert_eq!(items[2]["call_id"], "call_1");
    // The plain form of the mark.
    let items = input(vec![own(StopReason::Stop, vec![thought(json!("gAAAA")), said("msg_7")])]);
    assert_eq!((&items[1]["id"], items[1].get("phase")), (&json!("msg_7"), None));
}

#[test]
fn ids_stay_away_without_their_reasoning() {
    // Nothing was stored, so that an id without contents means nothing to the vendor.
    let items = input(vec![own(StopReason::ToolUse, vec![thought(Value::Null), said("msg_1"), called()])]);
    assert_eq!(
        items.iter().map(|i| i["type"].as_str()).collect::<Vec<_>>(),
        [Some("message"), Some("function_call")]
    );
    assert!(items.iter().all(|item| item.get("id").is_none()), "{items:?}");
    // A reply that was stopped, and a reasoning that nothing follows.
    let aborted = input(vec![own(StopReason::Aborted, vec![thought(json!("g")), said("msg_1")])]);
    assert!(aborted.len() == 1 && aborted[0].get("id").is_none(), "{aborted:?}");
    assert!(input(vec![own(StopReason::Length, vec![thought(json!("g"))])]).is_empty());
}

#[test]
fn thinking_is_an_effort_and_off_is_the_least() {
    let reasoning = |url: &str, id: &str, thinking| {
        body(url, id, ModelRequest { thinking, ..ModelRequest::default() })["reasoning"].clone()
    };
    assert_eq!(
        reasoning(OPENAI, "gpt-5.2", ThinkingLevel::Xhigh),
        json!({ "effort": "xhigh", "summary": "auto" })
    );
    assert_eq!(reasoning(OPENAI, "gpt-5.2", ThinkingLevel::Off), json!({ "effort": "none" }));
    assert_eq!(reasoning(OPENAI, "gpt-5-mini", ThinkingLevel::Off), json!({ "effort": "minimal" }));
    assert_eq!(reasoning("http://h", "gpt-5.2", ThinkingLevel::Off), Value::Null);
}

#[test]
fn caches_follow_the_retention() {
    let with = |retention: &str| {
        let mut request = ModelRequest { session_id: Some("s".repeat(80)), ..ModelRequest::default() };
        request.params.insert("cacheRetention".into(), json!(retention));
        let body = body(OPENAI, "gpt-5.2", request);
        (body["prompt_cache_key"].as_str().map(str::len), body["prompt_cache_retention"].clone())
    };
    assert_eq!(with("short"), (Some(64), Value::Null));
    assert_eq!(with("long"), (Some(64), json!("24h")));
    assert_eq!(with("none"), (None, Value::Null));
}

#[test]
fn the_key_is_a_bearer() {
    let call = fixtures::call("openai-responses", "openai", "http://h", "m", ModelRequest::default());
    assert_eq!(headers(&call)["authorization"], "Bearer fixture-key");
}

fn decode(events: &[Value]) -> Result<Vec<ProviderEvent>, Fault> {
    let (mut decoder, mut out) = (Decode::default(), VecDeque::new());
    for event in events {
        decoder.frame(&Frame { event: String::new(), data: event.to_string() }, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out.into())
}

fn done(item: Value) -> Value {
    json!({ "type": "response.output_item.done", "output_index": 0, "item": item })
}

fn completed() -> Value {
    json!({ "type": "response.completed", "response": { "status": "completed" } })
}

#[test]
fn items_without_deltas_and_a_whole_response_are_taken_too() {
    let message = |id: &str, text: &str| json!({ "type": "message", "id": id, "content": [{ "type": "output_text", "text": text }] });
    let reasoning =
        json!({ "type": "reasoning", "id": "rs", "content": [{ "type": "reasoning_text", "text": "hm" }] });
    let call = json!({ "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{\"a\":1}" });
    let whole = json!({ "object": "response", "status": "completed", "error": null,
        "output": [reasoning, message("msg_1", "one"), message("msg_2", "two"), call] });
    let mut streamed: Vec<Value> = whole["output"].as_array().unwrap().iter().cloned().map(done).collect();
    streamed.push(completed());
    for events in [vec![whole], streamed] {
        let events = decode(&events).unwrap();
        let text: String = events
            .iter()
            .filter_map(
                |e| if let ProviderEvent::TextDelta { text } = e { Some(text.as_str()) } else { None },
            )
            .collect();
        assert_eq!(text, "one\n\ntwo", "two messages do not run into each other");
        assert_eq!(events[0], ProviderEvent::ThinkingDelta { text: "hm".into(), signature: None });
        assert!(events.contains(&ProviderEvent::TextEnd { signature: "msg_2".into() }));
        assert!(events.iter().any(|e| matches!(e, ProviderEvent::ToolCallEnd { id, arguments, .. } if id == "c|fc_1" && *arguments == json!({ "a": 1 }))));
        assert_eq!(events.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::ToolUse }));
    }
}

#[test]
fn calls_of_servers_that_number_nothing_are_one_each() {
    let item = |name: &str, arguments: &str| json!({ "type": "function_call", "call_id": name, "name": name, "arguments": arguments });
    let mut events = Vec::new();
    for name in ["a", "b"] {
        events.push(json!({ "type": "response.output_item.added", "item": item(name, "") }));
        events.push(json!({ "type": "response.function_call_arguments.delta", "delta": "{}" }));
        events.push(json!({ "type": "response.output_item.done", "item": item(name, "{}") }));
    }
    events.push(completed());
    let events = decode(&events).unwrap();
    let ends: Vec<&str> = events
        .iter()
        .filter_map(|e| if let ProviderEvent::ToolCallEnd { id, .. } = e { Some(id.as_str()) } else { None })
        .collect();
    assert_eq!(ends, ["a", "b"]);
}

#[test]
fn a_call_that_was_cut_by_the_length_does_not_run() {
    let events = decode(&[
        json!({ "type": "response.output_item.added", "output_index": 0, "item": { "type": "function_call", "id": "fc_1", "call_id": "c", "name": "write" } }),
        json!({ "type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{\"path\":\"/e" }),
        done(json!({ "type": "function_call", "id": "fc_1", "call_id": "c", "name": "write", "arguments": "{\"path\":\"/e", "status": "incomplete" })),
        json!({ "type": "response.incomplete", "response": { "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" } } }),
    ])
    .unwrap();
    assert!(!events.iter().any(|e| matches!(e, ProviderEvent::ToolCallEnd { .. })), "{events:?}");
    assert_eq!(events.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::Length }));
}

#[test]
fn ends_that_are_faults() {
    let reason = |event: Value| decode(&[event]).unwrap_err().reason;
    let failed = |code: &str, message: &str| json!({ "type": "response.failed", "response": { "status": "failed", "error": { "code": code, "message": message } } });
    assert_eq!(reason(failed("rate_limit_exceeded", "Rate limit reached")), Reason::RateLimit);
    assert_eq!(reason(failed("server_error", "An error occurred")), Reason::Server);
    assert_eq!(
        reason(failed("context_length_exceeded", "Your input exceeds the context window")),
        Reason::ContextOverflow
    );
    assert_eq!(
        reason(json!({ "type": "error", "code": "insufficient_quota", "message": "x" })),
        Reason::Billing
    );
    assert_eq!(reason(json!({ "type": "response.failed" })), Reason::Server);
    let filtered = json!({ "status": "incomplete", "incomplete_details": { "reason": "content_filter" } });
    assert_eq!(reason(json!({ "type": "response.incomplete", "response": filtered })), Reason::ContentFilter);
    assert_eq!(reason(json!({ "type": "response.output_text.delta", "delta": "half" })), Reason::Truncated);
}
