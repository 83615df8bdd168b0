//! Every api kind against the vendors' double over real sockets.

mod recorded;

use std::time::Duration;

use futures_util::StreamExt;
use harness::model_server::{Call as ScriptedCall, Fault, ModelServer, Reply, Rule, Script, State};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::auth::AuthProfiles;
use super::models::Selected;
use super::types::*;
use super::*;

const KINDS: [&str; 5] =
    ["openai-completions", "openai-responses", "anthropic-messages", "google-generative-ai", "ollama"];
const KEY: &str = "test-key-0123456789";

/// What a caller makes of a stream.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    thinking: String,
    signature: Option<String>,
    text_signature: Option<String>,
    calls: Vec<(String, String, Value)>,
    deltas: String,
    usage: Usage,
    stop: Option<StopReason>,
    /// Reason and whether something had to be thrown away.
    restarts: Vec<(Reason, bool)>,
    error: Option<ProviderError>,
}

async fn hear(mut events: EventStream) -> Heard {
    let mut heard = Heard::default();
    while let Some(event) = events.next().await {
        assert!(heard.stop.is_none() && heard.error.is_none(), "nothing follows the end: {event:?}");
        match event {
            Ok(ProviderEvent::TextDelta { text }) => heard.text.push_str(&text),
            Ok(ProviderEvent::TextEnd { signature }) => heard.text_signature = Some(signature),
            Ok(ProviderEvent::ThinkingDelta { text, signature }) => {
                heard.thinking.push_str(&text);
                heard.signature = signature.or(heard.signature);
            }
            Ok(ProviderEvent::ToolCallStart { .. }) => {}
            Ok(ProviderEvent::ToolCallDelta { json, .. }) => heard.deltas.push_str(&json),
            Ok(ProviderEvent::ToolCallEnd { id, name, arguments, .. }) => {
                heard.calls.push((id, name, arguments))
            }
            Ok(ProviderEvent::Usage(usage)) => heard.usage = usage,
            Ok(ProviderEvent::Restart { reason, discard, .. }) => {
                if discard {
                    (heard.text, heard.thinking, heard.deltas) = Default::default();
                    heard.calls.clear();
                }
                heard.restarts.push((reason, discard));
            }
            Ok(ProviderEvent::Done { stop_reason }) => heard.stop = Some(stop_reason),
            Err(error) => heard.error = Some(error),
        }
    }
    heard
}

struct Bench {
    server: ModelServer,
    models: Models,
    selected: Selected,
}

impl Bench {
    async fn new(kind: &str, script: Script) -> Self {
        let server = ModelServer::start(script).await;
        let config = json!({
            "models": { "providers": { "double": {
                "baseUrl": server.base_url(kind), "api": kind, "apiKey": KEY,
                "models": [{ "id": "m", "reasoning": true, "input": ["text", "image"], "maxTokens": 4000,
                    "cost": { "input": 1.0, "output": 2.0, "cacheRead": 0.5, "cacheWrite": 0.0 } }],
            } } },
            "agents": { "defaults": {
                "model": "double/m",
                "retry": { "maxRetries": 3, "minDelayMs": 1, "maxDelayMs": 3000 },
            } },
        });
        let models = Models::new("main", &config, [], AuthProfiles::default());
        let first = models.chain(None).unwrap().remove(0);
        let mut selected = models.select(&first).unwrap();
        Arc::make_mut(&mut selected.endpoint).deadlines.idle = Duration::from_millis(300);
        Self { server, models, selected }
    }

    async fn hear(&self, request: ModelRequest) -> Heard {
        self.hear_with(request, &RetryBudget::default()).await
    }

    async fn hear_with(&self, request: ModelRequest, budget: &RetryBudget) -> Heard {
        hear(self.models.stream(&self.selected, request, budget, CancellationToken::new())).await
    }
}

fn ask(text: &str) -> ModelRequest {
    let tool = ToolSpec {
        name: "exec".to_owned(),
        description: "runs a command".to_owned(),
        parameters: json!({ "type": "object", "properties": { "command": { "type": "string" } } }),
    };
    ModelRequest {
        system: "be brief".to_owned(),
        messages: vec![Message::user(text)],
        tools: vec![tool],
        ..ModelRequest::default()
    }
}

