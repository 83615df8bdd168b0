use std::collections::VecDeque;

use serde_json::{Value, json};

use super::decode::Decode;
use crate::provider::exchange::Decoder;
use crate::provider::failure::Reason;
use crate::provider::fixtures;
use crate::provider::model::Secret;
use crate::provider::sse::Frame;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::{Message, ModelRequest, ProviderEvent};

const URL: &str = "https://api.anthropic.com";

fn body(id: &str, request: ModelRequest) -> Value {
    super::request::body(&fixtures::call("anthropic-messages", "anthropic", URL, id, request))
}

#[test]
fn a_conversation_with_the_model_that_thought() {
    let body = body("claude-opus-4-6", fixtures::conversation(ThinkingLevel::Medium));
    insta::assert_json_snapshot!(body);
}

#[test]
fn foreign_thoughts_stay_away() {
    let body = body("claude-haiku-4-5", fixtures::conversation(ThinkingLevel::Off));
    assert!(!body.to_string().contains("let me see") && body.get("thinking").is_none());
}

#[test]
fn budgets_leave_room_for_the_reply() {
    let with = |level| {
        let request = ModelRequest {
            thinking: level,
            max_tokens: Some(2000),
            temperature: Some(0.1),
            ..ModelRequest::default()
        };
        let body = body("claude-sonnet-4-5", request);
        (
            body["max_tokens"].as_u64(),
            body["thinking"]["budget_tokens"].as_u64(),
            body["temperature"].is_null(),
        )
    };
    assert_eq!(with(ThinkingLevel::Off), (Some(2000), None, false));
    assert_eq!(with(ThinkingLevel::Minimal), (Some(3024), Some(1024), true));
    assert_eq!(with(ThinkingLevel::High), (Some(18_384), Some(16_384), true));
}

#[test]
fn newer_models_take_an_effort_instead_of_a_budget() {
    let kind = |id: &str| {
        let request = ModelRequest { thinking: ThinkingLevel::Low, ..ModelRequest::default() };
        body(id, request)["thinking"]["type"].as_str().map(str::to_owned)
    };
    for id in ["claude-opus-4-6", "claude-sonnet-4.6", "claude-opus-5-20270101", "claude-sonnet-4-7"] {
        assert_eq!(kind(id).as_deref(), Some("adaptive"), "{id}");
    }
    for id in ["claude-opus-4-5", "claude-opus-4-20250514", "claude-3-7-sonnet-20250219", "claude-haiku-4-5"]
    {
        assert_eq!(kind(id).as_deref(), Some("enabled"), "{id}");
    }
}

#[test]
fn a_step_that_was_begun_without_a_thought_ends_without_one() {
    let at_results = |id: &str| {
        let mut request = fixtures::conversation(ThinkingLevel::Low);
        request.messages.truncate(4);
        body(id, request)
    };
    // The calls are by claude-opus-4-6: another model has no thought of its own before them.
    assert_eq!(at_results("claude-sonnet-4-5").get("thinking"), None);
    assert_eq!(at_results("claude-opus-4-6")["thinking"]["type"], "adaptive");
    let later = body("claude-sonnet-4-5", fixtures::conversation(ThinkingLevel::Low));
    assert_eq!(later["thinking"]["type"], "enabled", "the next turn thinks again");
}

#[test]
fn a_failed_tools_picture_stays_away() {
    let mut request = fixtures::conversation(ThinkingLevel::Off);
    let images = |request: &ModelRequest| {
        body("claude-opus-4-6", request.clone()).to_string().matches("\"type\":\"image\"").count()
    };
    assert_eq!(images(&request), 2);
    if let Some(Message::ToolResult(result)) = request.messages.get_mut(3) {
        result.is_error = true;
    }
    assert_eq!(images(&request), 1);
}

