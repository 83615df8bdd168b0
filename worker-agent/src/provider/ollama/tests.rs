use serde_json::{Value, json};

use crate::provider::fixtures;
use crate::provider::thinking::ThinkingLevel;
use crate::provider::types::{Message, ModelRequest};

fn body(id: &str, request: ModelRequest) -> Value {
    super::request::body(&fixtures::call("ollama", "ollama", "http://127.0.0.1:11434", id, request))
}

#[test]
fn a_conversation() {
    let mut request = fixtures::conversation(ThinkingLevel::Low);
    request.params.insert("options".into(), json!({ "top_k": 5 }));
    insta::assert_json_snapshot!(body("qwen3:8b", request));
}

#[test]
fn thinking_is_a_switch_or_a_level() {
    let think =
        |id: &str, thinking| body(id, ModelRequest { thinking, ..ModelRequest::default() })["think"].clone();
    assert_eq!(think("qwen3", ThinkingLevel::Off), json!(false));
    assert_eq!(think("qwen3", ThinkingLevel::High), json!(true));
    assert_eq!(think("gpt-oss:20b", ThinkingLevel::Medium), json!("medium"));
}

#[test]
fn a_model_sees_the_thoughts_before_its_own_calls() {
    let mut request = fixtures::conversation(ThinkingLevel::Low);
    let thinking = |request: &ModelRequest| body("qwen3", request.clone())["messages"][2]["thinking"].clone();
    assert_eq!(thinking(&request), Value::Null, "not those of another");
    if let Some(Message::Assistant(answer)) = request.messages.get_mut(1) {
        (answer.api, answer.model) = ("ollama".into(), "qwen3".into());
    }
    assert_eq!(thinking(&request), "let me see");
}

#[test]
fn base_urls_of_either_door() {
    for base in ["http://h:11434", "http://h:11434/v1", "http://h:11434/api"] {
        assert_eq!(super::url(base), "http://h:11434/api/chat");
    }
}
