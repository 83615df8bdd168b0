//! Stops and restarts in the middle of a turn, by request and by force.

use super::{asked, history, scene_with, send, slow, then, users, when};
use harness::gateway::TestGateway;
use harness::model_server::{Reply, State};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

async fn kill_agent(gateway: &TestGateway) {
    let worker = gateway.worker("openclaw-agent").await;
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).expect("our own process");
}

fn texts(messages: &[Value]) -> Vec<String> {
    messages
        .iter()
        .map(|message| {
            let text: String = message["content"]
                .as_array()
                .map(|blocks| blocks.iter().filter_map(|block| block["text"].as_str()).collect())
                .unwrap_or_else(|| message["content"].as_str().unwrap_or_default().to_owned());
            format!("{}: {text}", message["role"].as_str().unwrap_or("?"))
        })
        .collect()
}

#[tokio::test]
async fn a_requested_stop_pauses_a_run_and_what_waited_behind_it() {
    let config = json!({"messages": {"queue": {"mode": "followup", "debounceMs": 0}}});
    let rules = vec![when("long", slow("one two three four five six seven eight nine ten"))];
    let (mut gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    send(&mut client, "main", "second", "b").await;
    send(&mut client, "main", "third", "c").await;
    drop(client);
    assert!(gateway.terminate().success());
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let messages = wait::until("all three are answered", async || {
        let messages = history(&mut client, "main").await;
        (messages.len() == 6).then_some(messages)
    })
    .await;
    let texts = texts(&messages);
    assert_eq!(texts[1], "assistant: one two three four five six seven eight nine ten", "{texts:?}");
    for (at, word) in [(0, "long"), (2, "second"), (3, "second"), (4, "third"), (5, "third")] {
        assert!(texts[at].ends_with(word), "{at}: {texts:?}");
    }
    for key in ["a", "b", "c"] {
        let done =
            client.call("agent.wait", json!({"runId": key, "timeoutMs": 20_000})).await.expect("known");
        assert_eq!(done["status"], "ok", "{key}: {done}");
    }
    let left = asked(&model).iter().filter(|entry| entry.state == State::LeftByClient).count();
    assert_eq!((asked(&model).len(), left), (4, 1), "the broken answer is asked for again, nothing else");
}

#[tokio::test]
async fn an_agent_killed_between_two_calls_goes_on_behind_the_first() {
    let rules = vec![
        when("go", Reply::call("exec", json!({"command": "echo x >> ledger"}))),
        // The second answer is slow enough to be interrupted.
        super::Rule {
            after_tool: Some(true),
            reply: slow("the ledger is written, all is well"),
            ..super::Rule::default()
        },
    ];
    let (gateway, model, mut client) = scene_with(rules, Reply::default(), json!({})).await;
    send(&mut client, "main", "go", "k").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    kill_agent(&gateway).await;
    let end = client.chat_end("k").await;
    assert_eq!(chat_text(&end), "the ledger is written, all is well");
    assert_eq!(std::fs::read_to_string(gateway.workspace().join("ledger")).expect("ledger"), "x\n");
    assert_eq!(asked(&model).len(), 3, "the call, its broken and its whole answer");
    let messages = history(&mut client, "main").await;
    let answers = messages.iter().filter(|message| message["role"] == "assistant").count();
    assert_eq!(answers, 2, "the call and the answer: {messages:?}");
    let end = client.chat("main", "and then?").await;
    assert_eq!(end["state"], "final", "{end}");
    assert_eq!(users(&asked(&model)[3]).len(), 2);
}

#[tokio::test]
async fn a_message_that_steered_a_killed_run_is_not_lost() {
    let config = json!({"messages": {"queue": {"mode": "steer", "debounceMs": 0}}});
    let tool = json!({"command": "touch running; while [ ! -e on ]; do sleep 0.05; done"});
    let rules =
        vec![when("go", Reply::call("exec", tool)), then("first part"), when("left", Reply::text("turned"))];
    let (gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    send(&mut client, "main", "go", "a").await;
    wait::until("the tool runs", async || gateway.workspace().join("running").exists().then_some(())).await;
    send(&mut client, "main", "turn left", "b").await;
    kill_agent(&gateway).await;
    std::fs::write(gateway.workspace().join("on"), "").expect("a file");
    let end = client.chat_end("a").await;
    assert_eq!(end["state"], "final", "{end}");
    let done = client.call("agent.wait", json!({"runId": "b", "timeoutMs": 20_000})).await.expect("known");
    assert_eq!(done["status"], "ok", "{done}");
    let heard = asked(&model)
        .iter()
        .filter(|entry| users(entry).iter().any(|text| text.contains("turn left")))
        .count();
    assert!(heard >= 1, "the model hears of it");
    let messages = history(&mut client, "main").await;
    let said = texts(&messages).iter().filter(|text| text.contains("turn left")).count();
    assert_eq!(said, 1, "{messages:?}");
}

#[tokio::test]
async fn messages_of_one_turn_are_all_known_after_a_restart() {
    let config = json!({"messages": {"queue": {"mode": "collect", "debounceMs": 0}}});
    let slowly = slow("one two three four five six seven eight nine ten");
    let rules = vec![when("Queued", slowly), when("long", slow("one two three four"))];
    let (mut gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    send(&mut client, "main", "second", "b").await;
    send(&mut client, "main", "third", "c").await;
    model.wait_for("the merged turn", |book| book.len() == 2).await;
    gateway.kill9();
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for key in ["b", "c"] {
        let done =
            client.call("agent.wait", json!({"runId": key, "timeoutMs": 20_000})).await.expect("known");
        assert_eq!(done["status"], "ok", "{key}: {done}");
    }
    assert_eq!(asked(&model).len(), 3);
    assert_eq!(history(&mut client, "main").await.len(), 4);
}

#[tokio::test]
async fn a_run_that_belongs_to_another_session_cannot_be_aborted_from_here() {
    let rules = vec![when("long", slow(&"word ".repeat(200)))];
    let (_gateway, _model, mut client) = scene_with(rules, Reply::default(), json!({})).await;
    send(&mut client, "main", "long", "a").await;
    let refused = client
        .call("chat.abort", json!({"sessionKey": "agent:main:other", "runId": "a"}))
        .await
        .expect_err("not this session's");
    assert_eq!(refused["code"], "INVALID_REQUEST", "{refused}");
    let known = send(&mut client, "main", "long", "a").await;
    assert_eq!(known, json!({"runId": "a", "status": "in_flight"}));
    let done = client.call("chat.abort", json!({"sessionKey": "main", "runId": "a"})).await.expect("aborted");
    assert_eq!(done["aborted"], true);
    let none = client.call("chat.abort", json!({"sessionKey": "main"})).await.expect("nothing to do");
    assert_eq!(none, json!({"ok": true, "aborted": false, "runIds": []}));
}

#[tokio::test]
async fn a_message_that_was_dropped_stays_dropped_after_a_restart() {
    let rules = vec![when("long", slow(&"word ".repeat(400)))];
    let (mut gateway, model, mut client) = scene_with(rules, Reply::default(), json!({})).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    send(&mut client, "main", "second", "b").await;
    let stopped = client.call("chat.abort", json!({"sessionKey": "main"})).await.expect("aborted");
    assert_eq!(stopped["runIds"].as_array().map(Vec::len), Some(2), "{stopped}");
    assert!(gateway.terminate().success());
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for key in ["a", "b"] {
        let known = send(&mut client, "main", "second", key).await;
        assert_eq!(known["status"], "ok", "{key}: its run is over: {known}");
    }
    assert_eq!(asked(&model).len(), 1);
}