fn always(reply: Reply) -> Script {
    Script { otherwise: reply, ..Script::default() }
}

/// The fault once, then a good reply.
fn once(reply: Reply) -> Script {
    let rule = Rule { times: Some(1), reply, ..Rule::default() };
    Script { rules: vec![rule], otherwise: Reply::text("all is well"), ..Script::default() }
}

#[tokio::test]
async fn text_thoughts_and_usage_stream_in_every_kind() {
    for kind in KINDS {
        let reply = Reply {
            text: "Grüße, 世界 😀: {echo}".to_owned(),
            thinking: "hm, überlegen".to_owned(),
            input_tokens: 1000,
            output_tokens: 500,
            // One byte at a time: characters and line ends are cut everywhere.
            piece_bytes: Some(1),
            ..Reply::default()
        };
        let bench = Bench::new(kind, always(reply)).await;
        let heard = bench.hear(ask("hello")).await;
        assert!(heard.error.is_none(), "{kind}: {:?}", heard.error);
        assert_eq!(heard.text, "Grüße, 世界 😀: hello", "{kind}");
        assert_eq!(heard.thinking, "hm, überlegen", "{kind}");
        // Google signs the answer, not the thought.
        let signature = if kind == "google-generative-ai" { heard.text_signature } else { heard.signature };
        assert!(signature.is_some(), "{kind}: the thought is closed");
        assert_eq!(heard.stop, Some(StopReason::Stop), "{kind}");
        assert_eq!(
            (heard.usage.input, heard.usage.output, heard.usage.total_tokens),
            (1000, 500, 1500),
            "{kind}"
        );
        assert!((heard.usage.cost.total - 0.002).abs() < 1e-9, "{kind}: {:?}", heard.usage.cost);
    }
}

#[tokio::test]
async fn tool_calls_stream_in_every_kind() {
    for kind in KINDS {
        let call = |name: &str, arguments: Value| ScriptedCall { name: name.to_owned(), arguments, id: None };
        let reply = Reply {
            text: "let me look".to_owned(),
            tool_calls: vec![call("exec", json!({ "command": "echo 'ünï \"q\"'" })), call("exec", json!({}))],
            chunk_chars: 3,
            cached_tokens: 4,
            ..Reply::default()
        };
        let bench = Bench::new(kind, always(reply)).await;
        let heard = bench.hear(ask("go")).await;
        assert!(heard.error.is_none(), "{kind}: {:?}", heard.error);
        assert_eq!(heard.text, "let me look", "{kind}");
        let calls: Vec<_> =
            heard.calls.iter().map(|(_, name, arguments)| (name.as_str(), arguments.clone())).collect();
        assert_eq!(
            calls,
            [("exec", json!({ "command": "echo 'ünï \"q\"'" })), ("exec", json!({}))],
            "{kind}"
        );
        assert_ne!(heard.calls[0].0, heard.calls[1].0, "{kind}: ids differ");
        assert!(heard.deltas.starts_with("{\"command\""), "{kind}: {}", heard.deltas);
        assert_eq!(heard.stop, Some(StopReason::ToolUse), "{kind}");
        let cached = if kind == "ollama" { 0 } else { 4 };
        assert_eq!((heard.usage.input, heard.usage.cache_read), (11, cached), "{kind}");
    }
}

