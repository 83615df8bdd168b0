//! What an agent does with a message: models that fail, tools, commands, overrides, several clients and agents.

mod commands;
mod failover;
mod gateway_tool;
mod models;
mod prompt;
mod queue;
mod restarts;
mod settings;
mod tools;

use harness::gateway::{Builder, TestGateway};
use harness::model_server::{Entry, ModelServer, Reply, Rule, Script};
use harness::ws_client::WsClient;
use serde_json::{Value, json};

/// A gateway whose only provider is the double, with two models and quick repetitions.
fn builder(model: &ModelServer) -> Builder {
    TestGateway::builder().config(json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": "sk-test", "api": "openai-completions",
            "models": [
                {"id": "m1", "name": "m1", "reasoning": true, "input": ["text", "image"],
                 "contextWindow": 200000, "maxTokens": 1000},
                {"id": "m2", "name": "m2", "contextWindow": 64000, "maxTokens": 1000},
            ],
        }}},
        "agents": {"defaults": {
            "model": {"primary": "double/m1"}, "retry": {"minDelayMs": 10}, "skipBootstrap": true,
        }},
    }))
}

/// The double with this script, a gateway that asks it, and a client that sees tool events.
async fn scene(rules: Vec<Rule>, otherwise: Reply) -> (TestGateway, ModelServer, WsClient) {
    scene_with(rules, otherwise, json!({})).await
}

async fn scene_with(
    rules: Vec<Rule>,
    otherwise: Reply,
    config: Value,
) -> (TestGateway, ModelServer, WsClient) {
    let model = ModelServer::start(Script { rules, otherwise, ..Script::default() }).await;
    let gateway = builder(&model).config(config).start().await;
    let client = WsClient::with_tools(gateway.port).await;
    (gateway, model, client)
}

/// A reply for a message with this text that no tool has followed yet.
fn when(contains: &str, reply: Reply) -> Rule {
    Rule { contains: Some(contains.to_owned()), after_tool: Some(false), reply, ..Rule::default() }
}

/// A reply of one of the models.
fn for_model(model: &str, reply: Reply) -> Rule {
    Rule { model: Some(model.to_owned()), reply, ..Rule::default() }
}

/// A reply to the result of a tool.
fn then(text: &str) -> Rule {
    Rule { after_tool: Some(true), reply: Reply::text(text), ..Rule::default() }
}

/// A reply that takes long, in small pieces.
fn slow(text: &str) -> Reply {
    Reply { text: text.to_owned(), chunk_chars: 2, delay_ms: 40, ..Reply::default() }
}

/// Sends a message and does not wait for its end.
async fn send(client: &mut WsClient, session: &str, text: &str, key: &str) -> Value {
    let params = json!({"sessionKey": session, "message": text, "idempotencyKey": key});
    client.call("chat.send", params).await.expect("accepted")
}

/// `agent` with these params, to its second answer.
async fn agent(client: &mut WsClient, params: Value) -> Result<Value, Value> {
    let id = client.send("agent", params).await;
    let accepted = client.response(&id).await?;
    assert_eq!(accepted["status"], "accepted", "{accepted}");
    client.response(&id).await
}

async fn history(client: &mut WsClient, session: &str) -> Vec<Value> {
    let history = client.call("chat.history", json!({"sessionKey": session})).await.expect("history");
    history["messages"].as_array().cloned().unwrap_or_default()
}

/// Requests for completions.
fn asked(model: &ModelServer) -> Vec<Entry> {
    model.book().into_iter().filter(|entry| entry.path.ends_with("/chat/completions")).collect()
}

/// The system prompt of a request.
fn system(entry: &Entry) -> String {
    let messages = entry.body["messages"].as_array().expect("messages");
    let system = messages.iter().find(|m| matches!(m["role"].as_str(), Some("system" | "developer")));
    let content = &system.expect("a system prompt")["content"];
    match content.as_array() {
        Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        None => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// The texts of the user's messages in a request.
fn users(entry: &Entry) -> Vec<String> {
    let messages = entry.body["messages"].as_array().expect("messages");
    let users = messages.iter().filter(|message| message["role"] == "user");
    users
        .map(|message| match message["content"].as_array() {
            Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            None => message["content"].as_str().unwrap_or_default().to_owned(),
        })
        .collect()
}

/// The last result of a tool that the model was told.
fn told(request: &Entry) -> String {
    let messages = request.body["messages"].as_array().expect("messages");
    let result = messages.iter().rev().find(|message| message["role"] == "tool").expect("a result");
    match result["content"].as_array() {
        Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        None => result["content"].as_str().unwrap_or_default().to_owned(),
    }
}
