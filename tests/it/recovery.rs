//! Killed at any moment: nothing is lost, nothing is done twice, nothing is left running.

use harness::gateway::{TestGateway, children_of, is_alive};
use harness::model_server::{ModelServer, Reply, Script};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::process::Stdio;

fn kill9(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("our own process");
}

/// A gateway whose model streams slowly enough to be interrupted.
async fn slow_gateway() -> (TestGateway, ModelServer) {
    let reply = Reply {
        text: "one two three four five six seven eight nine ten".to_owned(),
        chunk_chars: 2,
        delay_ms: 20,
        ..Reply::default()
    };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    (gateway, model)
}

/// Configuration that makes a model double the only model.
pub fn model_config(model: &ModelServer) -> Value {
    json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": "sk-test", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 32000, "maxTokens": 1000}],
        }}},
        "agents": {"defaults": {"model": {"primary": "double/m1"}, "retry": {"minDelayMs": 10}}},
    })
}

async fn history(client: &mut WsClient) -> Vec<Value> {
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    history["messages"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_agent_killed_in_mid_stream_answers_once_and_completely() {
    let (gateway, _model) = slow_gateway().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    let worker = gateway.worker("openclaw-agent").await;
    kill9(worker);
    let end = client.chat_end("k").await;
    assert_eq!(end["state"], "final", "{end}");
    assert_eq!(chat_text(&end), "one two three four five six seven eight nine ten");
    let messages = history(&mut client).await;
    let answers = messages.iter().filter(|message| message["role"] == "assistant").count();
    assert_eq!(answers, 1, "{messages:#?}");
}

#[tokio::test]
async fn a_command_line_that_waits_gets_its_answer_over_a_kill_of_the_gateway() {
    let (mut gateway, model) = slow_gateway().await;
    let mut asking = gateway.command(&["agent", "--message", "count"]);
    let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    wait::until("the model is asked", async || (!model.book().is_empty()).then_some(())).await;
    gateway.kill9();
    gateway.restart().await;
    let told =
        tokio::task::spawn_blocking(|| asking.wait_with_output()).await.expect("joined").expect("ended");
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(said.trim(), "one two three four five six seven eight nine ten", "{told:?}");
    let mut client = WsClient::cli(gateway.port, 4).await;
    let asked = history(&mut client).await.iter().filter(|message| message["role"] == "user").count();
    assert_eq!(asked, 1, "the message is there once");
}

#[tokio::test]
async fn a_gateway_killed_in_mid_stream_answers_after_its_restart() {
    let (mut gateway, _model) = slow_gateway().await;
    {
        let mut client = WsClient::cli(gateway.port, 4).await;
        let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "k"});
        client.call("chat.send", params).await.expect("accepted");
        client.event_where("chat", |payload| payload["state"] == "delta").await;
    }
    let workers = children_of(gateway.pid());
    assert!(!workers.is_empty());
    gateway.kill9();
    wait::until("workers die with their supervisor", async || {
        workers.iter().all(|pid| !is_alive(*pid)).then_some(())
    })
    .await;
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let messages = wait::until("the answer", async || {
        let messages = history(&mut client).await;
        messages.iter().any(|message| message["role"] == "assistant").then_some(messages)
    })
    .await;
    assert_eq!(messages.len(), 2, "{messages:#?}");
    let waited =
        client.call("agent.wait", json!({"runId": "k", "timeoutMs": 20_000})).await.expect("known run");
    assert_eq!(waited["status"], "ok", "{waited}");
}

#[tokio::test]
async fn a_tool_whose_outcome_is_unknown_is_not_run_again() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let params = json!({"sessionKey": "main", "message": "run: echo x >> ledger.txt; sleep 60", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    let ledger = gateway.workspace().join("ledger.txt");
    wait::until("the tool ran", async || ledger.exists().then_some(())).await;
    let worker = gateway.worker("openclaw-agent").await;
    kill9(worker);
    client.chat_end("k").await;
    assert_eq!(std::fs::read_to_string(&ledger).expect("ledger"), "x\n", "once, not twice");
}

#[tokio::test]
async fn a_stop_is_announced_and_leaves_nothing_behind() {
    let mut gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "hello").await;
    let workers = children_of(gateway.pid());
    gateway.signal(Signal::SIGTERM);
    let shutdown = client.event("shutdown").await;
    assert_eq!(shutdown["payload"]["reason"], "gateway stopping");
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1012, "service restart"));
    assert!(gateway.wait_exit().success());
    for pid in workers {
        assert!(!is_alive(pid), "worker {pid} outlived its supervisor");
    }
}

/// There is one place now, and another run has it.
#[tokio::test]
async fn a_run_that_waits_to_go_on_after_a_restart_can_be_stopped() {
    let reply = Reply { text: "word ".repeat(200), chunk_chars: 5, delay_ms: 100, ..Reply::default() };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let mut gateway = TestGateway::builder().config(model_config(&model)).start().await;
    {
        let mut client = WsClient::cli(gateway.port, 4).await;
        for key in ["one", "two"] {
            let params = json!({"sessionKey": key, "message": "count", "idempotencyKey": key});
            client.call("chat.send", params).await.expect("accepted");
        }
        wait::until("both are asked", async || (model.book().len() >= 2).then_some(())).await;
    }
    let asked = model.book().len();
    gateway.kill9();
    let file = gateway.config_path();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("config")).expect("JSON");
    harness::gateway::merge(&mut config, &json!({"agents": {"defaults": {"maxConcurrent": 1}}}));
    std::fs::write(&file, config.to_string()).expect("written");
    gateway.restart().await;
    wait::until("one goes on", async || (model.book().len() > asked).then_some(())).await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for key in ["two", "one"] {
        let params = json!({"sessionKey": key, "runId": key});
        let stopped = client.call("chat.abort", params).await.expect("answered");
        assert_eq!(stopped["aborted"], true, "{key}: {stopped}");
        let ended = json!({"runId": key, "timeoutMs": 20_000});
        let ended = client.call("agent.wait", ended).await.expect("known");
        assert!(ended["endedAt"].is_number(), "{key}: {ended}");
    }
    assert_eq!(model.book().len(), asked + 1, "the one that waited never went on");
}