#[tokio::test]
async fn refusals_become_their_class_and_are_not_repeated() {
    let table = [
        (Fault::Auth, Reason::Auth, Some(401)),
        (Fault::Overflow, Reason::ContextOverflow, Some(400)),
        (Fault::NoModel, Reason::ModelNotFound, Some(404)),
        (Fault::Status { status: 402, body: "{}".into() }, Reason::Billing, Some(402)),
        (
            Fault::Status { status: 400, body: "{\"error\":\"bad tool id\"}".into() },
            Reason::Format,
            Some(400),
        ),
        (Fault::Status { status: 308, body: String::new() }, Reason::Format, Some(308)),
    ];
    for kind in KINDS {
        for (fault, reason, status) in &table {
            let bench = Bench::new(kind, always(Reply::fault(fault.clone()))).await;
            let heard = bench.hear(ask("hello")).await;
            let error = heard.error.unwrap_or_else(|| panic!("{kind} {fault:?} gave a reply"));
            let (expected, status) = match (kind, fault) {
                ("anthropic-messages", Fault::Auth) => (Reason::AuthPermanent, status),
                ("google-generative-ai", Fault::Auth) => (Reason::AuthPermanent, &Some(400)),
                _ => (*reason, status),
            };
            assert_eq!((error.reason, error.status), (expected, *status), "{kind} {fault:?}: {error}");
            assert_eq!(bench.server.book().len(), 1, "{kind} {fault:?} was repeated");
            assert!(error.to_string().starts_with("double/m: "), "{error}");
            assert!(!error.to_string().contains(KEY), "{error}");
        }
    }
}

#[tokio::test]
async fn passing_faults_are_repeated_until_the_reply_is_whole() {
    let table = [
        (Fault::RateLimit { retry_after: None }, Reason::RateLimit),
        (Fault::Overloaded, Reason::Overloaded),
        (Fault::Status { status: 500, body: "<html><h1>oops</h1></html>".into() }, Reason::Server),
        (Fault::Status { status: 503, body: "{}".into() }, Reason::Server),
        (Fault::HangUp, Reason::Connection),
        (Fault::Truncate { after: 3 }, Reason::Truncated),
        (Fault::Disconnect { after: 3 }, Reason::Truncated),
        (Fault::Stall { after: 3 }, Reason::Timeout),
        (Fault::Malformed { after: 3 }, Reason::Malformed),
        (Fault::ErrorEvent { after: 3 }, Reason::Server),
    ];
    for kind in KINDS {
        for (fault, reason) in &table {
            // Long enough that three events leave the text unfinished, in every kind.
            let broken = Reply::text("a text that will break off").with_fault(fault.clone());
            let bench = Bench::new(kind, once(broken)).await;
            let heard = bench.hear(ask("hello")).await;
            assert!(heard.error.is_none(), "{kind} {fault:?}: {:?}", heard.error);
            assert_eq!(heard.text, "all is well", "{kind} {fault:?}: the broken attempt is gone");
            assert_eq!(heard.restarts.len(), 1, "{kind} {fault:?}");
            let overloaded = *fault == (Fault::ErrorEvent { after: 3 }) && kind == "anthropic-messages";
            let expected = if overloaded { Reason::Overloaded } else { *reason };
            assert_eq!(heard.restarts[0].0, expected, "{kind} {fault:?}");
            assert_eq!(bench.server.book().len(), 2, "{kind} {fault:?}");
        }
    }
}

#[tokio::test]
async fn text_that_was_seen_is_taken_back() {
    let broken = Reply::text("half a sent").with_fault(Fault::Disconnect { after: 2 });
    let bench = Bench::new("openai-completions", once(broken)).await;
    let heard = bench.hear(ask("hello")).await;
    assert_eq!(heard.restarts, [(Reason::Truncated, true)]);
    assert_eq!(heard.text, "all is well");
}