#[test]
fn cache_points_follow_the_retention() {
    let with = |retention: Value| {
        let mut request = ModelRequest {
            system: "s".into(),
            messages: vec![Message::user("u")],
            ..ModelRequest::default()
        };
        request.params.insert("cacheRetention".into(), retention);
        let body = body("claude-haiku-4-5", request);
        assert_eq!(body["system"][0]["cache_control"], body["messages"][0]["content"][0]["cache_control"]);
        body["system"][0]["cache_control"].clone()
    };
    assert_eq!(with(json!("none")), Value::Null);
    assert_eq!(with(json!("short")), json!({ "type": "ephemeral" }));
    assert_eq!(with(json!("long")), json!({ "type": "ephemeral", "ttl": "1h" }));
}

#[test]
fn keys_and_tokens_go_into_different_headers() {
    let mut request = ModelRequest::default();
    request.params.insert("context1m".into(), json!(true));
    let mut call = fixtures::call("anthropic-messages", "anthropic", URL, "m", request);
    let headers = super::headers(&call);
    assert_eq!(
        (headers.get("x-api-key").map(String::as_str), headers.get("authorization")),
        (Some("fixture-key"), None)
    );
    assert!(headers["anthropic-beta"].contains("context-1m"));
    let endpoint = std::sync::Arc::make_mut(&mut call.endpoint);
    endpoint.key = Some(Secret::new("sk-ant-oat01-x"));
    let headers = super::headers(&call);
    assert_eq!(
        (headers.get("x-api-key"), headers["authorization"].as_str()),
        (None, "Bearer sk-ant-oat01-x")
    );
    assert!(
        headers["anthropic-beta"].contains("oauth-2025-04-20")
            && !headers["anthropic-beta"].contains("context-1m")
    );
    assert_eq!(super::url("https://h/v1"), "https://h/v1/messages");
    assert_eq!(super::url("https://h"), "https://h/v1/messages");
}

#[test]
fn redacted_thoughts_and_inputs_without_deltas() {
    let events = [
        json!({ "type": "message_start", "message": { "usage": { "input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "redacted_thinking", "data": "ZW5j" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } } }),
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "something_new" }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ];
    let (mut decoder, mut out) = (Decode::default(), VecDeque::new());
    for event in &events {
        decoder.frame(&Frame { event: String::new(), data: event.to_string() }, &mut out).unwrap();
    }
    assert!(decoder.ended());
    decoder.finish(&mut out).unwrap();
    let redacted =
        ProviderEvent::ThinkingDelta { text: String::new(), signature: Some("redacted:ZW5j".into()) };
    assert!(out.contains(&redacted));
    assert!(out.iter().any(
        |e| matches!(e, ProviderEvent::ToolCallEnd { arguments, .. } if *arguments == json!({ "a": 1 }))
    ));
    let usage =
        out.iter().rev().find_map(|e| if let ProviderEvent::Usage(u) = e { Some(*u) } else { None }).unwrap();
    assert_eq!(
        (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.total_tokens),
        (3, 9, 5, 7, 24)
    );
}

#[test]
fn faults_in_the_stream() {
    let reason = |event: Value| {
        let mut decoder = Decode::default();
        decoder
            .frame(&Frame { event: String::new(), data: event.to_string() }, &mut VecDeque::new())
            .unwrap_err()
            .reason
    };
    let error = |kind: &str| json!({ "type": "error", "error": { "type": kind, "message": "m" } });
    assert_eq!(reason(error("overloaded_error")), Reason::Overloaded);
    assert_eq!(reason(error("rate_limit_error")), Reason::RateLimit);
    assert_eq!(reason(error("api_error")), Reason::Server);
    assert_eq!(reason(error("invalid_request_error")), Reason::Format);
    assert_eq!(
        reason(json!({ "type": "message_delta", "delta": { "stop_reason": "refusal" } })),
        Reason::ContentFilter
    );
    assert_eq!(Decode::default().finish(&mut VecDeque::new()).unwrap_err().reason, Reason::Truncated);
}
