use std::collections::VecDeque;

use serde_json::{Value, json};

use super::decode::Decode;
use crate::provider::exchange::{Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{Block, ModelRequest, ProviderEvent, StopReason, UserMessage};
use crate::provider::types::{Content, Message, Usage};
use crate::provider::{fixtures, thinking::ThinkingLevel};

fn body(provider: &str, url: &str, id: &str, request: ModelRequest) -> Value {
    super::request::body(&fixtures::call("openai-completions", provider, url, id, request))
}

#[test]
fn a_conversation_for_openai() {
    let request = ModelRequest { temperature: Some(0.5), ..fixtures::conversation(ThinkingLevel::Xhigh) };
    insta::assert_json_snapshot!(body("openai", "https://api.openai.com/v1", "gpt-5.2", request));
}

#[test]
fn a_conversation_for_openrouter() {
    let mut request = fixtures::conversation(ThinkingLevel::Low);
    request.params.insert("provider".into(), json!({ "order": ["anthropic"] }));
    insta::assert_json_snapshot!(body(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "anthropic/claude-opus-4.6",
        request
    ));
}

#[test]
fn a_conversation_for_a_local_server() {
    let mut request = fixtures::conversation(ThinkingLevel::Off);
    request.tools.clear();
    insta::assert_json_snapshot!(body("llamacpp", "http://127.0.0.1:8080/v1", "m", request));
}

#[test]
fn openrouter_is_told_who_asks_and_thinking_off_sends_nothing() {
    let call = fixtures::call(
        "openai-completions",
        "openrouter",
        "https://openrouter.ai/api/v1",
        "x/y",
        ModelRequest::default(),
    );
    let headers = super::headers(&call);
    assert_eq!(headers["authorization"], "Bearer fixture-key");
    assert!(headers.contains_key("http-referer") && headers.contains_key("x-title"));
    assert_eq!(super::request::body(&call).get("reasoning"), None);
}

#[test]
fn caches_follow_the_retention() {
    let with = |provider: &str, url: &str, id: &str, retention: &str| {
        let mut request = fixtures::conversation(ThinkingLevel::Off);
        request.params.insert("cacheRetention".into(), json!(retention));
        body(provider, url, id, request)
    };
    let openai = |retention| with("openai", "https://api.openai.com/v1", "gpt-5.2", retention);
    assert_eq!(openai("none").get("prompt_cache_key"), None);
    assert_eq!(openai("short").get("prompt_cache_retention"), None);
    assert_eq!(openai("long")["prompt_cache_retention"], "24h");
    let router = |retention| {
        with("openrouter", "https://openrouter.ai/api/v1", "anthropic/claude-opus-4.6", retention)
    };
    let mark = |body: Value| body["messages"][0]["content"][0]["cache_control"].clone();
    assert_eq!(mark(router("long")), json!({ "type": "ephemeral", "ttl": "1h" }));
    assert_eq!(mark(router("none")), Value::Null);
}

#[test]
fn arguments_stream_from_zai_when_wanted() {
    let mut request = fixtures::conversation(ThinkingLevel::Low);
    request.params.insert("tool_stream".into(), json!(true));
    let zai = body("zai", "https://api.z.ai/api/paas/v4", "glm-5", request.clone());
    assert_eq!((&zai["tool_stream"], &zai["thinking"]["type"]), (&json!(true), &json!("enabled")));
    assert_eq!(body("p", "http://h", "m", request).get("tool_stream"), None);
}

#[test]
fn mistral_gets_ids_of_nine_characters_that_still_match() {
    let body =
        body("mistral", "https://api.mistral.ai/v1", "large", fixtures::conversation(ThinkingLevel::Off));
    let messages = body["messages"].as_array().unwrap();
    let call = messages.iter().find_map(|m| m["tool_calls"][0]["id"].as_str()).unwrap();
    let result = messages.iter().find(|m| m["role"] == "tool").unwrap();
    assert_eq!((call.len(), call), (9, result["tool_call_id"].as_str().unwrap()));
    assert_eq!(result["name"], "exec");
}

#[test]
fn pictures_are_left_out_for_models_that_read_text_only() {
    let picture = Block::Image { data: "QUJD".into(), mime_type: "image/png".into() };
    let content = Content::Blocks(vec![Block::text("look"), picture]);
    let user = Message::User(UserMessage { content, timestamp: 0 });
    let mut call = fixtures::call(
        "openai-completions",
        "p",
        "http://h",
        "m",
        ModelRequest { messages: vec![user], ..ModelRequest::default() },
    );
    assert_eq!(
        super::request::body(&call)["messages"][0]["content"][1]["image_url"]["url"],
        "data:image/png;base64,QUJD"
    );
    std::sync::Arc::make_mut(&mut call.model).input.pop();
    assert_eq!(super::request::body(&call)["messages"][0]["content"], "look");
}

fn decode(chunks: &[Value]) -> Result<Vec<ProviderEvent>, Fault> {
    let (mut decoder, mut out) = (Decode::default(), VecDeque::new());
    for chunk in chunks {
        let data = chunk.as_str().map_or_else(|| chunk.to_string(), str::to_owned);
        decoder.frame(&Frame { event: String::new(), data }, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out.into())
}

fn delta(delta: Value) -> Value {
    json!({ "choices": [{ "delta": delta }] })
}

fn end(reason: &str) -> Value {
    json!({ "choices": [{ "delta": {}, "finish_reason": reason }] })
}

fn calls(events: &[ProviderEvent]) -> Vec<(String, String, Value)> {
    events
        .iter()
        .filter_map(|e| match e {
            ProviderEvent::ToolCallEnd { id, name, arguments, .. } => {
                Some((id.clone(), name.clone(), arguments.clone()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn tool_calls_in_the_forms_of_several_vendors() {
    let part = |call: Value| delta(json!({ "tool_calls": [call] }));
    let function = |name: &str, arguments: &str| json!({ "name": name, "arguments": arguments });
    let both =
        [("a".to_owned(), "f".to_owned(), json!({ "x": 1 })), ("b".to_owned(), "g".to_owned(), json!({}))];
    // Google numbers every call 0; each is whole.
    let zero = [
        part(json!({ "index": 0, "id": "a", "function": function("f", "{\"x\":1}") })),
        part(json!({ "index": 0, "id": "b", "function": function("g", "{}") })),
        end("stop"),
    ];
    assert_eq!(calls(&decode(&zero).unwrap()), both);
    // No index at all, the id repeated in every piece.
    let unnumbered = [
        part(json!({ "id": "a", "function": function("f", "{\"x\"") })),
        part(json!({ "id": "a", "function": { "arguments": ":1}" } })),
        part(json!({ "id": "b", "function": { "name": "g", "arguments": {} } })),
        json!("[DONE]"),
    ];
    let events = decode(&unnumbered).unwrap();
    assert_eq!(calls(&events), both);
    assert_eq!(events.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::ToolUse }));
    // Interleaved pieces.
    let interleaved = [
        part(json!({ "index": 0, "id": "a", "function": function("f", "") })),
        part(json!({ "index": 1, "id": "b", "function": function("g", "") })),
        part(json!({ "index": 0, "function": { "arguments": "{\"x\":1}" } })),
        end("tool_calls"),
    ];
    assert_eq!(calls(&decode(&interleaved).unwrap()), both);
    let old = [delta(json!({ "function_call": function("f", "{}") })), end("function_call")];
    let found = calls(&decode(&old).unwrap());
    assert!(found[0].0.starts_with("call_") && found[0].1 == "f", "an id is made up: {found:?}");
}

#[test]
fn a_call_that_was_cut_by_the_length_does_not_run() {
    let cut = json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "write", "arguments": "{\"path\":\"/e" } }] });
    let events = decode(&[delta(cut), end("length")]).unwrap();
    assert!(calls(&events).is_empty());
    assert_eq!(events.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::Length }));
    // Not JSON, but complete by the server's word: the tool gets to see and refuse it.
    let broken = json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "write", "arguments": "path=/e" } }] });
    assert_eq!(
        calls(&decode(&[delta(broken), end("tool_calls")]).unwrap())[0].2,
        json!({ "_raw": "path=/e" })
    );
}