#[tokio::test]
async fn at_most_four_requests_to_one_model_in_one_turn() {
    for kind in KINDS {
        let bench = Bench::new(kind, always(Reply::fault(Fault::Overloaded))).await;
        let budget = RetryBudget::default();
        let heard = bench.hear_with(ask("hello"), &budget).await;
        assert_eq!(heard.error.unwrap().reason, Reason::Overloaded);
        assert_eq!(bench.server.book().len(), 4, "{kind}");
        // The turn's next call has no repetitions left.
        let heard = bench.hear_with(ask("hello"), &budget).await;
        assert!(heard.restarts.is_empty() && heard.error.is_some());
        assert_eq!(bench.server.book().len(), 5, "{kind}");
    }
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_obeyed() {
    let limited = |after: &str| Reply::fault(Fault::RateLimit { retry_after: Some(after.to_owned()) });
    let bench = Bench::new("openai-completions", once(limited("1"))).await;
    assert_eq!(bench.hear(ask("hello")).await.text, "all is well");
    let book = bench.server.book();
    assert!(book[1].at - book[0].at >= Duration::from_millis(990), "{:?}", book[1].at - book[0].at);

    // A date in the past: at once.
    let bench = Bench::new("openai-completions", once(limited("Sun, 06 Nov 1994 08:49:37 GMT"))).await;
    assert_eq!(bench.hear(ask("hello")).await.text, "all is well");

    // Longer than maxDelayMs: no further request, and the error says how long.
    let bench = Bench::new("openai-completions", always(limited("3600"))).await;
    let error = bench.hear(ask("hello")).await.error.unwrap();
    assert_eq!((error.reason, error.retry_after), (Reason::RateLimit, Some(Duration::from_secs(3600))));
    assert!(error.to_string().contains("3600 s"), "{error}");
    assert_eq!(bench.server.book().len(), 1);
}

#[tokio::test]
async fn cancelling_closes_the_connection() {
    for kind in KINDS {
        let stalled = Reply::text("some words").with_fault(Fault::Stall { after: 4 });
        let mut bench = Bench::new(kind, always(stalled)).await;
        Arc::make_mut(&mut bench.selected.endpoint).deadlines.idle = Duration::from_secs(60);
        let cancel = CancellationToken::new();
        let budget = RetryBudget::default();
        let mut events = bench.models.stream(&bench.selected, ask("hello"), &budget, cancel.clone());
        assert!(events.next().await.unwrap().is_ok());
        let stop = tokio::spawn(async move { hear(events).await });
        cancel.cancel();
        let heard = stop.await.unwrap();
        assert_eq!(heard.error.map(|e| e.reason), Some(Reason::Cancelled), "{kind}");
        bench.server.wait_for("the client leaving", |b| b[0].state == State::LeftByClient).await;
    }
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let stalled = Reply::text("some words").with_fault(Fault::Stall { after: 3 });
    let bench = Bench::new("openai-completions", always(stalled)).await;
    let budget = RetryBudget::default();
    let mut events = bench.models.stream(&bench.selected, ask("hello"), &budget, CancellationToken::new());
    assert!(events.next().await.unwrap().is_ok());
    drop(events);
    bench.server.wait_for("the client leaving", |b| b[0].state == State::LeftByClient).await;
}

#[tokio::test]
async fn late_headers_are_a_time_out() {
    let mut bench = Bench::new("ollama", always(Reply::fault(Fault::SlowHeaders { ms: 60_000 }))).await;
    let endpoint = Arc::make_mut(&mut bench.selected.endpoint);
    (endpoint.deadlines.connect, endpoint.deadlines.header) = (Duration::ZERO, Duration::from_millis(200));
    endpoint.deadlines.connect = Duration::from_millis(100);
    let error = bench.hear(ask("hello")).await.error.unwrap();
    assert_eq!(error.reason, Reason::Timeout);
    assert!(error.to_string().contains("LLM request timed out"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_said_with_address_and_remedy() {
    let bench = Bench::new("ollama", Script::default()).await;
    let address = bench.server.url();
    let (models, selected) = (bench.models, bench.selected);
    drop(bench.server);
    let heard =
        hear(models.stream(&selected, ask("hello"), &RetryBudget::default(), CancellationToken::new())).await;
    let error = heard.error.unwrap();
    assert_eq!((error.reason, heard.restarts.len()), (Reason::Connection, 3));
    let said = error.to_string();
    assert!(said.contains(&address) && said.contains("baseUrl"), "{said}");
}

#[tokio::test]
async fn connections_are_used_again() {
    let bench = Bench::new("openai-completions", Script::default()).await;
    for _ in 0..3 {
        assert!(bench.hear(ask("hello")).await.error.is_none());
    }
    let book = bench.server.book();
    assert_eq!(book.len(), 3);
    assert_eq!(book[0].headers["authorization"], format!("Bearer {KEY}"));
    assert!(book.iter().all(|e| e.state == State::Answered));
}

#[tokio::test]
async fn a_reply_that_does_not_stream_is_taken_too() {
    let whole = json!({
        "choices": [{ "message": { "role": "assistant", "content": "in one piece", "tool_calls": [
            { "id": "a", "type": "function", "function": { "name": "exec", "arguments": "{\"command\":\"ls\"}" } } ] },
            "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7 },
    });
    let reply = Reply::fault(Fault::Status { status: 200, body: whole.to_string() });
    let bench = Bench::new("openai-completions", always(reply)).await;
    let heard = bench.hear(ask("hello")).await;
    assert_eq!(heard.text, "in one piece");
    assert_eq!(heard.calls, [("a".to_owned(), "exec".to_owned(), json!({ "command": "ls" }))]);
    assert_eq!((heard.stop, heard.usage.total_tokens), (Some(StopReason::ToolUse), 7));
}

#[tokio::test]
async fn a_refused_thinking_level_is_lowered() {
    let body = json!({ "error": { "message": "Unsupported value: 'reasoning_effort' does not support 'high' with this model. Supported values are: 'low' and 'medium'.", "param": "reasoning_effort" } });
    let refusal = Reply::fault(Fault::Status { status: 400, body: body.to_string() });
    let bench = Bench::new("openai-completions", once(refusal)).await;
    let request = ModelRequest { thinking: ThinkingLevel::High, ..ask("hello") };
    let heard = bench.hear(request).await;
    assert_eq!(heard.text, "all is well");
    let efforts: Vec<Value> =
        bench.server.book().iter().map(|e| e.body["reasoning_effort"].clone()).collect();
    assert_eq!(efforts, [json!("high"), json!("medium")]);
}

#[tokio::test]
async fn a_missing_key_is_said_before_anything_is_sent() {
    let models = Models::new("main", &json!({}), [], AuthProfiles::default());
    let selected = models.select(&models.chain(Some("openrouter/moonshotai/kimi-k2.5")).unwrap()[0]).unwrap();
    let heard =
        hear(models.stream(&selected, ask("hello"), &RetryBudget::default(), CancellationToken::new())).await;
    let error = heard.error.unwrap();
    assert_eq!((error.reason, heard.restarts.len()), (Reason::MissingKey, 0));
    assert!(error.to_string().contains("OPENROUTER_API_KEY"), "{error}");
}

#[tokio::test]
async fn a_web_page_instead_of_an_api_is_said_at_once() {
    let page = Reply::fault(Fault::Status { status: 200, body: "<html>welcome</html>".into() });
    for kind in KINDS {
        let bench = Bench::new(kind, always(page.clone())).await;
        let error = bench.hear(ask("hello")).await.error.unwrap();
        assert_eq!((error.reason, bench.server.book().len()), (Reason::Format, 1), "{kind}: {error}");
        assert!(error.to_string().contains("baseUrl"), "{error}");
    }
}

#[tokio::test]
async fn tls_to_a_server_without_it_fails_readably() {
    let mut bench = Bench::new("anthropic-messages", Script::default()).await;
    let url = bench.server.url().replace("http:", "https:");
    Arc::make_mut(&mut bench.selected.endpoint).base_url = url.clone();
    let error = bench.hear(ask("hello")).await.error.unwrap();
    assert_eq!(error.reason, Reason::Connection);
    assert!(error.to_string().contains(&url), "{error}");
    assert!(bench.server.book().is_empty());
}

#[tokio::test]
async fn the_next_key_is_tried_when_one_is_refused() {
    let server = ModelServer::start(Script { key: Some("good".into()), ..Script::default() }).await;
    let config = json!({
        "models": { "providers": { "double": { "baseUrl": server.openai_url(), "apiKey": "good" } } },
        "agents": { "defaults": { "model": "double/m" } },
    });
    let secrets = [("DOUBLE_API_KEY".to_owned(), "bad".to_owned())];
    let models = Models::new("main", &config, secrets, AuthProfiles::default());
    let selected = models.select(&models.chain(None).unwrap()[0]).unwrap();
    let budget = RetryBudget::default();
    let heard = hear(models.stream(&selected, ask("hello"), &budget, CancellationToken::new())).await;
    assert_eq!(
        (heard.text.as_str(), heard.restarts.as_slice()),
        ("You said: hello", &[(Reason::Auth, false)][..])
    );
    assert_eq!(budget.used("double/m"), 1);
    let sent: Vec<String> = server.book().iter().map(|e| e.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer bad", "Bearer good"]);
}
