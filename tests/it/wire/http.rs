//! HTTP answers, as the later release gives them.

use bytes::Bytes;
use harness::gateway::{TOKEN, TestGateway};
use harness::http::{Answer, get, post_json, request};
use hyper::Method;
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/chat/completions";

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn error(message: &str, kind: &str) -> Value {
    json!({"error": {"message": message, "type": kind}})
}

async fn post(gateway: &TestGateway, token: Option<&str>, body: impl Into<Bytes>) -> Answer {
    request(gateway.port, Method::POST, COMPLETIONS, token, &[], body.into()).await.expect("an answer")
}

#[tokio::test]
async fn probes_answer_without_a_token() {
    let gateway = TestGateway::start().await;
    for path in ["/health", "/healthz", "/ready", "/readyz", "/startup", "/startupz"] {
        let answer = get(gateway.port, path, None).await.expect("an answer");
        assert_eq!((answer.status, header(&answer, "cache-control")), (200, "no-store"), "{path}");
        assert_eq!(header(&answer, "content-type"), "application/json; charset=utf-8", "{path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        let body = answer.json();
        match path.trim_end_matches('z') {
            "/health" => assert_eq!(body, json!({"ok": true, "status": "live"})),
            "/ready" => {
                assert_eq!((&body["ready"], &body["failing"]), (&json!(true), &json!([])), "{body}");
                assert!(body["uptimeMs"].is_u64(), "{body}");
            }
            _ => {
                assert_eq!((&body["ok"], &body["status"]), (&json!(true), &json!("started")), "{body}");
                assert!(body["version"].is_string() && body["uptimeMs"].is_u64(), "{body}");
            }
        }
        let head =
            request(gateway.port, Method::HEAD, path, None, &[], Bytes::new()).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let posted =
            request(gateway.port, Method::POST, path, None, &[], Bytes::new()).await.expect("an answer");
        assert_eq!((posted.status, header(&posted, "allow")), (405, "GET, HEAD"), "{path}");
        assert_eq!(posted.text(), "Method Not Allowed");
    }
}

#[tokio::test]
async fn a_refused_bearer_is_logged_without_what_was_sent() {
    let gateway = TestGateway::start().await;
    assert_eq!(post(&gateway, Some("guessed~secret~1"), "{}").await.status, 401);
    assert_eq!(post(&gateway, None, "{}").await.status, 401);
    let refused = async || {
        let log = gateway.log();
        let lines: Vec<String> =
            log.lines().filter(|line| line.contains("request refused")).map(str::to_owned).collect();
        (!lines.is_empty()).then_some(lines)
    };
    let lines = harness::wait::until("a line", refused).await;
    assert_eq!(lines.len(), 1, "who sends none makes no try: {lines:?}");
    for part in ["127.0.0.1", COMPLETIONS, "AUTH_TOKEN_MISMATCH"] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    assert!(!gateway.log().contains("guessed~secret~1"));
}

#[tokio::test]
async fn completions_refuse_as_recorded() {
    let gateway = TestGateway::start().await;
    let good = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hello"}]}).to_string();
    for token in [None, Some("wrong")] {
        let answer = post(&gateway, token, good.clone()).await;
        assert_eq!((answer.status, answer.json()), (401, error("Unauthorized", "unauthorized")));
    }
    let answer = get(gateway.port, COMPLETIONS, Some(TOKEN)).await.expect("an answer");
    assert_eq!(
        (answer.status, header(&answer, "allow"), answer.text().as_str()),
        (405, "POST", "Method Not Allowed")
    );
    let answer = post(&gateway, Some(TOKEN), "{bad").await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    let system = json!({"model": "openclaw", "messages": [{"role": "system", "content": "x"}]}).to_string();
    for body in ["{}", system.as_str()] {
        let answer = post(&gateway, Some(TOKEN), body.to_owned()).await;
        let expected = error("Missing user message in `messages`.", "invalid_request_error");
        assert_eq!((answer.status, answer.json()), (400, expected), "{body}");
    }
    let answer = post(&gateway, Some(TOKEN), "[]").await;
    let expected = error(": Invalid input: expected object, received array", "invalid_request_error");
    assert_eq!((answer.status, answer.json()), (400, expected));
    for model in ["gpt-4", "openclaw:nobody", "openclaw/nobody"] {
        let body = good.replace(r#""openclaw""#, &format!("{model:?}"));
        let answer = post(&gateway, Some(TOKEN), body).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{model}"
        );
    }
    let answer = get(gateway.port, "/v1/nothing", Some(TOKEN)).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (404, "Not Found"));
}

#[tokio::test]
async fn a_body_of_more_than_20_mib_is_refused() {
    let gateway = TestGateway::start().await;
    let body = |bytes: usize| {
        let pad = "a".repeat(bytes);
        json!({"model": "openclaw", "messages": [{"role": "system", "content": pad}]}).to_string()
    };
    let answer = post(&gateway, Some(TOKEN), body(20 * 1024 * 1024)).await;
    let expected = error("Payload too large", "invalid_request_error");
    assert_eq!((answer.status, answer.json()), (413, expected));
    let answer = post(&gateway, Some(TOKEN), body(20 * 1024 * 1024 - 1024)).await;
    assert_eq!(answer.status, 400, "read, and without a user message");
}

#[tokio::test]
async fn a_completion_has_the_recorded_form() {
    let gateway = TestGateway::start().await;
    let body = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hello http"}]});
    let answer = post_json(gateway.port, COMPLETIONS, Some(TOKEN), &body).await.expect("an answer");
    assert_eq!((answer.status, header(&answer, "content-type")), (200, "application/json; charset=utf-8"));
    let whole = answer.json();
    assert!(whole["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl_")), "{whole}");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("openclaw")));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{whole}");

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let answer = post_json(gateway.port, COMPLETIONS, Some(TOKEN), &streamed).await.expect("an answer");
    assert_eq!(header(&answer, "content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(header(&answer, "cache-control"), "no-cache");
    let text = answer.text();
    let mut lines = text.split("\n\n").filter_map(|block| block.strip_prefix("data: ")).collect::<Vec<_>>();
    assert_eq!(lines.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant", "{}", chunks[0]);
    let (usage, stop) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]);
    assert_eq!((&usage["choices"], usage["usage"]["total_tokens"].is_u64()), (&json!([]), true), "{usage}");
    assert_eq!(
        (&stop["choices"][0]["finish_reason"], &stop["choices"][0]["delta"]),
        (&json!("stop"), &json!({}))
    );
}

#[tokio::test]
async fn models_are_the_agents() {
    let gateway = TestGateway::start().await;
    let answer = get(gateway.port, "/v1/models", None).await.expect("an answer");
    assert_eq!((answer.status, answer.json()), (401, error("Unauthorized", "unauthorized")));
    let row = |id: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": "openclaw", "permission": []});
    let answer = get(gateway.port, "/v1/models", Some(TOKEN)).await.expect("an answer");
    let all = ["openclaw", "openclaw/default", "openclaw/main"].map(row);
    assert_eq!((answer.status, answer.json()), (200, json!({"object": "list", "data": all})));
    let answer = get(gateway.port, "/v1/models/openclaw%2Fdefault", Some(TOKEN)).await.expect("an answer");
    assert_eq!((answer.status, answer.json()), (200, row("openclaw/default")));
    let answer = get(gateway.port, "/v1/models/nope", Some(TOKEN)).await.expect("an answer");
    assert_eq!((answer.status, answer.json()), (400, error("Invalid model id.", "invalid_request_error")));
}
