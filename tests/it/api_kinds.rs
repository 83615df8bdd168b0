//! Every api kind through a real gateway: text, reasoning, tools and pictures there and back, and what the user hears
//! when the vendor's server fails.

use harness::gateway::{Builder, TestGateway};
use harness::model_server::{Entry, Fault, ModelServer, Reply, Rule, Script};
use harness::npm_clients;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

const KINDS: [&str; 5] =
    ["openai-completions", "openai-responses", "anthropic-messages", "google-generative-ai", "ollama"];

/// A gateway with one provider and one agent per kind, all at the server with this URL. An agent knows no other model.
fn builder(url: &str) -> Builder {
    let provider = |kind: &str| {
        let base = if kind.starts_with("openai-") { format!("{url}/v1") } else { url.to_owned() };
        let described = json!({
            "id": "m", "reasoning": true, "input": ["text", "image"], "contextWindow": 64000, "maxTokens": 1000,
            "cost": {"input": 10.0, "output": 100.0, "cacheRead": 1.0, "cacheWrite": 0.0},
        });
        json!({"baseUrl": base, "apiKey": "sk-test-0123456789", "api": kind, "models": [described]})
    };
    let providers: serde_json::Map<String, Value> =
        KINDS.iter().map(|kind| (provider_id(kind), provider(kind))).collect();
    let agent = |kind: &&str| json!({"id": kind, "model": format!("{}/m", provider_id(kind))});
    TestGateway::builder().config(json!({
        "models": {"mode": "merge", "providers": providers},
        "agents": {
            "defaults": {"retry": {"minDelayMs": 10}, "skipBootstrap": true},
            "list": KINDS.iter().map(agent).collect::<Vec<_>>(),
        },
    }))
}

fn provider_id(kind: &str) -> String {
    format!("of-{kind}")
}

async fn scene(script: Script) -> (TestGateway, ModelServer, WsClient) {
    let model = ModelServer::start(script).await;
    let gateway = builder(&model.url()).start().await;
    let client = WsClient::cli(gateway.port, 4).await;
    (gateway, model, client)
}

/// One turn of the agent of this kind; gives the terminal `chat` event.
async fn turn(client: &mut WsClient, kind: &str, session: &str, params: Value) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    let mut all = json!({"sessionKey": format!("agent:{kind}:{session}"), "idempotencyKey": key});
    harness::gateway::merge(&mut all, &params);
    client.call("agent", all).await.expect("accepted");
    client.chat_end(&key).await
}

/// The assistant's messages of a session's transcript, in order.
fn assistants(gateway: &TestGateway, kind: &str, session: &str) -> Vec<Value> {
    let dir = gateway.state_dir().join(format!("agents/{kind}/sessions"));
    let index: Value = serde_json::from_str(
        &std::fs::read_to_string(dir.join("sessions.json")).expect("an index of sessions"),
    )
    .expect("JSON");
    let id = index[format!("agent:{kind}:{session}")]["sessionId"].as_str().expect("a session id").to_owned();
    let text = std::fs::read_to_string(dir.join(format!("{id}.jsonl"))).expect("a transcript");
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSONL"));
    let messages = entries.filter(|entry| entry["type"] == "message").map(|entry| entry["message"].clone());
    messages.filter(|message| message["role"] == "assistant").collect()
}

fn requests(model: &ModelServer) -> Vec<Entry> {
    model.book().into_iter().filter(|entry| entry.method == "POST").collect()
}

/// A call with a thought before it, then an answer to its result.
fn thoughtful() -> Script {
    let call = Reply {
        text: "I will look.".to_owned(),
        thinking: "hm, a list".to_owned(),
        cached_tokens: 1000,
        input_tokens: 2000,
        output_tokens: 300,
        ..Reply::call("ls", json!({"path": "."}))
    };
    Script {
        rules: vec![
            Rule { after_tool: Some(true), reply: Reply::text("there it is"), ..Rule::default() },
            Rule { contains: Some("look around".to_owned()), reply: call, ..Rule::default() },
        ],
        otherwise: Reply::text("all well"),
        ..Script::default()
    }
}

