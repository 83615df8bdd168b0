//! What an operator is told of a message: one timeline over all processes, deaths and repetitions.

use super::recovery::model_config;
use harness::gateway::{TestGateway, merge};
use harness::model_server::{Call, ModelServer, Reply, Rule, Script};
use harness::telegram_server::{Fault, TelegramServer};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

const ANN: i64 = 7001;
const PATIENCE: Duration = Duration::from_secs(120);

fn trace(gateway: &TestGateway, id: &str) -> Value {
    let output = gateway.cli(&["trace", id, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

fn words(trace: &Value) -> Vec<&str> {
    trace["steps"].as_array().expect("steps").iter().filter_map(|step| step["what"].as_str()).collect()
}

/// The words stand in this order, others between them.
fn assert_in_order(trace: &Value, wanted: &[&str]) {
    let said = words(trace);
    let mut rest = said.iter();
    let missing = wanted.iter().find(|word| !rest.any(|said| said == *word));
    assert_eq!(missing, None, "{said:?}");
}

async fn ended(gateway: &TestGateway, id: &str) -> Value {
    wait::until("nothing more is to come", async || {
        let trace = trace(gateway, id);
        (trace["open"] == false).then_some(trace)
    })
    .await
}

fn slow(text: &str) -> Reply {
    Reply { text: text.to_owned(), chunk_chars: 2, delay_ms: 20, ..Reply::default() }
}

/// From the network and back: a tool, a network that asks to wait, and all ids that lead there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_followed_from_the_network_to_its_reply() {
    let call = Call { name: "ls".to_owned(), arguments: json!({"path": "."}), id: None };
    let look = Reply { tool_calls: vec![call], input_tokens: 90, output_tokens: 8, ..Reply::default() };
    let rules = vec![
        Rule { after_tool: Some(true), reply: slow("there it is"), ..Rule::default() },
        Rule { after_tool: Some(false), reply: look, ..Rule::default() },
    ];
    let model = ModelServer::start(Script { rules, ..Script::default() }).await;
    let server = TelegramServer::start().await;
    let mut config = model_config(&model);
    let telegram = json!({
        "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"], "streaming": "off",
    });
    merge(&mut config, &json!({"channels": {"telegram": telegram}}));
    let gateway = TestGateway::builder().config(config).start().await;
    server.fault("sendMessage", 1, Fault::RateLimit(1));
    server.push_text(ANN, ANN, "what is here? my-own-words");
    server.wait_for("the reply", PATIENCE, |server| !server.visible_texts(ANN).is_empty()).await;
    let found = ended(&gateway, "last").await;
    assert_in_order(
        &found,
        &[
            "received", "claimed", "started", "begun", "model", "answer", "tool", "result", "model", "first",
            "answer",
        ],
    );
    assert_in_order(&found, &["queued", "ended", "leased", "wire", "putOff", "leased", "wire", "delivered"]);
    assert_eq!((&found["run"]["attempts"], &found["model"]["calls"]), (&json!(1), &json!(2)), "{found}");
    assert_eq!(found["deliveries"][0]["state"], "delivered");
    let text = found.to_string();
    assert!(!text.contains("my-own-words") && !text.contains("there it is"), "no texts of messages: {text}");
    // Every id that a person may have at hand leads to the same run.
    let run = found["run"]["id"].as_str().expect("an id");
    let message =
        found["messages"][0]["messageId"].as_str().and_then(|id| id.rsplit('|').next()).expect("an id");
    let reply = found["deliveries"][0]["messageIds"][0].as_str().expect("an id");
    let delivery = found["deliveries"][0]["id"].as_str().expect("an id");
    for id in [run, message, reply, delivery] {
        assert_eq!(trace(&gateway, id)["run"]["id"], run, "{id}");
    }
    let shown = gateway.cli(&["trace"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in
        ["ls done after", "put off", "delivered as", "done after", "2 model calls", "telegram:default"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let unknown = gateway.cli(&["trace", "no-such-id"]);
    assert!(!unknown.status.success());
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("nothing is known of no-such-id"),
        "{unknown:?}"
    );
}

/// Over the death of the worker and of the gateway; followed by a command line that prints steps as they come.
#[tokio::test]
async fn deaths_and_attempts_are_told_and_can_be_followed() {
    let reply = slow("one two three four five six seven eight nine ten");
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let mut gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let none = gateway.cli(&["trace"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("there was no run yet"), "{none:?}");
    let asked = |count: usize| {
        let model = &model;
        wait::until("the model is asked", async move || (model.book().len() >= count).then_some(()))
    };
    {
        let mut client = WsClient::cli(gateway.port, 4).await;
        let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "mine"});
        client.call("chat.send", params).await.expect("accepted");
        asked(1).await;
    }
    let worker = gateway.worker("openclaw-agent").await;
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).expect("our own process");
    asked(2).await;
    gateway.kill9();
    gateway.restart().await;
    let mut following = gateway.command(&["trace", "mine", "--follow", "--json"]);
    let following = following.stdout(Stdio::piped()).spawn().expect("started");
    let told =
        tokio::task::spawn_blocking(|| following.wait_with_output()).await.expect("joined").expect("ended");
    let lines = String::from_utf8_lossy(&told.stdout).into_owned();
    let steps: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a step")).collect();
    let followed = json!({"steps": steps});
    assert_in_order(
        &followed,
        &["started", "interrupted", "started", "interrupted", "started", "answer", "ended"],
    );
    let found = ended(&gateway, "mine").await;
    assert_eq!(
        (&found["run"]["attempts"], &found["run"]["interruptions"]),
        (&json!(3), &json!(2)),
        "{found}"
    );
    assert_eq!(words(&followed), words(&found), "following shows all of it, once");
}