#[test]
fn thoughts_of_every_field_and_encrypted_ones() {
    for field in ["reasoning_content", "reasoning", "reasoning_text"] {
        let events =
            decode(&[delta(json!({ field: "hm" })), delta(json!({ "content": "so" })), end("stop")]).unwrap();
        assert_eq!(events[0], ProviderEvent::ThinkingDelta { text: "hm".into(), signature: None });
        assert_eq!(
            events[1],
            ProviderEvent::ThinkingDelta { text: String::new(), signature: Some(field.into()) }
        );
        assert_eq!(events[2], ProviderEvent::TextDelta { text: "so".into() });
    }
    let events = decode(&[
        delta(json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{}" } }] })),
        delta(json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "id": "a", "data": "xyz" }] })),
        end("tool_calls"),
    ])
    .unwrap();
    let kept = events.iter().find_map(|e| match e {
        ProviderEvent::ToolCallEnd { thought_signature, .. } => thought_signature.clone(),
        _ => None,
    });
    assert!(kept.unwrap().contains("xyz"));
}

#[test]
fn usage_of_several_vendors() {
    let read = |usage: Value| {
        let events = decode(&[json!({ "choices": [], "usage": usage }), json!("[DONE]")]).unwrap();
        let usage = events.iter().find_map(|e| if let ProviderEvent::Usage(u) = e { Some(*u) } else { None });
        let Usage { input, output, cache_read, total_tokens, .. } = usage.unwrap();
        (input, output, cache_read, total_tokens)
    };
    let cached = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": { "cached_tokens": 60 }, "completion_tokens_details": { "reasoning_tokens": 15 } });
    assert_eq!(read(cached), (40, 20, 60, 120), "reasoning is part of OpenAI's completion");
    let on_top = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 135, "completion_tokens_details": { "reasoning_tokens": 15 } });
    assert_eq!(read(on_top), (100, 35, 0, 135), "and comes on top of xAI's");
    assert_eq!(
        read(json!({ "prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 5 })),
        (4, 1, 5, 10)
    );
}

#[test]
fn ends_that_are_faults() {
    let reason = |chunks: &[Value]| decode(chunks).unwrap_err().reason;
    assert_eq!(reason(&[delta(json!({ "content": "half" }))]), Reason::Truncated);
    assert_eq!(reason(&[end("content_filter")]), Reason::ContentFilter);
    assert_eq!(reason(&[end("error")]), Reason::Server);
    assert_eq!(
        reason(&[json!({ "error": { "code": 429, "message": "slow" }, "choices": [] })]),
        Reason::RateLimit
    );
    assert_eq!(reason(&[json!("{\"choices\"")]), Reason::Malformed);
    assert!(decode(&[delta(json!({ "content": "no finish" })), json!("[DONE]")]).is_ok());
}