#[tokio::test]
async fn text_reasoning_tools_and_prices_go_there_and_back_in_every_kind() {
    let (gateway, model, mut client) = scene(thoughtful()).await;
    for kind in KINDS {
        let before = requests(&model).len();
        let end = turn(&mut client, kind, "main", json!({"message": "look around", "thinking": "low"})).await;
        assert_eq!(end["state"], "final", "{kind}: {end}");
        assert!(chat_text(&end).ends_with("there it is"), "{kind}: {end}");
        let end = turn(&mut client, kind, "main", json!({"message": "and now?", "thinking": "low"})).await;
        assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "all well"), "{kind}");
        let said = assistants(&gateway, kind, "main");
        assert_eq!(said.len(), 3, "{kind}: {said:?}");
        assert_eq!(
            (said[0]["api"].as_str(), said[0]["stopReason"].as_str()),
            (Some(kind), Some("toolUse")),
            "{kind}"
        );
        // 2000 at 10, 300 at 100 and 1000 from the cache at 1 dollar per million. Ollama has no such count.
        let cached = if kind == "ollama" { 0.0 } else { 0.001 };
        let total = said[0]["usage"]["cost"]["total"].as_f64().expect("a cost");
        assert!((total - (0.02 + 0.03 + cached)).abs() < 1e-9, "{kind}: {}", said[0]["usage"]);
        let sent = requests(&model).split_off(before);
        assert_eq!(sent.len(), 3, "{kind}");
        for later in &sent[1..] {
            thoughts_went_back(kind, &later.body);
        }
    }
}

/// What the vendor needs to go on with its thoughts, in a request after them.
fn thoughts_went_back(kind: &str, body: &Value) {
    let text = body.to_string();
    match kind {
        "openai-responses" => {
            let input = body["input"].as_array().expect("input");
            let at = |kind: &str| input.iter().position(|item| item["type"] == kind).expect(kind);
            let reasoning = &input[at("reasoning")];
            assert!(
                reasoning["encrypted_content"].as_str().is_some_and(|c| c.starts_with("gAAAA")),
                "{text}"
            );
            assert!(reasoning.get("status").is_none(), "refused in a request: {reasoning}");
            let (call, result) = (&input[at("function_call")], &input[at("function_call_output")]);
            assert!(at("reasoning") < at("function_call"), "{text}");
            assert_eq!(call["call_id"], result["call_id"], "{text}");
            assert!(call["id"].as_str().is_some_and(|id| id.starts_with("fc_")), "{text}");
            assert_eq!(
                (&body["store"], &body["include"]),
                (&json!(false), &json!(["reasoning.encrypted_content"]))
            );
        }
        "google-generative-ai" => {
            let parts: Vec<&Value> = body["contents"]
                .as_array()
                .expect("contents")
                .iter()
                .flat_map(|content| content["parts"].as_array().expect("parts"))
                .collect();
            let call = parts.iter().find(|part| part.get("functionCall").is_some()).expect("a call");
            assert_eq!(call["thoughtSignature"], "c2lnbmF0dXJl", "{text}");
            assert!(parts.iter().any(|part| part.get("functionResponse").is_some()), "{text}");
        }
        "anthropic-messages" => assert!(text.contains("\"signature\":\"c2lnbmF0dXJl\""), "{text}"),
        "openai-completions" => assert!(text.contains("\"reasoning_content\":\"hm, a list\""), "{text}"),
        _ => assert!(text.contains("\"tool_calls\""), "{text}"),
    }
}

/// A word for a fault, the fault, the classes that its error may have, and what the sentence says.
type Faulty = (&'static str, Fault, &'static [&'static str], &'static str);

fn faults() -> Vec<Faulty> {
    let limited = Fault::RateLimit { retry_after: Some("0.1".to_owned()) };
    vec![
        ("limited", limited, &["rate_limit"], "rate limit reached"),
        ("overloaded", Fault::Overloaded, &["rate_limit"], "overloaded"),
        ("truncated", Fault::Truncate { after: 3 }, &["timeout"], "broke off before its end"),
        ("disconnected", Fault::Disconnect { after: 3 }, &["timeout"], "broke off before its end"),
        ("malformed", Fault::Malformed { after: 3 }, &["format"], "not in the expected format"),
        ("refused", Fault::Auth, &["auth", "auth_permanent"], "API key"),
        ("failed", Fault::ErrorEvent { after: 2 }, &["timeout", "rate_limit"], ""),
        ("hung up", Fault::HangUp, &["timeout"], "connection"),
    ]
}

/// Each fault on every request whose message says `<word> always`, and on the first one that says `<word> once <kind>`.
fn faulty() -> Script {
    let broken = |fault: &Fault| Reply::text("a wrong beginning that breaks off").with_fault(fault.clone());
    let mut rules = Vec::new();
    for (word, fault, ..) in faults() {
        let reply = broken(&fault);
        rules.push(Rule { contains: Some(format!("{word} always")), reply, ..Rule::default() });
        for kind in KINDS {
            let contains = Some(format!("{word} once {kind}"));
            rules.push(Rule { contains, times: Some(1), reply: broken(&fault), ..Rule::default() });
        }
    }
    let stalled = broken(&Fault::Stall { after: 3 });
    for kind in KINDS {
        let (contains, reply) = (Some(format!("stalled once {kind}")), stalled.clone());
        rules.push(Rule { contains, times: Some(1), reply, ..Rule::default() });
    }
    Script { rules, otherwise: Reply::text("the whole answer"), ..Script::default() }
}

#[tokio::test]
async fn every_fault_of_every_kind_ends_in_the_answer_or_in_a_sentence() {
    let (gateway, _model, mut client) = scene(faulty()).await;
    for kind in KINDS {
        for (word, fault, classes, says) in faults() {
            let session = word.replace(' ', "-");
            if !matches!(fault, Fault::Auth) {
                let message = json!({"message": format!("{word} once {kind}")});
                let end = turn(&mut client, kind, &session, message).await;
                assert_eq!(
                    (end["state"].as_str(), chat_text(&end).as_str()),
                    (Some("final"), "the whole answer"),
                    "{kind} {word}: {end}"
                );
                let said = assistants(&gateway, kind, &session);
                assert_eq!(
                    (said.len(), &said[0]["stopReason"]),
                    (1, &json!("stop")),
                    "{kind} {word}: {said:?}"
                );
            }
            let end = turn(&mut client, kind, &session, json!({"message": format!("{word} always")})).await;
            let said = end["errorMessage"].as_str().unwrap_or_default();
            assert_eq!(end["state"], "error", "{kind} {word}: {end}");
            assert!(
                said.starts_with(&format!("{}/m: ", provider_id(kind))) && said.contains(says),
                "{kind} {word}: {said}"
            );
            assert!(!said.contains("sk-test"), "{said}");
            is_classified(&end, classes);
        }
        stalled(&mut client, kind).await;
    }
}

fn is_classified(end: &Value, classes: &[&str]) {
    let class = end["errorDetail"]["failoverReason"].as_str().unwrap_or_default();
    assert!(classes.contains(&class), "{class:?} is none of {classes:?}: {end}");
}

/// A server that says nothing more: the run's own time ends it.
async fn stalled(client: &mut WsClient, kind: &str) {
    let session = "stalled";
    let end =
        turn(client, kind, session, json!({"message": format!("stalled once {kind}"), "timeout": 1})).await;
    assert_eq!(
        (end["state"].as_str(), end["stopReason"].as_str()),
        (Some("aborted"), Some("timeout")),
        "{kind}: {end}"
    );
    let end = turn(client, kind, session, json!({"message": "and now?"})).await;
    assert_eq!(end["state"], "final", "{kind}: the session goes on: {end}");
}

#[tokio::test]
async fn pictures_reach_the_model_in_every_kind() {
    let (_gateway, model, mut client) =
        scene(Script { otherwise: Reply::text("a dot"), ..Script::default() }).await;
    let attachment =
        json!({"type": "image", "mimeType": "image/png", "fileName": "dot.png", "content": DOT_PNG});
    for kind in KINDS {
        let before = requests(&model).len();
        let params = json!({"message": "what is this?", "attachments": [attachment]});
        let end = turn(&mut client, kind, "picture", params).await;
        assert_eq!(chat_text(&end), "a dot", "{kind}: {end}");
        let sent = requests(&model).split_off(before);
        let body = sent[0].body.to_string();
        let place = match kind {
            "openai-completions" => "\"type\":\"image_url\"",
            "openai-responses" => "\"type\":\"input_image\"",
            "anthropic-messages" => "\"media_type\":\"image/png\"",
            "google-generative-ai" => "\"mimeType\":\"image/png\"",
            _ => "\"images\":[\"",
        };
        assert!(body.contains(place) && body.contains(&DOT_PNG[..40]), "{kind}: {body}");
    }
}

/// One white pixel.
const DOT_PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=";

#[tokio::test]
async fn a_vendors_server_that_others_wrote_is_understood_in_every_kind() {
    let Some(server) = npm_clients::serve("aimock.mjs", &KINDS).await else { return };
    let url = server.ready["url"].as_str().expect("a URL").to_owned();
    let gateway = builder(&url).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for kind in KINDS {
        let end = turn(&mut client, kind, "main", json!({"message": "plain"})).await;
        assert_eq!(
            (end["state"].as_str(), chat_text(&end).as_str()),
            (Some("final"), "Grüße, 世界 😀"),
            "{kind}: {end}"
        );
        let end = turn(&mut client, kind, "main", json!({"message": "look around"})).await;
        assert!(end["state"] == "final" && chat_text(&end).ends_with("there it is"), "{kind}: {end}");
        let said = assistants(&gateway, kind, "main");
        let stops: Vec<&str> = said.iter().filter_map(|message| message["stopReason"].as_str()).collect();
        assert_eq!(stops, ["stop", "toolUse", "stop"], "{kind}: {said:#?}");
        // It counts nothing for Ollama.
        let counted = if kind == "ollama" { 0 } else { 120 };
        assert_eq!(said[0]["usage"]["totalTokens"], counted, "{kind}: {said:#?}");
    }
}

#[tokio::test]
async fn the_faults_of_a_server_that_others_wrote_end_in_the_answer_or_in_a_sentence() {
    let Some(server) = npm_clients::serve("aimock.mjs", &KINDS).await else { return };
    let url = server.ready["url"].as_str().expect("a URL").to_owned();
    let gateway = builder(&url).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for kind in KINDS {
        for (word, classes) in [
            ("limited", &["rate_limit"][..]),
            ("dropped", &["timeout"]),
            // A line that is cut off and one that is no JSON look alike where each line is a message.
            ("malformed", &["format", "timeout"]),
            ("disconnected", &["timeout"]),
            ("truncated", &["timeout"]),
            ("broken", &["timeout"]),
        ] {
            let end = turn(&mut client, kind, word, json!({"message": format!("{word} once {kind}")})).await;
            assert_eq!(chat_text(&end), "the whole answer", "{kind}: {end}");
            let end = turn(&mut client, kind, word, json!({"message": format!("{word} always")})).await;
            let said = end["errorMessage"].as_str().unwrap_or_default();
            assert!(end["state"] == "error" && said.starts_with(&provider_id(kind)), "{kind} {word}: {end}");
            is_classified(&end, classes);
        }
        let end = turn(&mut client, kind, "refused", json!({"message": "refused always"})).await;
        assert!(end["errorMessage"].as_str().is_some_and(|said| said.contains("API key")), "{kind}: {end}");
        is_classified(&end, &["auth", "auth_permanent"]);
        stalled(&mut client, kind).await;
    }
}
